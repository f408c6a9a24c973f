"""Records as a pandas DataFrame: `bench.results`, and tables of runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config.run_config import BRIEF
from bench.records import identity
from bench.records.store import Record, read_all
from bench.records.tracks import images_seen, processor_seconds, training_seconds, uncommitted
from bench.reporting.blocks import (
    NOTHING,
    Block,
    Cell,
    Code,
    Grid,
    Heading,
    Listing,
    Number,
    Prose,
    percent,
    table,
)
from bench.reporting.ranking.rows import by_size
from bench.reporting.ranking.tables import tracks_of

if TYPE_CHECKING:
    from pandas import DataFrame

FAILED = Prose("They have no numbers and no rank. A row with other seeds uses only these.")

FACTS: dict[str, Callable[[Record], Any]] = {
    "run_id": lambda r: r.run_id,
    "name": identity.name_of,
    "method": lambda r: r.method,
    "preset": lambda r: r.preset,
    "track": lambda r: None,
    "dataset": lambda r: r.dataset,
    "split": lambda r: r.split,
    "protocol": lambda r: r.protocol_version,
    "seed": lambda r: r.seed,
    "backbone": lambda r: r.backbone,
    "parameters": lambda r: r.parameters,
    "start": lambda r: identity.start(r) or None,
    "images": images_seen,
    "steps": lambda r: r.timings.steps,
    "kept_step": lambda r: r.kept_step,
    "training_seconds": training_seconds,
    "processor_seconds": processor_seconds,
    "threads": lambda r: r.environment.threads,
    "device": lambda r: r.environment.device,
    "created": lambda r: r.created,
    "marks": lambda r: ", ".join(marks(r)),
    "failure": lambda r: r.failure,
    "command": lambda r: r.command,
}
"""Column -> its value from a record."""


def results(folder: str | Path = "results") -> DataFrame:
    """The records of a folder, one row each, in the order of run ids.

    Args:
        folder: of records, as ``--results``.

    Returns:
        Columns: ``run_id``, ``name`` (of its row in the leaderboard), ``method``, ``preset``, ``track`` (of
        its ranking; missing for variations, smoke runs and failed runs), ``dataset``, ``split``,
        ``protocol``, ``seed``, ``backbone``, ``parameters``, ``start``, ``images`` (that training saw,
        pretraining included), ``steps``, ``kept_step``, ``training_seconds`` (as in the figures),
        ``processor_seconds``, ``threads``, ``device``, ``created``, ``marks``, ``failure``, ``command``.
        For each metric its key, such as ``fewshot/5w1s``, and the ends of its 95% interval,
        ``fewshot/5w1s.low`` and ``fewshot/5w1s.high``: fractions, NaN if not measured.

    Warns:
        UserWarning: for each file that is not a valid record.

    Raises:
        UserError: there is no such folder.

    Example:
        >>> import bench
        >>> runs = bench.results("results")
        >>> runs.groupby(["split", "track", "name"])["fewshot/5w1s"].mean()
    """
    records, problems = read_all(Path(folder))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return frame(records)


def frame(records: Sequence[Record]) -> DataFrame:
    """The DataFrame of records, in their order."""
    from pandas import DataFrame

    tracks = tracks_of(records)
    keys = sorted({key for record in records for key in record.metrics}, key=by_size)
    rows = []
    for record in records:
        row = {name: fact(record) for name, fact in FACTS.items()}
        if track := tracks.get(record.run_id):
            row["track"] = f"{track.preset}, {track.backbone}, {track.images:,} images"
        for key, metric in record.metrics.items():
            row |= {key: metric.value, f"{key}.low": metric.low, f"{key}.high": metric.high}
        rows.append(row)
    numbers = [f"{key}{end}" for key in keys for end in ("", ".low", ".high")]
    return DataFrame(rows, columns=[*FACTS, *numbers])


def marks(record: Record) -> Iterable[str]:
    """Marks of a run: reasons why it is not comparable with all others."""
    return [*identity.marks(record), *["uncommitted code"] * uncommitted([record])]


def runs(frame: DataFrame) -> DataFrame:
    """One line per run.

    Args:
        frame: of records, from `bench.reporting.frame`.
    """
    return table(
        {
            "run": (row["run_id"],),
            "method": (row["name"],),
            "data set": (row["dataset"],),
            "split": (row["split"],),
            "seed": Number(str(row["seed"]), row["seed"]),
            "5w1s": ("failed",) if row["failure"] else _accuracy(row, "fewshot/5w1s"),
            "5w5s": _accuracy(row, "fewshot/5w5s"),
            "created": (f"{row['created']:%Y-%m-%d %H:%M}",),
            "device": (row["device"],),
            "command": (Listing(row["command"]),),
        }
        for row in frame.to_dict("records")
    )


def failures(frame: DataFrame) -> list[Block]:
    """A table of the failed runs; empty if there are none."""
    failed = frame[frame["failure"].notna() & (frame["preset"] != BRIEF)]
    if failed.empty:
        return []
    shown = table(
        {
            "method": (Code(row["name"]),),
            "backbone": (Code(row["backbone"]),),
            "data set, split": (Code(row["dataset"]), " ", Code(row["split"])),
            "seed": Number(str(row["seed"]), row["seed"]),
            "what happened": (row["failure"],),
            "date": (f"{row['created']:%Y-%m-%d}",),
        }
        for row in failed.sort_values("run_id").to_dict("records")
    )
    return [Heading(2, ("Failed runs",)), FAILED, Grid(shown, leading=1)]


def _accuracy(row: Mapping[Any, Any], key: str) -> Cell:
    value = row.get(key)
    if value is None or value != value:  # NaN: not measured
        return NOTHING
    return percent(value, row[f"{key}.low"], row[f"{key}.high"])
