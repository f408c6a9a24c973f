"""The summary: the best of each track, and ranks over several splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.records.identity import name_of, split_digest
from bench.reporting.blocks import (
    NOTHING,
    Block,
    Cell,
    Code,
    Grid,
    Heading,
    Number,
    Paragraph,
    Prose,
    number,
    table,
)
from bench.reporting.leaderboard.cells import joined, name, track_name
from bench.reporting.ranking.rows import SETTINGS, Row
from bench.reporting.ranking.tables import Table, newest

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_NAMES = 3
AGGREGATED = ("5w1s", "5w5s")
"""The settings of the aggregate rank: the two standard ones."""

BEST = """\
*highest*: the highest accuracy on these classes. *tied, new episodes*: no row is significantly better than
these for other episodes of these classes (a row with three seeds is compared only with rows that have three).
*not separable, new classes*: for other classes the difference to the highest row may be 0, because its 95%
interval over classes contains 0. *best*: the highest row, if no other is tied with it and it is separable
from all; not known if every episode contains every class. Variations, transductive and untrained rows and
rows with external data are not included. *rows*: the number of rows compared on the same episodes."""
AGGREGATE = """\
The mean of a method's ranks over the tables in which all these methods have a row, and in brackets the range
that the tests over episodes allow; *new classes*: the range that the intervals over classes allow, in both
settings. Overlapping ranges are ties. *incomplete*: not in all of these tables, so not ranked. Where a table
has rows with three seeds, its rows with fewer are left out."""
NONE_COMPARED = "There are no two rows of one track with the same episodes."
TOO_FEW = "None yet: this needs two methods of one track that both have a row in the same two tables."


def overview(tables: Sequence[Table]) -> list[Block]:
    """Blocks of the summary, for the newest protocol."""
    if not tables:
        return [Paragraph(("No results yet.",))]
    current = newest(tables)
    blocks: list[Block] = [Heading(2, ("The best of each track",))]
    shown = best_of_each(current)
    blocks += [Paragraph((NONE_COMPARED,))] if shown.empty else [Prose(BEST), Grid(shown, leading=4)]
    blocks += [Heading(2, ("Ranks over several tables",))]
    found = aggregates(current)
    blocks += [Prose(AGGREGATE)] if found else [Paragraph((TOO_FEW,))]
    for aggregate in found:
        blocks += _blocks(aggregate, current)
    return blocks


def best_of_each(tables: Sequence[Table]) -> DataFrame:
    """The highest row of each track and setting that has ranked rows, and whether it is the best."""
    return table(
        _best(one, heading, setting, tables)
        for one in tables
        for heading, setting in SETTINGS.items()
        if any(setting in row.ranks for row in one.ranked)
    )


def _best(one: Table, heading: str, setting: str, tables: Sequence[Table]) -> dict[str, Cell]:
    ranked = [i for i, row in enumerate(one.ranked) if setting in row.ranks]
    first, *others = sorted(ranked, key=lambda i: -one.ranked[i].value(setting))
    highest = one.ranked[first]
    tied = [one.ranked[i] for i in others if one.ranked[i].ranks[setting].first == 1]
    better = one.better_for_new_classes.get(setting)
    not_separable = [one.ranked[i] for i in others if better is not None and not better[first, i]]
    best = ("not known",) if others and better is None else name(highest)
    return {
        "data set": (Code(one.first.dataset),),
        "split": _split(one, tables),
        "track": track_name(one.track),
        "setting": (heading,),
        "best": ("none",) if tied or not_separable else best,
        "highest": name(highest),
        "accuracy": number(highest.intervals[f"fewshot/{setting}"]),
        "tied, new episodes": _names(tied),
        "not separable, new classes": _names(not_separable),
        "rows": Number(str(len(ranked)), len(ranked)),
    }


class Aggregate(NamedTuple):
    """Ranks over the tables of a track in which the same configurations have a row.

    Attributes:
        preset, backbone: of the track.
        ranks: by name and setting, means over the tables: ``rank`` by accuracy, ``first`` and ``last`` of the
            range for new episodes, ``new_first`` and ``new_last`` for new classes (NaN if a table has none).
        rows: name -> a row, the complete configurations from the best, then the incomplete ones.
        among: name -> number of counted tables with a row of it.
        counted: the tables used.
        left_out: tables in which one of the complete configurations has no row.
    """

    preset: str
    backbone: str
    ranks: DataFrame
    rows: dict[str, Row]
    among: dict[str, int]
    counted: list[Table]
    left_out: list[Table]


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
    for count in range(2, len(order) + 1):
        common = set.intersection(*(set(entries[i]) for i in order[:count]))
        if len(common) > 1:
            grids.append((len(common) * count, count, common))
    if not grids:
        return None
    _, count, common = max(grids, key=lambda grid: grid[:2])
    counted = sorted(order[:count])
    ranks = _mean_ranks(
        [(tables[i], {called: entries[i][called] for called in sorted(common)}) for i in counted]
    )
    complete = ranks["rank"].groupby("name").sum().sort_values(kind="stable").index
    where: dict[str, list[int]] = {}
    for i in order:
        for called in entries[i]:
            where.setdefault(called, []).append(i)
    first = dict.fromkeys(complete, counted[0])
    first |= {called: where[called][0] for called in sorted(where.keys() - common)}
    return Aggregate(
        preset,
        backbone,
        ranks,
        {called: tables[i].ranked[entries[i][called]] for called, i in first.items()},
        {called: len({*where[called]} & {*counted}) for called in first},
        [tables[i] for i in counted],
        [tables[i] for i in sorted(order[count:])],
    )


def _entries(table: Table) -> dict[str, int]:
    """Names with a rank in every aggregated setting -> position among the ranked rows, of two the newer.

    Beside rows of enough seeds, those of fewer do not count: they are not ranked among each other.
    """
    from bench.statistics import ENOUGH_SEEDS

    def age(i: int) -> tuple:
        return max(record.created for record in table.ranked[i].records), table.ranked[i].key

    enough = any(len(row.records) >= ENOUGH_SEEDS for row in table.ranked)
    counting = [
        i
        for i, row in enumerate(table.ranked)
        if len(row.records) >= ENOUGH_SEEDS * enough and row.ranks.keys() >= set(AGGREGATED)
    ]
    # A name may have two rows, because hyperparameters may depend on the images.
    return {name_of(table.ranked[i].first): i for i in sorted(counting, key=age)}


def _mean_ranks(chosen: Sequence[tuple[Table, dict[str, int]]]) -> DataFrame:
    """`Aggregate.ranks` of the rows at these positions of each table, ranked among themselves."""
    import numpy as np
    from pandas import DataFrame, Series, concat

    from bench.statistics import rank_ranges

    parts = []
    for one, positions in chosen:
        among = np.ix_(list(positions.values()), list(positions.values()))
        for setting in AGGREGATED:
            values = Series([one.ranked[i].value(setting) for i in positions.values()])
            ends = {"": one.better[setting], "new_": one.better_for_new_classes.get(setting)}
            ranges = {
                f"{kind}{end}": [getattr(own, end) for own in rank_ranges(better[among])]
                for kind, better in ends.items()
                for end in ("first", "last")
                if better is not None
            }
            own = {"rank": values.rank(method="min", ascending=False), **ranges}
            parts.append(DataFrame({"name": list(positions), "setting": setting, **own}))
    columns = ["rank", "first", "last", "new_first", "new_last"]
    every = concat(parts).reindex(columns=["name", "setting", *columns])
    return every.groupby(["name", "setting"])[columns].sum(min_count=len(chosen)) / len(chosen)


def _blocks(aggregate: Aggregate, tables: Sequence[Table]) -> list[Block]:
    count, ranks = len(aggregate.counted), aggregate.ranks
    lines: list[dict[str, Cell]] = []
    for one, row in aggregate.rows.items():
        line: dict[str, Cell] = {"method": name(row)}
        complete = one in ranks.index
        if complete:
            line["rank"] = _rank(ranks.loc[[one]])
            line |= {f"in {setting}": _rank(ranks.loc[[(one, setting)]]) for setting in AGGREGATED}
            if not ranks.isna().any(axis=None):
                line["new classes"] = (_range(ranks.loc[[one]], "new_"),)
        line["tables"] = (f"{aggregate.among[one]} of {count}" + ("" if complete else ", incomplete"),)
        lines.append(line)
    headings = ["rank", "method", *(f"in {setting}" for setting in AGGREGATED), "new classes", "tables"]
    shown = table({heading: line.get(heading, NOTHING) for heading in headings} for line in lines)
    title = ("Track ", Code(aggregate.preset), ", ", Code(aggregate.backbone), f", {count} tables")
    blocks: list[Block] = [
        Heading(3, title),
        Grid(shown, leading=2),
        Paragraph(("Counted: ", *joined([_place(one, tables) for one in aggregate.counted]), ".")),
    ]
    if aggregate.left_out:
        left_out = joined([_place(one, tables) for one in aggregate.left_out])
        blocks.append(
            Paragraph(("Incomplete, because some of these methods have no row there: ", *left_out, "."))
        )
    return blocks


def _rank(ranks: DataFrame) -> Cell:
    """The mean of several mean ranks, and of their ranges."""
    return (f"{ranks['rank'].mean():.1f} ", _range(ranks))


def _range(ranks: DataFrame, kind: str = "") -> str:
    return f"({ranks[f'{kind}first'].mean():.1f}–{ranks[f'{kind}last'].mean():.1f})"


def _names(rows: Sequence[Row]) -> Cell:
    """Names of the first few rows, and the number of others."""
    if not rows:
        return NOTHING
    more = len(rows) - MOST_NAMES
    return joined([*map(name, rows[:MOST_NAMES]), *([(f"{more} more",)] if more > 0 else [])])


def _place(where: Table, tables: Sequence[Table]) -> Cell:
    return (Code(where.first.dataset), " ", *_split(where, tables))


def _split(where: Table, tables: Sequence[Table]) -> Cell:
    """The split's name, with a fingerprint or digest if another split has the same name."""
    first = where.first
    named = [one for one in tables if (one.first.dataset, one.first.split) == (first.dataset, first.split)]
    if len({one.section for one in named}) == 1:
        return (Code(first.split),)
    if len({one.first.fingerprint for one in named}) > 1:
        return (Code(first.split), " ", Code(first.fingerprint[:12]))
    digest = split_digest(first)
    return (Code(first.split), " ", Code(digest[:12]) if digest else "(digest not recorded)")
