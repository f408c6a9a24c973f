"""Which records share a configuration, and which records the name of a run or method means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.common.errors import UserError, one_of
from bench.config.run_config import METHOD_FILE, OWN_SETTING, RunConfig, method_info
from bench.data.names import BASE_AND_VALIDATION
from bench.records.store import Record, find_run, matching, read, read_all
from methods.method_info import MethodInfo

WEIGHTS = ("weights", "pretrained")  # settings that a record's SHA-256 of the weights stands for
ALWAYS_NAMED = ("mining", "test_steps")
"""Hyperparameters that a row's name always shows, because papers do not specify them."""

START = "init"
STARTS = {"scratch": "from scratch", "pretrained": "pretrained"}
"""Value of the hyperparameter `START` -> words in a row's name."""


def configuration(record: Record, known_split: bool = True) -> str:
    """Key that is equal for records that differ only in the seed (and in additional few-shot settings).

    Args:
        record: a record.
        known_split: whether the content of the split counts, which older records do not have.
    """
    # Images, their split and starting weights are identified by content, and overrides follow from the rest.
    by_content = {"dataset", "image_size", "split", *WEIGHTS}
    left_out = {"seed", "overrides", "hyperparameters", *by_content, *OWN_SETTING}
    return json.dumps(
        [
            record.protocol_version,
            record.dataset.partition(":")[0],
            *(images(record) if known_split else images(record)[:2]),
            record.method,
            record.preset,
            # Older records lack newer hyperparameters that are none unless they are set.
            {key: v for key, v in record.hyperparameters.items() if key != "seed" and v is not None},
            record.backbone,
            record.parameters,
            record.weights,
            record.trained,
            record.transductive,
            record.external_data,
            record.labelled_novel_images,
            # Older records lack newer settings.
            {key: value for key, value in record.config.items() if key not in left_out and value is not None},
        ],
        sort_keys=True,
    )


def run(record: Record) -> str:
    """Key that is equal for records of the same run, which are duplicates."""
    own = [record.config.get(key) for key in OWN_SETTING]
    code = record.sources.model_dump() if record.sources else None
    return json.dumps([configuration(record), record.seed, own, code])


def across_splits(record: Record) -> str:
    """Key that is equal for records of one method, apart from seed, data, and what a split requires."""
    same = [record.method, record.preset, record.backbone, overrides(record), record.weights, record.trained]
    return json.dumps(same, sort_keys=True)


def with_defaults(config: RunConfig, info: MethodInfo) -> RunConfig:
    """An older record's configuration with later hyperparameters, whose defaults change nothing."""
    defaults = {name: parameter.default for name, parameter in info.parameters.items()}
    return config.model_copy(update={"hyperparameters": defaults | config.hyperparameters})


def content_key(config: RunConfig, fingerprint: str, split: str | None, weights: str | None) -> str:
    """Key that is equal for a record and a prepared run of the same settings and images, whatever their code.

    Empty for the method of a file, which may be another one by now; raises UserError for unknown methods.
    """
    if METHOD_FILE.fullmatch(config.method):
        return ""
    left_out = {*WEIGHTS, "overrides"}  # which follow from the rest
    settings = with_defaults(config, method_info(config.method)).model_dump(exclude=left_out)
    return json.dumps([settings, fingerprint, split, weights], sort_keys=True)


def overrides(record: Record) -> dict[str, Any]:
    """What was changed from the preset, except the seed; by key."""
    changed = record.config.get("overrides")
    if not isinstance(changed, dict):
        return {}
    return {key: value for key, value in sorted(changed.items()) if key != "seed"}


def changes(record: Record) -> dict[str, Any]:
    """`overrides` without the start of training: both starts of a method count as methods."""
    return {key: value for key, value in overrides(record).items() if key != START or not start(record)}


def start(record: Record) -> str:
    """Where training started, if the method has the choice; otherwise empty."""
    value = record.hyperparameters.get(START)
    return STARTS.get(value, "") if isinstance(value, str) else ""


def name_of(record: Record) -> str:
    """Name of a record's row: ``maml (quick, pretrained, steps=300)``.

    It has the method, the preset, the start of training if the method has the choice, hyperparameters in
    `ALWAYS_NAMED`, and what was changed from the preset, except the seed.
    """
    named = {key: value for key, value in record.hyperparameters.items() if key in ALWAYS_NAMED}
    starts = [start(record)] if start(record) else []
    digest = other_weights(record)
    weights = [f"weights={digest[:8]}"] if digest else []
    training = [] if record.trained or record.pretraining else ["no training"]
    words = [record.preset, *starts, *as_set(named | changes(record)), *weights, *training]
    return f"{record.method} ({', '.join(words)})"


def other_weights(record: Record) -> str | None:
    """SHA-256 of starting weights that the preset does not bring."""
    of_preset = record.hyperparameters.get("pretrained") and "pretrained" not in overrides(record)
    return None if of_preset and record.config.get("pretrained") else record.weights


