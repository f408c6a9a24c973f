"""`bench.run`: train and evaluate from Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import UserError
from bench.config.run_config import KEYS, resolve
from bench.records import store
from bench.records.commands import command_of
from bench.records.parts import Metric
from bench.records.schema import Record
from bench.reporting.ranking.rows import by_size
from bench.reporting.show import headline
from bench.run.plan import Options
from bench.run.runner import run_all

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Result:
    """A recorded run.

    Attributes:
        record: everything about the run.
        path: of the record.
        runs: folder of runs, which holds its model.
    """

    record: Record
    path: Path
    runs: Path

    @property
    def run_id(self) -> str:
        """Its name."""
        return self.record.run_id

    @property
    def metrics(self) -> dict[str, Metric]:
        """Key, such as ``fewshot/5w1s``, -> `value` and ends of the 95% interval, `low` and `high`."""
        return self.record.metrics

    def table(self) -> DataFrame:
        """The metrics as a DataFrame: one row each, with columns ``value``, ``low``, ``high``, ``n``."""
        from pandas import DataFrame

        keys = sorted(self.metrics, key=by_size)
        rows = [self.metrics[key].model_dump(include={"value", "low", "high", "n"}) for key in keys]
        return DataFrame(rows, index=keys, columns=["value", "low", "high", "n"])

    def __repr__(self) -> str:
        return headline(self.record, self.path.parent)


def run(
    method: str,
    split: str | None = None,
    *,
    results: str | Path = "results/own",
    runs: str | Path = "runs",
    data_root: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    offline: bool = False,
    hyperparameters: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Result:
    """Train and evaluate a method, and write its record; a recorded run is not made again.

    Args:
        method, split: as ``--method`` and ``--split``, with the same default.
        results, runs, data_root, device, overwrite, offline: as the flags of ``python -m bench run``.
        hyperparameters: name -> value. They may also be given as keywords, like the settings.
        settings: as the other flags, such as ``preset="quick"``, ``dataset="glyphs"``, ``seed=1``,
            ``train=False``, ``pretrained=True``, ``measure=["5w1s"]``; every other name is a hyperparameter.

    Raises:
        UserError: a value is wrong, data is missing, or training diverged.

    Example:
        >>> import bench
        >>> result = bench.run("protonet", "cifar-fs", preset="quick", seed=1)
        >>> result.metrics["fewshot/5w1s"].value
        >>> result.table()
        >>> predictor = bench.load(result)
    """
    given = {"method": method, "split": split} | {key: settings[key] for key in settings if key in KEYS}
    own = dict(hyperparameters or {}) | {key: settings[key] for key in settings if key not in KEYS}
    named = {key: key for key in given} | {"hyperparameters": "hyperparameters"}
    config = resolve(given | ({"hyperparameters": own} if own else {}), named, {})
    options = Options(
        results=Path(results),
        runs=Path(runs),
        command=shlex.join(command_of(config.model_dump())),
        data_root=Path(data_root) if data_root else None,
        device=device,
        overwrite=overwrite,
        offline=offline,
    )
    path, record = next(iter(run_all([config], options)))
    if record.failure is not None:
        raise UserError("method", method, f"{record.failure} (recorded in {path})")
    return Result(store.read(path), path, options.runs)
