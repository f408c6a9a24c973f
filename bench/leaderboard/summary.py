"""What the tables say together: the best of each, and ranks over several."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from bench.configurations import overrides
from bench.leaderboard.rows import SETTINGS, Row
from bench.leaderboard.tables import Table, section_key

AGGREGATED = ("5w1s", "5w5s")
"""The settings of the aggregate rank: the two that the field reports."""


class Best(NamedTuple):
    """The best row of a table in one setting.

    Attributes:
        table: which.
        heading: of the setting.
        row: the one with the highest accuracy.
        tied: the others that no row is significantly better than, from the best.
        among: how many rows were ranked.
    """

    table: Table
    heading: str
    row: Row
    tied: list[Row]
    among: int


class MeanRank(NamedTuple):
    """Ranks averaged over tables: by value, and the ends of the ranges that the tests leave."""

    value: float
    first: float
    last: float


class Place(NamedTuple):
    """A configuration in an aggregate; `ranks` by setting, empty if it is missing in a counted table."""

    row: Row
    ranks: dict[str, MeanRank]
    tables: int


class Aggregate(NamedTuple):
    """Ranks over the tables in which the same configurations have a row.

    Attributes:
        preset: of all rows: within one, methods have the same backbone and budget.
        places: complete configurations from the best, then incomplete ones.
        counted: the tables that count.
        left_out: tables in which one of the complete configurations has no row.
    """

    preset: str
    places: list[Place]
    counted: list[Table]
    left_out: list[Table]


def newest(tables: Sequence[Table]) -> list[Table]:
    """Of tables of the same images those of the newest protocol; `tables` are in order."""
    first: dict[str, Table] = {}
    for table in tables:
        first.setdefault(section_key(table.first), table)
    return list(first.values())


def best(tables: Sequence[Table]) -> list[Best]:
    """The best of each table and setting that has at least one ranked row."""
    found = []
    for table in tables:
        for heading, setting in SETTINGS.items():
            ranked = sorted(
                (row for row in table.ranked if setting in row.ranks), key=lambda row: -row.value(setting)
            )
            if ranked:
                tied = [row for row in ranked[1:] if row.ranks[setting].first == 1]
                found.append(Best(table, heading, ranked[0], tied, len(ranked)))
    return found


def aggregates(tables: Sequence[Table]) -> list[Aggregate]:
    """For each preset the ranks over several tables, where at least two rows meet in at least two tables.

    Counted are the fullest tables: as many of them, from the one with the most rows on, as give the most
    numbers with no gap.
    """
    presets = sorted({row.first.preset for table in tables for row in table.ranked})
    found = (_aggregate(tables, preset) for preset in presets)
    return [aggregate for aggregate in found if aggregate]


def _aggregate(tables: Sequence[Table], preset: str) -> Aggregate | None:
    entries = [_entries(table, preset) for table in tables]
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
    ranks = {
        setting: [_ranks(tables[i], [entries[i][key] for key in configurations], setting) for i in counted]
        for setting in AGGREGATED
    }
    first = counted[0]
    places = [
        Place(
            tables[first].ranked[entries[first][key]],
            {setting: _mean([table[position] for table in own]) for setting, own in ranks.items()},
            number,
        )
        for position, key in enumerate(configurations)
    ]
    places.sort(key=lambda place: sum(rank.value for rank in place.ranks.values()))
    missing: dict[str, list[int]] = {}
    for i in order:
        for key in entries[i]:
            if key not in common:
                missing.setdefault(key, []).append(i)
    for key, where in sorted(missing.items()):
        own = tables[where[0]].ranked[entries[where[0]][key]]
        places.append(Place(own, {}, sum(i in counted for i in where)))
    left_out = [tables[i] for i in sorted(order[number:])]
    return Aggregate(preset, places, [tables[i] for i in counted], left_out)


def _entries(table: Table, preset: str) -> dict[str, int]:
    """Configurations with a rank in every aggregated setting: what they are -> position among the ranked."""
    found: dict[str, int] = {}
    for i, row in enumerate(table.ranked):
        if row.first.preset == preset and all(setting in row.ranks for setting in AGGREGATED):
            key = _entry_key(row)
            other = found.get(key)
            if other is None or _age(table.ranked[other]) < _age(row):
                found[key] = i
    return found


def _entry_key(row: Row) -> str:
    """Equal for the same configuration on other images; hyperparameters may follow from those."""
    first = row.first
    return json.dumps(
        [first.method, first.backbone, first.weights, first.trained, overrides(first)], sort_keys=True
    )


def _age(row: Row) -> tuple:
    return max(record.created for record in row.records), row.key


def _ranks(table: Table, among: list[int], setting: str) -> list[MeanRank]:
    """The ranks of some of a table's rows among themselves."""
    from bench.statistics.all_pairs import ranges

    values = [-table.ranked[i].value(setting) for i in among]
    order = sorted(values)
    return [
        MeanRank(1 + bisect_left(order, value), *own)
        for value, own in zip(values, ranges(table.better[setting], among), strict=True)
    ]


def _mean(ranks: list[MeanRank]) -> MeanRank:
    return MeanRank(*(sum(column) / len(ranks) for column in zip(*ranks, strict=True)))