def untrained(record: Record) -> bool:
    """Whether its embedding is random: neither the run nor a pretraining trained it."""
    return not (record.trained or record.pretraining or record.weights or record.external_data)


def marks(record: Record) -> list[str]:
    """Why a record is not comparable with all others of its table."""
    words = {
        "external data": record.external_data,
        "transductive": record.transductive,
        f"{record.labelled_novel_images:,} labelled images of each novel class": record.labelled_novel_images,
        "untrained": untrained(record),
        "trained on validation classes": train_on(record) == BASE_AND_VALIDATION,
    }
    return [word for word, on in words.items() if on]


def train_on(record: Record) -> Any:
    """Which classes it was trained on, as ``--train-on``; None for base classes."""
    return record.config.get("train_on")


def images(record: Record) -> tuple[str, str, str | None]:
    """Key that is equal for records with the same images in each part."""
    return record.fingerprint, record.split, split_digest(record)


def split_digest(record: Record) -> str | None:
    """SHA-256 of the split's classes and images; None in older records."""
    return record.sources.split if record.sources else None


def as_set(values: Mapping[str, Any]) -> list[str]:
    """``key=value`` of each, in the form of ``--set``."""
    return [f"{key}={value_as_set(value)}" for key, value in values.items()]


def value_as_set(value: Any) -> str:
    """The value in the form of ``--set``."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def seeds(records: Iterable[Record]) -> list[Record]:
    """One record per seed, in the order of seeds; the later one of two with the same seed."""
    newest = {record.seed: record for record in sorted(records, key=lambda r: (r.created, r.run_id))}
    return [newest[seed] for seed in sorted(newest)]


@dataclass(frozen=True)
class Table:
    """Where to find the records of a method; None means any.

    Attributes:
        results: folder of records.
        dataset, split, preset: of the records.
        problems: filled in by `records`: one line per file that is not a valid record.
    """

    results: Path
    dataset: str | None = None
    split: str | None = None
    preset: str | None = None
    problems: list[str] = field(default_factory=list)

    @cached_property
    def records(self) -> list[Record]:
        """Its records; fills in `problems`."""
        found, self.problems[:] = read_all(self.results)
        wanted = {"dataset": self.dataset, "split": self.split, "preset": self.preset}
        return [
            record
            for record in found
            if all(value in (None, getattr(record, key)) for key, value in wanted.items())
        ]


def named(name: str, table: Table) -> list[tuple[Record, Path]]:
    """The records of one configuration that a name means, one per seed, each with its folder.

    Args:
        name: a run id or the start of one, the path of a record, a comma list of these that differ only in
            the seed, the name of a row (`name_of`), or a method with one configuration in the table.
        table: the records to search.

    Raises:
        UserError: the run or method does not exist, or has several configurations.
    """
    parts = name.split(",")
    paths = [_file_of(part, table) for part in parts]
    found = [(read(path), path.parent) for path in paths if path]
    if not found:
        return [(record, table.results) for record in _of_method(name, table)]
    if len(found) < len(parts):
        missing = parts[paths.index(None)]
        near = one_of(missing, (record.run_id for record in table.records))
        raise UserError("compare", name, f"'{missing}' is not a recorded run; {near}")
    if len({configuration(record) for record, _ in found}) > 1:
        raise UserError("compare", name, "must be runs that differ only in the seed")
    if len({record.seed for record, _ in found}) < len(found):
        raise UserError("compare", name, "must be runs with different seeds")
    return found


def _file_of(part: str, table: Table) -> Path | None:
    if part.endswith(".json"):
        return Path(part)
    begun = matching(table.results, part)
    if [path.stem for path in begun] == [part]:
        return begun[0]
    # A method's name also begins the ids of its runs.
    a_name = any(part in (record.method, name_of(record)) for record in table.records)
    return find_run(table.results, part, "compare") if begun and not a_name else None


def _of_method(name: str, table: Table) -> list[Record]:
    ours = [r for r in table.records if name in (r.method, name_of(r)) and r.failure is None]
    if not ours:
        methods = sorted({record.method for record in table.records})
        known = [*methods, *(record.run_id for record in table.records)]
        raise UserError("compare", name, f"no such run or method; {one_of(name, known)}")
    if len({configuration(record) for record in ours}) == 1:
        return seeds(ours)
    choices = []
    for key in ("dataset", "split", "preset"):
        values = sorted({getattr(record, key) for record in ours})
        if len(values) > 1:
            choices.append(f"--{key} {' or '.join(values)}")
    names = sorted({name_of(record) for record in ours})
    if len(names) > 1 and not any(choice.startswith("--preset") for choice in choices):
        choices.append(f"the name of a row, such as '{names[0]}'")
    choices.append("run ids instead: " + ", ".join(record.run_id for record in ours))
    raise UserError("compare", name, f"has several configurations; choose with {', '.join(choices)}")
