"""`validate`: recomputes every record's numbers from its per-episode file, and names what is wrong."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench import PROTOCOL_VERSION
from bench.common.environment import available_cores
from bench.common.errors import UserError, one_line
from bench.common.progress import shown
from bench.records import identity
from bench.records.claims import contradictions, same_split
from bench.records.naming import BEFORE, UNBALANCED
from bench.records.parts import Metric
from bench.records.store import OWN, Record, read

if TYPE_CHECKING:
    from bench.records.recomputing import Recomputed
    from bench.statistics import Interval

ROUNDING = 1e-9
SEVERAL = 20  # records, from which starting a process per core pays
CLOCKS_DIFFER = timedelta(days=1)
NOT_KEPT = (UNBALANCED, BEFORE)
"""Metrics whose individual answers older per-episode files do not have."""

Pools = Mapping[str, Mapping[str, int]]


@dataclass
class Validation:
    """Findings of `validate`.

    Attributes:
        records: number of record files.
        problems: one line each, starting with the file or run.
        notes: one line per record of which some numbers could not be recomputed.
    """

    records: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validate(directory: Path) -> Validation:
    """Check every record of a folder; if it has none, those of its folder `OWN`.

    Raises:
        UserError: there is no such folder.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise UserError("--results", directory, f"must be a folder of records ({error.strerror})") from error
    names = {path.name for path in paths}
    if OWN in names and not any(path.suffix == ".json" for path in paths):
        return validate(directory / OWN)
    report, records = Validation(), []
    for path in paths:
        if path.suffix == ".json":
            report.records += 1
            try:
                records.append(read(path))
            except UserError as error:
                report.problems.append(f"{path.name}: {error.allowed}")
        elif path.suffix == ".npz" and f"{path.stem}.json" not in names:
            report.problems.append(f"{path.name}: does not belong to any record")
    pools: dict[tuple[str, str, str | None], tuple[str, Pools]] = {}
    for record in records:
        if record.pools and not any(_wrong_sizes(record)):
            pools.setdefault(identity.images(record), (record.run_id, record.pools))
    report.problems += _duplicates(records)
    checks: list[tuple[Record, list[str], Pools | None]] = []
    for record in records:
        owner, known = pools.get(identity.images(record), (record.run_id, {}))
        wrong_sizes = list(_wrong_sizes(record))
        found = [*wrong_sizes, *_impossible(record), *contradictions(record)]
        if record.pools and not wrong_sizes and record.pools != known:
            found.append(f"its class sizes differ from those of {owner}, on the same data and split")
        if record.episode_file is None and f"{record.run_id}.npz" in names:
            found.append(f"{record.run_id}.npz exists, but the record does not name it")
        if record.protocol_version != PROTOCOL_VERSION:
            found.append(
                f"protocol version {record.protocol_version}; this bench measures {PROTOCOL_VERSION}"
            )
        comparable = record.protocol_version == PROTOCOL_VERSION and (known or not wrong_sizes)
        sizes = known if wrong_sizes else record.pools or known
        checks.append((record, found, sizes if comparable else None))
    against_files = _against_files([(record, directory, own) for record, _, own in checks if own is not None])
    for record, found, own in checks:
        problems, left_out = next(against_files) if own is not None else ([], "")
        report.problems += [f"{record.run_id}: {problem}" for problem in [*found, *problems]]
        if left_out:
            report.notes.append(f"{record.run_id}: not recomputed: {left_out}")
    # Names of files and classes may contain control characters.
    report.problems, report.notes = (list(map(one_line, lines)) for lines in (report.problems, report.notes))
    return report


def _against_files(checks: Sequence[tuple[Record, Path, Pools]]) -> Iterator[tuple[list[str], str]]:
    """`_against_file` of each, in order; if there are many, on all cores and with a progress bar."""
    if len(checks) < SEVERAL:
        yield from itertools.starmap(_against_file, checks)
        return
    context = multiprocessing.get_context("spawn")
    with shown() as show, ProcessPoolExecutor(available_cores(), context) as pool:
        results = pool.map(_against_file, *zip(*checks, strict=True))
        for done, result in enumerate(results, 1):
            show("validating", done, len(checks))
            yield result


def _duplicates(records: list[Record]) -> Iterator[str]:
    first: dict[tuple[str, str], str] = {}
    for record in records:
        if ".py" in str(record.config.get("method")):  # the code in that file may have changed
            continue
        # A renamed or copied folder of images honestly makes the same run again.
        other = first.setdefault((record.dataset, identity.run(record)), record.run_id)
        if other != record.run_id:
            yield f"{record.run_id}: the same configuration and seed as {other}"


def _wrong_sizes(record: Record) -> Iterator[str]:
    """Class sizes that contradict the record, so that nothing can be redrawn from them."""
    classes = record.classes
    for part, images, count in (
        ("base", classes.base_test_images, classes.base),
        ("validation", classes.validation_images, classes.validation or classes.base),
        ("novel", classes.novel_images, classes.novel),
    ):
        sizes = record.pools.get(part)
        if sizes is not None and (not sizes or sum(sizes.values()) != images or len(sizes) > count):
            found = f"{len(sizes)} classes of {sum(sizes.values())} images"
            yield f"pools.{part}: {found}, not {count} of {images}"


