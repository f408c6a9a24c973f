"""Which runs of the study files beside the results folder are recorded, and which are open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.errors import UserError
from bench.config.backbone import full_backbone
from bench.config.grid import requested
from bench.config.lists import NONE, augmentations, measurements
from bench.config.pretrained import PRETRAINED
from bench.config.run_config import EPISODES, QUERY, RunConfig
from bench.data.names import ARROW, BASE, canonical
from bench.records.commands import DEFAULTS
from bench.records.identity import START, STARTS, WEIGHTS, as_set, images, overrides, split_digest
from bench.records.store import Record, whole
from bench.reporting.blocks import Block, Code, Heading, Paragraph, Prose

STUDIES = "studies"

ABOUT = """\
`python -m bench sweep studies/NAME.yaml --results results` runs the open configurations of a file; with
`--dry-run` it says what they cost. A run is recorded if a record has its settings and images, whatever
version of the code made it, and also if its training diverged. The oldest records do not count, because they
lack the digest of their split's classes and images. This does not notice if a preset has changed since."""

Run = Mapping[str, Any]
"""Values of `RunConfig` fields, as a study file has them; without None."""


def section(records: Sequence[Record], results: Path) -> list[Block]:
    """A line per study file; nothing if there is none. Files that are not grids are left out.

    Args:
        records: of the results folder.
        results: the folder; the studies are in the folder `STUDIES` beside it.
    """
    recorded = _by_settings(records)
    lines: list[Block] = []
    for path in sorted((whole(results).absolute().parent / STUDIES).glob("*.yaml")):
        try:
            runs = _runs(path)
            wanted = [_as_recorded(run) for run in runs]
        except UserError:  # `sweep` explains it
            continue
        there = [any(_has(record, run) for record in recorded.get(_key(run), ())) for run in wanted]
        left = [run for run, found in zip(runs, there, strict=True) if not found]
        about = f": {sum(there)} of {len(runs)} recorded"
        about += f"; open: {_named(left, runs)}." if left and any(there) else "."
        lines.append(Paragraph((Code(path.stem), about)))
    return [Heading(2, ("Studies",)), Prose(ABOUT), *lines] if lines else []


def _runs(path: Path) -> list[Run]:
    found = [{key: own for key, own in one.given.items() if own is not None} for one in requested(path)]
    return list({json.dumps(run, sort_keys=True): run for run in found}.values())


def _by_settings(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by `_key`; of a data set and split, those with the images of the newest one.

    Older records do not have the digest of their split, so `sweep` does not count them. A method that learns
    images of the novel classes is tested on fewer, so its images are not compared.
    """
    newest: dict[tuple[str, str], Record] = {}
    counted = []
    known = [record for record in records if split_digest(record)]
    for record in sorted(known, key=lambda record: record.created, reverse=True):
        learned = record.labelled_novel_images
        if learned or images(record) == images(newest.setdefault((record.dataset, record.split), record)):
            counted.append(record)
    found: dict[str, list[Record]] = {}
    for record in counted:
        settings = {"method": record.method, "split": record.split, **record.config}
        found.setdefault(_key(settings), []).append(record)
    return found


def _key(run: Run) -> str:
    """Equal for equal settings, apart from those that depend on the method: see `_has`."""
    of_method = {"method", "hyperparameters", "overrides", "backbone", *WEIGHTS}
    defaults = {key: field.default for key, field in RunConfig.model_fields.items() if key not in of_method}
    settings = {key: run.get(key, default) for key, default in defaults.items()}
    return json.dumps([run["method"], settings], sort_keys=True)


def _as_recorded(run: Run) -> Run:
    """Settings of a study file as a record has them."""
    first, novel = str(run.get("dataset", DEFAULTS["dataset"])), run.get("novel_dataset")
    dataset = canonical(f"{first}{ARROW}{novel}" if novel else first)
    read: dict[str, Callable[[Any], Any]] = {
        "measure": lambda own: measurements("measure", own),
        "augment": lambda own: augmentations("augment", own, dataset),
        "train_on": lambda own: None if own == BASE else own,
        "backbone": full_backbone,
    }
    of_setting = {"query": QUERY, "episodes": EPISODES} if "way" in run else {}
    found = {key: read[key](own) if key in read else own for key, own in run.items()}
    return of_setting | found | {"dataset": dataset}


def _has(record: Record, run: Run) -> bool:
    """Whether a record with the same `_key` has the run's other settings, and no other changes of its preset.

    What a preset says is not compared, because that would import the method, and thus torch.
    """
    config: Run = record.config
    own, wanted, changed = _hyperparameters(config), _hyperparameters(run), overrides(record).keys()
    of_timm = own.get(PRETRAINED, not (run.get("train", True) or run.get("weights")))
    return (
        (run["backbone"] == record.backbone if "backbone" in run else "backbone" not in changed)
        and changed & own.keys() <= wanted.keys()
        and all(name in own and own[name] == (None if v == NONE else v) for name, v in wanted.items())
        and run.get("weights") == config.get("weights")
        and run.get(PRETRAINED, of_timm) == config.get(PRETRAINED, False)
    )


def _named(left: Sequence[Run], runs: Sequence[Run]) -> str:
    """The open runs of a study in short: methods, and their splits and seeds."""
    every = [{**run, **_hyperparameters(run)} for run in runs]
    keys = {key for run in every for key in run} - {"hyperparameters", "method", "split", "seed"}
    varied = {key for key in keys if len({str(run.get(key)) for run in every}) > 1}
    several = len({run.get("seed", 0) for run in every}) > 1
    where: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for run in ({**run, **_hyperparameters(run)} for run in left):
        what = {key: own for key, own in run.items() if key in varied}
        start = STARTS.get(what.pop(START, ""), "")
        seeds = where.setdefault((str(run["method"]), start, ", ".join(as_set(what))), {})
        seeds.setdefault(str(run.get("split", "")), []).append(str(run.get("seed", 0)))
    alike: dict[str, list[tuple[str, ...]]] = {}
    for name, seeds in where.items():
        alike.setdefault(_places(seeds, several), []).append(name)
    return "; ".join(f"{_methods(names)} on {places}" for places, names in alike.items())


def _methods(names: Sequence[tuple[str, ...]]) -> str:
    """Methods with their start, and with what else is changed, or the number of such settings."""
    settings: dict[tuple[str, str], list[str]] = {}
    for method, start, changes in names:
        settings.setdefault((method, start), []).append(changes)
    parts = []
    for (method, start), own in settings.items():
        changed = own[0] if len(own) == 1 else f"{len(own)} settings"
        words = ", ".join(filter(None, (start, changed)))
        parts.append(f"{method} ({words})" if words else method)
    return ", ".join(parts)


def _places(seeds: Mapping[str, Sequence[str]], several: bool) -> str:
    """Splits, and the seeds that are open if the study has several."""
    splits: dict[str, list[str]] = {}
    for split, own in seeds.items():
        which = f" × seed{'s' * (len(own) > 1)} {', '.join(own)}" if several else ""
        splits.setdefault(which, []).append(split)
    return " and ".join(f"{', '.join(own)}{which}" for which, own in splits.items())


def _hyperparameters(run: Run) -> dict[str, Any]:
    found = run.get("hyperparameters")
    return found if isinstance(found, dict) else {}
