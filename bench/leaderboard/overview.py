"""The summary on top: the best of each table, and ranks over several tables."""

from __future__ import annotations

from collections.abc import Sequence

from bench.leaderboard.blocks import NOTHING, Block, Cell, Code, Grid, Heading, Paragraph, Prose
from bench.leaderboard.cells import joined, name, number
from bench.leaderboard.rows import SETTINGS
from bench.leaderboard.summary import AGGREGATED, Aggregate, Best, MeanRank, aggregates, best, newest
from bench.leaderboard.tables import Table

MOST_NAMES = 4

BEST = """\
The highest accuracy of each table, and the methods tied with it: those that none is significantly better
than. Rows with external data, transductive and untrained ones are not among them. *rows*: how many were
compared on the same episodes."""
AGGREGATE = """\
The mean of a method's ranks over the tables in which all these methods have a row, and in brackets what the
tests leave open; overlapping brackets are ties. *incomplete*: not in all of those tables, so not ranked."""
NONE_COMPARED = "No two rows of a table answered the same episodes."
TOO_FEW = "None yet: it takes two methods of one preset that both have a row in the same two tables."


def overview(tables: Sequence[Table]) -> list[Block]:
    """Blocks of the summary; of several protocols the newest counts."""
    if not tables:
        return [Paragraph(("No results yet.",))]
    current = newest(tables)
    blocks: list[Block] = [Heading(2, ("The best of each table",))]
    best_rows = best(current)
    blocks += [Prose(BEST), _best(best_rows, current)] if best_rows else [Paragraph((NONE_COMPARED,))]
    blocks += [Heading(2, ("Ranks over several tables",))]
    found = aggregates(current)
    blocks += [Prose(AGGREGATE)] if found else [Paragraph((TOO_FEW,))]
    for aggregate in found:
        blocks += _aggregate(aggregate, current)
    return blocks


def _best(found: Sequence[Best], tables: Sequence[Table]) -> Grid:
    digits = 2
    return Grid(
        ("data set", "split", "setting", "best", "accuracy", "tied with it", "rows"),
        [
            (
                (Code(one.table.first.dataset),),
                _split(one.table, tables),
                (one.heading,),
                name(one.row),
                number(one.row.intervals[f"fewshot/{SETTINGS[one.heading]}"], digits),
                _names([name(row) for row in one.tied]),
                (str(one.among),),
            )
            for one in found
        ],
        leading=3,
    )


def _aggregate(aggregate: Aggregate, tables: Sequence[Table]) -> list[Block]:
    count = len(aggregate.counted)
    rows = [
        (
            _rank(list(place.ranks.values())),
            name(place.row),
            *(_rank([place.ranks[setting]] if place.ranks else []) for setting in AGGREGATED),
            (f"{place.tables} of {count}" + ("" if place.ranks else ", incomplete"),),
        )
        for place in aggregate.places
    ]
    headings = ("rank", "method", *(f"in {setting}" for setting in AGGREGATED), "tables")
    blocks: list[Block] = [
        Heading(3, ("Preset ", Code(aggregate.preset), f", {count} tables")),
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
    value, first, last = (sum(column) / len(ranks) for column in zip(*ranks, strict=True))
    return (f"{value:.1f} ({first:.1f}–{last:.1f})",)


def _names(names: Sequence[Cell]) -> Cell:
    if not names:
        return NOTHING
    more = len(names) - MOST_NAMES
    return joined([*names[:MOST_NAMES], *([(f"{more} more",)] if more > 0 else [])])


def _place(table: Table, tables: Sequence[Table]) -> Cell:
    return (Code(table.first.dataset), " ", *_split(table, tables))


def _split(table: Table, tables: Sequence[Table]) -> Cell:
    """The split's name, with the fingerprint where the names alone do not tell which table it is."""
    first = table.first
    alike = sum((t.first.dataset, t.first.split) == (first.dataset, first.split) for t in tables)
    return (Code(first.split), *((" ", Code(first.fingerprint[:12])) if alike > 1 else ()))
