"""Experiment trackers: training curves also go to Weights & Biases or MLflow, through Lightning's loggers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import UserError, one_line, one_of, with_extra
from bench.common.streams import say

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from bench.run.plan import Prepared

TRACKERS = ("mlflow", "wandb")
PROJECT = "fewshot-bench"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        UserError: naming the extra.
    """
    for name in names:
        if name not in TRACKERS:
            raise UserError("--logger", name, one_of(name, TRACKERS))
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # None: a folder ./wandb of logs looks like a package
            raise UserError("--logger", name, f"is not installed; {with_extra(name)}")


@contextmanager
def tracked(names: Sequence[str], prepared: Prepared, run_dir: Path) -> Iterator[list[Logger]]:
    """The loggers of one training, with its settings; they are closed afterwards.

    Weights & Biases keeps its files in `run_dir`, MLflow beside it in ``mlflow.db``, unless
    MLFLOW_TRACKING_URI names another place. Both read their environment variables (WANDB_MODE, ...).

    Raises:
        UserError: a tracker cannot start, e.g. because it does not know the user.
    """
    from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

    settings = prepared.config.model_dump(exclude={"overrides"}, exclude_none=True)
    loggers: list[Logger] = []
    failed = True
    try:
        for name in names:
            try:
                if name == "wandb":
                    run_dir.mkdir(parents=True, exist_ok=True)
                    project = os.environ.get("WANDB_PROJECT", PROJECT)
                    made: Logger = WandbLogger(prepared.run_id, run_dir, project=project)
                else:
                    local = f"sqlite:///{run_dir.parent.resolve() / 'mlflow.db'}"
                    where = os.environ.get("MLFLOW_TRACKING_URI") or local
                    made = MLFlowLogger(PROJECT, prepared.run_id, where)
                made.log_hyperparams(settings)
            except Exception as error:  # those of the tracker's client, its HTTP library, ...
                for one in loggers:
                    one.finalize("failed")
                raise UserError("--logger", name, f"cannot start: {error}") from error
            _tolerate(made, name)
            loggers.append(made)
        yield loggers
        failed = False
    finally:
        if "wandb" in names:
            import wandb

            wandb.finish(exit_code=int(failed))  # otherwise the next training continues this one


def _tolerate(logger: Logger, name: str) -> None:
    """A tracker that fails later, such as a server that goes away, costs one warning, not the training."""
    failed: list[Exception] = []
    for method in ("log_metrics", "finalize"):

        def call(*arguments: Any, own: Callable[..., Any] = getattr(logger, method), **named: Any) -> None:
            if failed:
                return
            try:
                own(*arguments, **named)
            except Exception as error:
                failed.append(error)
                say(one_line(f"warning: --logger {name}: stopped logging: {error}"))

        setattr(logger, method, call)
