"""Summary of all tables: the best of each track, and ranks over several splits."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.records.identity import name_of
from bench.reporting.ranking.rows import ENOUGH_SEEDS, SETTINGS, Row
from bench.reporting.ranking.tables import Table

if TYPE_CHECKING:
    import numpy as np

AGGREGATED = ("5w1s", "5w5s")
"""The settings of the aggregate rank: the two standard ones."""


class Best(NamedTuple):
    """The highest row of a track in one setting, and whether it is the best.

    Attributes:
        table: the track's table.
        heading: of the setting.
        row: the one with the highest accuracy.
        tied: other rows to which no row is significantly superior for new episodes, from the highest.
        not_separable: other rows whose difference to it may be 0 for new classes, from the highest; None
            if new classes are not known.
        among: number of ranked rows.
    """

    table: Table
    heading: str
    row: Row
    tied: list[Row]
    not_separable: list[Row] | None
    among: int


class MeanRank(NamedTuple):
    """Ranks averaged over tables: by accuracy, and the ends of the rank ranges."""

    value: float
    first: float
    last: float


class Place(NamedTuple):
    """A configuration in an aggregate.

    Attributes:
        row: its row in one of the tables.
        ranks: by setting; empty if a counted table lacks it.
        new_class_ranks: the same for new classes; empty if not known in every counted table.
        tables: number of counted tables with a row of it.
    """

    row: Row
    ranks: dict[str, MeanRank]
    new_class_ranks: dict[str, MeanRank]
    tables: int


class Aggregate(NamedTuple):
    """Ranks over the tables of a track in which the same configurations have a row.

    Attributes:
        preset, backbone: of the track.
        places: complete configurations from the best, then incomplete ones.
        counted: the tables used.
        left_out: tables in which one of the complete configurations has no row.
    """

    preset: str
    backbone: str
    places: list[Place]
    counted: list[Table]
    left_out: list[Table]


def newest(tables: Sequence[Table]) -> list[Table]:
    """For each set of images, the tables of the newest protocol; `tables` are in order."""
    first: dict[str, int] = {}
    for table in tables:
        first.setdefault(table.section, table.first.protocol_version)
    return [table for table in tables if table.first.protocol_version == first[table.section]]


def best(tables: Sequence[Table]) -> list[Best]:
    """The highest row of each track and setting that has at least one ranked row."""
    found = []
    for table in tables:
        for heading, setting in SETTINGS.items():
            order = sorted(
                (i for i, row in enumerate(table.ranked) if setting in row.ranks),
                key=lambda i: -table.ranked[i].value(setting),
            )
            if order:
                highest, *others = (table.ranked[i] for i in order)
                tied = [row for row in others if row.ranks[setting].first == 1]
                not_separable = _not_separable(table, setting, order)
                found.append(Best(table, heading, highest, tied, not_separable, len(order)))
    return found


def _not_separable(table: Table, setting: str, order: Sequence[int]) -> list[Row] | None:
    highest, *others = order
    better = table.better_for_new_classes.get(setting)
    if better is None:
        return None if others else []
    return [table.ranked[i] for i in others if not better[highest, i]]


def aggregates(tables: Sequence[Table]) -> list[Aggregate]:
    """Ranks over several tables per track, if at least two rows are in at least two of its tables.

    Uses the fullest tables: starting with the one with most rows, as many as give the most numbers without a
    gap.
    """
    tracks = sorted({table.track[:2] for table in tables if table.track})
    found = (
        _aggregate([table for table in tables if table.track and table.track[:2] == track], *track)
        for track in tracks
    )
    return [aggregate for aggregate in found if aggregate]


def _aggregate(tables: Sequence[Table], preset: str, backbone: str) -> Aggregate | None:
    entries = [_entries(table) for table in tables]
    order = sorted((i for i in range(len(tables)) if entries[i]), key=lambda i: (-len(entries[i]), i))
    grids = []
    for number in range(2, len(order) + 1):
        common = set.intersection(*(set(entries[i]) for i in order[:number]))
        if len(common) > 1:
            grids.append((len(common) * number, number, common))
    if not grids:
        return None
    _, number, common = max(grids, key=lambda grid: grid[:2])
    counted = sorted(order[:number])
    configurations = sorted(common)

    first = counted[0]
    chosen = [(tables[i], [entries[i][key] for key in configurations]) for i in counted]
    places = [
        Place(tables[first].ranked[entries[first][key]], ranks, for_new_classes, number)
        for key, ranks, for_new_classes in zip(
            configurations,
            _mean_ranks(chosen, lambda table: table.better),
            _mean_ranks(chosen, lambda table: table.better_for_new_classes),
            strict=True,
        )
    ]
    places.sort(key=lambda place: sum(rank.value for rank in place.ranks.values()))
    missing: dict[str, list[int]] = {}
    for i in order:
        for key in entries[i]:
            if key not in common:
                missing.setdefault(key, []).append(i)
    for key, where in sorted(missing.items()):
        own = tables[where[0]].ranked[entries[where[0]][key]]
        places.append(Place(own, {}, {}, sum(i in counted for i in where)))
    left_out = [tables[i] for i in sorted(order[number:])]
    return Aggregate(preset, backbone, places, [tables[i] for i in counted], left_out)


def _entries(table: Table) -> dict[str, int]:
    """Configurations with a rank in every aggregated setting: key -> position among the ranked rows.

    Beside rows of enough seeds, those of fewer do not count: they are not ranked among each other.
    """
    found: dict[str, int] = {}
    enough = any(len(row.records) >= ENOUGH_SEEDS for row in table.ranked)
    for i, row in enumerate(table.ranked):
        if enough and len(row.records) < ENOUGH_SEEDS:
            continue
        if all(setting in row.ranks for setting in AGGREGATED):
            key = name_of(row.first)  # hyperparameters may depend on the images
            other = found.get(key)
            if other is None or _age(table.ranked[other]) < _age(row):
                found[key] = i
    return found


def _age(row: Row) -> tuple:
    return max(record.created for record in row.records), row.key


def _mean_ranks(
    chosen: Sequence[tuple[Table, list[int]]], better: Callable[[Table], Mapping[str, np.ndarray]]
) -> list[dict[str, MeanRank]]:
    """Ranks by setting of each configuration, averaged over tables; empty if not known in a table.

    Args:
        chosen: tables, and the positions of the configurations among their ranked rows.
        better: returns a table's matrices by setting.
    """
    number = len(chosen[0][1])
    if any(setting not in better(table) for table, _ in chosen for setting in AGGREGATED):
        return [{}] * number
    ranks = {
        setting: [_ranks(table, among, setting, better(table)[setting]) for table, among in chosen]
        for setting in AGGREGATED
    }
    return [
        {setting: _mean([table[position] for table in own]) for setting, own in ranks.items()}
        for position in range(number)
    ]


def _ranks(table: Table, among: list[int], setting: str, better: np.ndarray) -> list[MeanRank]:
    """The ranks of some of a table's rows among themselves."""
    import numpy as np

    from bench.statistics import rank_ranges

    values = [-table.ranked[i].value(setting) for i in among]
    order = sorted(values)
    return [
        MeanRank(1 + bisect_left(order, value), *own)
        for value, own in zip(values, rank_ranges(better[np.ix_(among, among)]), strict=True)
    ]


def _mean(ranks: list[MeanRank]) -> MeanRank:
    return MeanRank(*(sum(column) / len(ranks) for column in zip(*ranks, strict=True)))
