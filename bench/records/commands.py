"""The command that makes a run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config.run_config import OWN_SETTING, RunConfig
from bench.data.names import ARROW
from bench.records.identity import value_as_set
from bench.records.schema import Record

RUNS = Path("runs")  # default of --runs
RANK = "python -m bench rank "
SWEEP = "python -m bench sweep "
CHANGED = ("backbone", "augment", "train_on", "measure")  # overrides that are no hyperparameters
FIELDS = ("image_size", "weights", *OWN_SETTING)
DEFAULTS = {key: RunConfig.model_fields[key].default for key in ("dataset", "preset", "seed", "precision")}


def command_of(config: Mapping[str, Any]) -> list[str]:
    """The words of the command that makes a run of this configuration, and no other.

    Args:
        config: a `RunConfig` as a dictionary, as a record has it.
    """
    dataset, _, novel = config.get("dataset", DEFAULTS["dataset"]).partition(ARROW)
    changed = config.get("overrides") or {}
    values = {key: config[key] for key in ("method", "split")}
    values |= {"dataset": dataset, "novel_dataset": novel or None}
    values |= {key: config.get(key) for key in ("preset", "seed", *FIELDS, "precision")}
    values |= {key: changed.get(key) for key in CHANGED}
    words = ["python", "-m", "bench", "run"]
    for key, value in values.items():
        if value is not None and value != DEFAULTS.get(key):
            words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--pretrained"] if config.get("pretrained") else []
    words += [] if config.get("train", True) else ["--no-train"]
    for key, value in changed.items():
        if key in config.get("hyperparameters", {}):
            words += ["--set", f"{key}={value_as_set(value)}"]
    return words


def made_by(record: Record) -> str:
    """The command that made a run; older records of a sweep have that command, which makes others too."""
    if not record.command.startswith(SWEEP):
        return record.command
    return shlex.join(command_of({"method": record.method, "split": record.split, **record.config}))


def repeat_command(record: Record, runs: Path = RUNS) -> str:
    """The command that makes the model of a recorded run again."""
    folder = [] if runs == RUNS else ["--runs", str(runs)]
    words = command_of({"method": record.method, "split": record.split, **record.config})
    if record.config.get("weights") and record.command.startswith(RANK):  # of the embedding that it brings
        words = shlex.split(record.command)
        folder = [] if "--runs" in words else folder
    return shlex.join([*words, *folder, "--overwrite"])
