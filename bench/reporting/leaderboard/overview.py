"""The summary: the best of each track, and ranks over several splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.records.identity import split_digest
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
    table,
)
from bench.reporting.leaderboard.cells import joined, name, track_name
from bench.reporting.numbers import number
from bench.reporting.ranking.rows import SETTINGS, Row
from bench.reporting.ranking.summary import (
    AGGREGATED,
    Aggregate,
    Best,
    MeanRank,
    aggregates,
    best,
    newest,
)
from bench.reporting.ranking.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_NAMES = 3
TIED, NOT_SEPARABLE = "tied, new episodes", "not separable, new classes"

BEST = """\
*highest*: the highest accuracy on these classes. *tied, new episodes*: no row is significantly better than
these for other episodes of these classes, and no row of fewer than three seeds counts against one of three.
*not separable, new classes*: for other classes the difference to the highest row may be 0, because its 95%
interval over classes contains 0. *best*: the highest row, if no other is tied with it and it is separable
from all; not known if every episode contains every class. Variations and rows with external data,
transductive and untrained rows are not included. *rows*: the number of rows compared on the same episodes."""
AGGREGATE = """\
The mean of a method's ranks over the tables in which all these methods have a row, and in brackets the range
that the tests over episodes allow; *new classes*: the range that the intervals over classes allow, in both
settings. Overlapping ranges are ties. *incomplete*: not in all of these tables, so not ranked. Where a table
has rows of three seeds, its rows of fewer are left out."""
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
        blocks += _aggregate(aggregate, current)
    return blocks


def _best_name(one: Best) -> Cell:
    """The row whose lead holds for new episodes and for new classes, or that there is none."""
    if one.tied or one.not_separable:
        return ("none",)
    return ("not known",) if one.not_separable is None else name(one.row)


def best_of_each(tables: Sequence[Table]) -> DataFrame:
    """The best row of each track and setting of the newest protocol."""
    return table(
        {
            "data set": (Code(one.table.first.dataset),),
            "split": _split(one.table, tables),
            "track": track_name(one.table.track),
            "setting": (one.heading,),
            "best": _best_name(one),
            "highest": name(one.row),
            "accuracy": number(one.row.intervals[f"fewshot/{SETTINGS[one.heading]}"], 2),
            TIED: _names(one.tied),
            NOT_SEPARABLE: _names(one.not_separable or []),
            "rows": Number(str(one.among), one.among),
        }
        for one in best(tables)
    )


def _aggregate(aggregate: Aggregate, tables: Sequence[Table]) -> list[Block]:
    count = len(aggregate.counted)
    shown = table(
        {
            "rank": _rank(list(place.ranks.values())),
            "method": name(place.row),
            **{f"in {one}": _rank([place.ranks[one]] if place.ranks else []) for one in AGGREGATED},
            "new classes": _range(list(place.new_class_ranks.values())),
            "tables": (f"{place.tables} of {count}" + ("" if place.ranks else ", incomplete"),),
        }
        for place in aggregate.places
    )
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


def _rank(ranks: Sequence[MeanRank]) -> Cell:
    """The mean of several mean ranks."""
    if not ranks:
        return NOTHING
    return (f"{sum(rank.value for rank in ranks) / len(ranks):.1f} ", *_range(ranks))


def _range(ranks: Sequence[MeanRank]) -> Cell:
    """The mean lower and upper ends of several ranges."""
    if not ranks:
        return NOTHING
    _, first, last = (sum(column) / len(ranks) for column in zip(*ranks, strict=True))
    return (f"({first:.1f}–{last:.1f})",)


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
