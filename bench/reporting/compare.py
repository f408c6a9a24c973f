"""`compare`: all pairs of runs or methods, on identical episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common.errors import UserError, one_line, one_of
from bench.records.arrays import common_classes, read_episodes, redraw_episodes
from bench.records.identity import Table, name_of, named, split_digest, train_on
from bench.records.store import Record
from bench.records.tracks import network
from bench.sampling.episodes import EpisodeList
from bench.statistics import Comparison, Interval, class_difference, compare_all


@dataclass(frozen=True)
class Side:
    """One of the things compared.

    Attributes:
        name: in sentences.
        records: one per seed, all of one configuration.
        accuracies: float64 ``[R, T]``.
    """

    name: str
    records: list[Record]
    accuracies: np.ndarray


@dataclass(frozen=True)
class Compared:
    """Two or more sides on one setting, and every pair of them.

    Attributes:
        comparisons: of all pairs of sides, over episodes.
        new_classes: for each of these, the interval of the difference over classes; None if not known.
    """

    setting: str
    sides: list[Side]
    comparisons: list[Comparison]
    new_classes: list[Interval | None]


def compare(operands: Sequence[str], table: Table, setting: str) -> Compared:
    """Compare all pairs of operands.

    Args:
        operands: run ids, paths of records, or comma lists of these that differ only in the seed; or
            names of methods in `table`.
        table: the records to search.
        setting: such as ``5w1s``.

    Raises:
        UserError: an operand does not exist or is not one configuration, or episodes differ.
    """
    if len(operands) < 2:
        raise UserError("compare", " ".join(operands), "needs two or more runs or methods")
    # By seed, so that seeds of the same networks stand side by side.
    found = [sorted(named(operand, table), key=lambda one: one[0].seed) for operand in operands]
    for operand, of in zip(operands, found, strict=True):
        _check_setting(operand, [record for record, _ in of], setting)
    names = _names([[record for record, _ in of] for of in found])
    sides = [
        Side(name, [record for record, _ in of], _accuracies(of, setting))
        for name, of in zip(names, found, strict=True)
    ]
    pairs = list(zip(itertools.combinations(operands, 2), itertools.combinations(sides, 2), strict=True))
    for given, (one, other) in pairs:
        if shared := {record.run_id for record in one.records} & {record.run_id for record in other.records}:
            raise UserError("compare", " ".join(given), f"must not share runs; {min(shared)} is in both")
    for given, (one, other) in pairs:
        if reason := why_incomparable(one.records[0], other.records[0], setting):
            raise UserError("compare", " ".join(given), reason)
    networks = {side.name: [network(record) for record in side.records] for side in sides}
    comparisons = compare_all({side.name: side.accuracies for side in sides}, networks=networks)
    classes = common_classes([record for side in sides for record in side.records], setting)
    new_classes = [_new_classes(one, other, classes) for one, other in itertools.combinations(sides, 2)]
    return Compared(setting, sides, comparisons, new_classes)


def _names(sides: Sequence[list[Record]]) -> list[str]:
    """Names of the sides; with seeds, or run ids, if they would be equal otherwise."""
    ways: list[Callable[[list[Record]], str]] = [
        lambda of: name_of(of[0]),
        lambda of: f"{name_of(of[0])}, seed {' '.join(str(record.seed) for record in of)}",
    ]
    for way in ways:
        names = [one_line(way(of)) for of in sides]
        if len(set(names)) == len(names):
            return names
    return [" ".join(record.run_id for record in of) for of in sides]


def _check_setting(operand: str, records: Iterable[Record], setting: str) -> None:
    for record in records:
        if record.failure is not None:
            raise UserError("compare", operand, f"{record.run_id} failed: {record.failure}")
        if setting not in record.episodes:
            raise UserError(
                "--setting", setting, f"{operand} has no such setting; {one_of(setting, record.episodes)}"
            )


def _accuracies(found: Sequence[tuple[Record, Path]], setting: str) -> np.ndarray:
    rows = []
    for record, folder in found:
        episodes = read_episodes(record, folder, [setting])
        if setting not in episodes:
            raise UserError("compare", record.run_id, "has no file of per-episode answers")
        rows.append(episodes[setting])
        if len(rows[-1]) < 2:
            raise UserError("compare", record.run_id, "has only one episode; at least two are needed")
    lists = {(record.episodes[setting].sha256, record.episodes[setting].count) for record, _ in found}
    if len(lists) > 1:
        problem = f"its seeds were evaluated on different {setting} episodes"
        raise UserError("compare", found[0][0].run_id, problem)
    return np.stack(rows)


def _new_classes(one: Side, other: Side, classes: np.ndarray | None) -> Interval | None:
    if classes is None:
        return None
    shared = min(one.accuracies.shape[1], other.accuracies.shape[1])
    first, second = (side.accuracies[:, :shared].mean(axis=0) for side in (one, other))
    try:
        return class_difference(first, second, classes[:shared])
    except ValueError:  # too few classes
        return None


def why_incomparable(first: Record, second: Record, setting: str) -> str | None:
    """Why two records are not comparable in a setting; None if they are.

    They are comparable if the episodes are the same, or if one list is the beginning of the other: methods
    that adapt in each episode use the first 1,000 of the same 10,000. Then the hashes differ, so the longer
    list is redrawn from the class sizes and both hashes are checked.

    Args:
        first: has the setting.
        second: has it too.
        setting: such as ``5w1s``.
    """
    if first.protocol_version != second.protocol_version:
        versions = f"{first.protocol_version} and {second.protocol_version}"
        return f"they have protocol versions {versions}, whose numbers are not comparable"
    if first.images_id != second.images_id:
        fingerprints = f"{first.fingerprint[:12]} and {second.fingerprint[:12]}"
        return f"their images differ: {first.dataset} and {second.dataset}, fingerprints {fingerprints}"
    digests = split_digest(first), split_digest(second)
    if None not in digests and digests[0] != digests[1] and not _novel_alike(first, second):
        return f"the classes or images of their splits differ, {first.split} and {second.split}"
    one, two = first.episodes[setting], second.episodes[setting]
    if one.sha256 == two.sha256:
        return None
    if first.split != second.split:
        return f"their splits differ, {first.split} and {second.split}"
    for what in ("way", "shot", "query", "seed"):
        if getattr(one, what) != getattr(two, what):
            numbers = f"{getattr(one, what)} and {getattr(two, what)}"
            return f"their episodes of {setting} differ in {what}: {numbers}"
    if one.count == two.count:
        return f"their episodes of {setting} differ: the hashes are different"
    pool = first.pools.get("novel") or second.pools.get("novel")
    if not pool:
        counts = f"one answered {one.count:,} and the other {two.count:,} episodes of {setting}"
        return f"{counts}, and neither has the class sizes that are needed to compare their beginnings"
    if not _begin_alike(first, second, setting, pool):
        return f"their episodes of {setting} differ: neither list is the beginning of the other"
    return None


def _novel_alike(first: Record, second: Record) -> bool:
    """Whether only ``--train-on`` makes their splits differ: both are tested on the same novel images."""
    novel = {record.sources and record.sources.novel for record in (first, second)}
    return None not in novel and len(novel) == 1 and train_on(first) != train_on(second)


def _begin_alike(first: Record, second: Record, setting: str, pool: dict[str, int]) -> bool:
    """Whether the shorter list is the beginning of the longer list, which is redrawn from the class sizes."""
    short, long = sorted((first, second), key=lambda record: record.episodes[setting].count)
    every = redraw_episodes(long.model_copy(update={"pools": {"novel": pool}}), setting)
    if every is None:
        return False
    info = short.episodes[setting]
    beginning = EpisodeList(**{name: array[: info.count] for name, array in vars(every).items()})
    return beginning.sha256() == info.sha256