def _impossible(record: Record) -> Iterator[str]:
    """Values that are impossible or contradict each other."""
    from bench.records.arrays import setting_of

    classes, timings = record.classes, record.timings
    for name, info in (*record.episodes.items(), *record.open_set.items()):
        setting = setting_of(record, name)
        if info.way + setting.others > classes.novel:
            yield f"episodes.{name}: way {info.way} with {classes.novel} novel classes"
        elif (called := setting.name) != name:
            yield f"episodes.{name}: way, shot and query say {called}"
        metric = record.metrics.get(f"fewshot/{name}")
        if metric and metric.n != info.count:
            yield f"fewshot/{name} n: {metric.n}, but {info.count} episodes"
    for name in record.per_class:
        if "novel" in record.pools and name not in record.pools["novel"]:
            yield f"per_class: {name} is not a novel class"
    said = record.config | {"trained": record.config.get("train", record.trained)}
    for name in ("dataset", "split", "preset", "backbone", "seed", "trained", "hyperparameters"):
        recorded = json.loads(record.model_dump_json(include={name}))[name]
        given = said.get(name, recorded)
        if given != recorded and not (name == "split" and same_split(recorded, str(given))):
            yield f"{name}: {recorded}, but config says {given}"
    given = said.get("weights") or ("those of timm" if said.get("pretrained") else "none")
    if "weights" in said and (given == "none") != (record.weights is None):
        yield f"weights: {record.weights or 'none'}, but config says {given}"
    for part in ("base", "novel"):
        best, usual = (record.metrics.get(f"{part}/pair_accuracy{end}") for end in ("_oracle", ""))
        if best and usual and best.value < usual.value - ROUNDING:
            yield f"{part}/pair_accuracy: {usual.value}, more than the best threshold's {best.value}"
    if record.created > datetime.now(UTC) + CLOCKS_DIFFER:
        yield f"created: {record.created:%Y-%m-%d}, in the future"
    if timings.data_s + timings.train_s + timings.evaluate_s > timings.total_s + 1:
        yield f"timings: the parts take longer than the whole, {timings.total_s:.1f} s"
    pretrained = record.pretraining is not None
    if record.trained != (timings.steps > 0 or pretrained or record.shared_training is not None):
        has = "a pretraining" if pretrained else f"{timings.steps} steps"
        yield f"trained: {record.trained}, but it has {has}"
    if record.images is not None and (record.images > 0) != (timings.steps > 0):
        yield f"images: {record.images}, in {timings.steps} steps"
    if timings.train_s and not timings.steps:
        yield f"timings.train_s: {timings.train_s:.1f} s, but there were 0 steps"


def _against_file(record: Record, directory: Path, pools: Pools) -> tuple[list[str], str]:
    """Problems of a record's numbers, and what could not be recomputed."""
    from bench.records.arrays import read_arrays
    from bench.records.recomputing import recompute

    if record.failure is not None:
        return [], ""
    if record.episode_file is None:
        return [], "everything: it has no per-episode file"
    try:
        arrays = read_arrays(record, directory)
    except UserError as error:
        return [f"{record.episode_file}: {error.allowed}"], ""
    found = recompute(record, arrays, pools)
    problems = found.problems
    problems += _differences("", record.metrics, found.metrics)
    for name, numbers in found.per_class.items():
        problems += _differences(f"{name}: ", record.per_class.get(name, {}), numbers)
    for key, value in found.constant_answer.items():
        if abs(record.constant_answer.get(key, value) - value) > ROUNDING:
            problems.append(f"constant_answer {key}: {record.constant_answer[key]}, recomputed {value}")
    return problems, _not_recomputed(record, found)


def _differences(
    owner: str, recorded: Mapping[str, Metric], recomputed: Mapping[str, Interval]
) -> Iterator[str]:
    for key, number in recomputed.items():
        if key not in recorded:
            yield f"{owner}{key}: is missing; recomputed {number.value:.6g}"
            continue
        for name, value in number._asdict().items():
            was = getattr(recorded[key], name)
            if was != value and (was is None or value is None or abs(was - value) > ROUNDING):
                yield f"{owner}{key} {name}: {was}, recomputed {value}"


def _not_recomputed(record: Record, found: Recomputed) -> str:
    """Keys whose numbers were not recomputed, except those for which no file has answers."""
    older = record.sources is None
    left_out = [
        key for key in record.metrics
        if key not in found.metrics and not (older and key.endswith(NOT_KEPT))
    ]  # fmt: skip
    of_classes = {
        key
        for name, own in record.per_class.items()
        for key in own
        if key not in found.per_class.get(name, {})
    }
    left_out += [f"{key} of each class" for key in sorted(of_classes)]
    lists = (*record.episodes, *record.open_set)
    left_out += [f"episodes of {name}" for name in lists if name not in found.episodes]
    return ", ".join(left_out)
