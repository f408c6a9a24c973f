"""The summary on top: the best of each track, and ranks over several splits."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.identity import split_digest
from bench.reporting.leaderboard.blocks import NOTHING, Block, Cell, Code, Grid, Heading, Paragraph, Prose
from bench.reporting.leaderboard.cells import joined, name, number, track_name
from bench.reporting.leaderboard.rows import SETTINGS, Row
from bench.reporting.leaderboard.summary import (
    AGGREGATED,
    Aggregate,
    Best,
    MeanRank,
    aggregates,
    best,
    newest,
)
from bench.reporting.leaderboard.tables import Table

MOST_NAMES = 3
TIED, NOT_SEPARABLE = "tied, new episodes", "not separable, new classes"

BEST = """\
*highest*: the highest accuracy on these classes. *tied, new episodes*: the rows that none is significantly
better than for other episodes of these classes. *not separable, new classes*: the rows whose difference to
the highest may be 0 for other classes: its 95% interval over classes holds 0. *best*: the highest, if that
separates it from every other row of its track; not known where every episode holds every class. Variations
and rows with external data, transductive and untrained ones are not among them. *rows*: how many were
compared on the same episodes."""
AGGREGATE = """\
The mean of a method's ranks over the tables in which all these methods have a row, and in brackets what the
tests over episodes leave open; *new classes*: what the intervals over classes leave open, in both settings.
Overlapping brackets are ties. *incomplete*: not in all of those tables, so not ranked."""
NONE_COMPARED = "No two rows of a track answered the same episodes."
TOO_FEW = "None yet: it takes two methods of one track that both have a row in the same two tables."


def overview(tables: Sequence[Table]) -> list[Block]:
    """Blocks of the summary; of several protocols the newest counts."""
    if not tables:
        return [Paragraph(("No results yet.",))]
    current = newest(tables)
    blocks: list[Block] = [Heading(2, ("The best of each track",))]
    best_rows = best(current)
    blocks += [Prose(BEST), _best(best_rows, current)] if best_rows else [Paragraph((NONE_COMPARED,))]
    blocks += [Heading(2, ("Ranks over several tables",))]
    found = aggregates(current)
    blocks += [Prose(AGGREGATE)] if found else [Paragraph((TOO_FEW,))]
    for aggregate in found:
        blocks += _aggregate(aggregate, current)
    return blocks


def best_name(one: Best) -> Cell:
    """The one whose lead holds for new classes too, or that there is none."""
    if one.not_separable is None:
        return ("not known",)
    return ("none",) if one.not_separable else name(one.row)


def _best(found: Sequence[Best], tables: Sequence[Table]) -> Grid:
    digits = 2
    return Grid(
        ("data set", "split", "track", "setting", "best", "highest", "accuracy", TIED, NOT_SEPARABLE, "rows"),
        [
            (
                (Code(one.table.first.dataset),),
                _split(one.table, tables),
                track_name(one.table.track),
                (one.heading,),
                best_name(one),
                name(one.row),
                number(one.row.intervals[f"fewshot/{SETTINGS[one.heading]}"], digits),
                names(one.tied),
                names(one.not_separable or []),
                (str(one.among),),
            )
            for one in found
        ],
        leading=4,
    )


def _aggregate(aggregate: Aggregate, tables: Sequence[Table]) -> list[Block]:
    count = len(aggregate.counted)
    rows = [
        (
            _rank(list(place.ranks.values())),
            name(place.row),
            *(_rank([place.ranks[setting]] if place.ranks else []) for setting in AGGREGATED),
            _range(list(place.new_class_ranks.values())),
            (f"{place.tables} of {count}" + ("" if place.ranks else ", incomplete"),),
        )
        for place in aggregate.places
    ]
    headings = ("rank", "method", *(f"in {setting}" for setting in AGGREGATED), "new classes", "tables")
    title = ("Track ", Code(aggregate.preset), ", ", Code(aggregate.backbone), f", {count} tables")
    blocks: list[Block] = [
        Heading(3, title),
        Grid(headings, rows, leading=2),
        Paragraph(("Counted: ", *joined([_place(table, tables) for table in aggregate.counted]), ".")),
    ]
    if aggregate.left_out:
        left_out = joined([_place(table, tables) for table in aggregate.left_out])
        blocks.append(Paragraph(("Incomplete, as some of these methods have no row there: ", *left_out, ".")))
    return blocks


def _rank(ranks: Sequence[MeanRank]) -> Cell:
    """The mean of several mean ranks."""
    if not ranks:
        return NOTHING
    return (f"{sum(rank.value for rank in ranks) / len(ranks):.1f} ", *_range(ranks))


def _range(ranks: Sequence[MeanRank]) -> Cell:
    """The mean of the ends of several ranges."""
    if not ranks:
        return NOTHING
    _, first, last = (sum(column) / len(ranks) for column in zip(*ranks, strict=True))
    return (f"({first:.1f}–{last:.1f})",)


def names(rows: Sequence[Row]) -> Cell:
    """Of several rows: the first few, and how many more."""
    if not rows:
        return NOTHING
    more = len(rows) - MOST_NAMES
    return joined([*map(name, rows[:MOST_NAMES]), *([(f"{more} more",)] if more > 0 else [])])


def _place(table: Table, tables: Sequence[Table]) -> Cell:
    return (Code(table.first.dataset), " ", *_split(table, tables))


def _split(table: Table, tables: Sequence[Table]) -> Cell:
    """The split's name, with what tells it from others of that name: fingerprint or digest of the split."""
    first = table.first
    named = [one for one in tables if (one.first.dataset, one.first.split) == (first.dataset, first.split)]
    if len({one.section for one in named}) == 1:
        return (Code(first.split),)
    if len({one.first.fingerprint for one in named}) > 1:
        return (Code(first.split), " ", Code(first.fingerprint[:12]))
    digest = split_digest(first)
    return (Code(first.split), " ", Code(digest[:12]) if digest else "(digest not recorded)")
