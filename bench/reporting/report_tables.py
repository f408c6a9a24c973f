"""The tables of the HTML report: those of the leaderboard, merged by kind, and all runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bench.records.store import Record
from bench.reporting import html_table
from bench.reporting.blocks import Cell, Grid, table, without_empty_columns
from bench.reporting.figures.rows import Section
from bench.reporting.frame import frame
from bench.reporting.leaderboard.cells import board, network_notes, track_name
from bench.reporting.leaderboard.generalized import joined
from bench.reporting.leaderboard.others import lines
from bench.reporting.leaderboard.overview import best_of_each
from bench.reporting.published import published
from bench.reporting.ranking.summary import newest
from bench.reporting.ranking.tables import Table
from bench.reporting.runs import runs

if TYPE_CHECKING:
    from pandas import DataFrame

BEST = "Best: its lead over every other row of the track also holds for new classes. Tied: for new episodes."
RESULTS = "Percent ± half of the 95% interval. Ranks are within a track; variations have none."
GENERALIZED = "Novel classes join the base classes, from a few support images each."
ASIDE = "As reported by their sources, with other episodes and budgets; not ranked with ours."


def tables(found: Sequence[Section], records: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """Identity of a table -> its title, and the table as HTML; only tables with rows."""
    boards = [one for section in found for one in section.tables]
    datasets = {section.first.dataset for section in found}
    protocols = len({one.first.protocol_version for one in boards}) > 1
    parts = {
        "best": ("The best of each track", BEST, best_of_each(newest(boards))),
        "results": (
            "Results",
            RESULTS + "".join(_networks(boards)),
            _together((board(one), _of(one, protocols)) for one in boards),
        ),
        "generalized": (
            "Base and novel classes jointly",
            GENERALIZED,
            _together(
                (cells, _where(section.first) | {"classes": (classes,)})
                for section in found
                for classes, cells in joined(section.tables).items()
            ),
        ),
        "published": ("Published by others", ASIDE, lines(r for r in published() if r.dataset in datasets)),
        "runs": ("Runs", "The exact command of every record.", runs(frame(records))),
    }
    return {
        identity: (title, html_table.table(identity, title, note, without_empty_columns(cells, leading=1)))
        for identity, (title, note, cells) in parts.items()
        if not cells.empty
    }


def _where(record: Record) -> dict[str, Cell]:
    return {"data set": (record.dataset,), "split": (record.split,)}


def _of(one: Table, protocol: bool) -> dict[str, Cell]:
    version = {"protocol": (str(one.first.protocol_version),)} if protocol else {}
    return _where(one.first) | {"track": track_name(one.track)} | version


def _together(parts: Iterable[tuple[DataFrame, dict[str, Cell]]]) -> DataFrame:
    """Tables concatenated, with columns for what the rows of each share; the method is first."""
    lines: list[dict[str, Cell]] = []
    for cells, shared in parts:
        grid = Grid(cells, 0)
        for row in grid.rows:
            line = dict(zip(grid.columns, row, strict=True))
            lines.append({"method": line["method"], **shared, **line})
    return table(lines)


def _networks(boards: Sequence[Table]) -> Iterable[str]:
    """Which rows use the same network, as HTML."""
    for one in boards:
        for note in network_notes(one):
            where = html_table.escape(f"{one.first.dataset} {one.first.split}")
            yield f"<br>{where}, {html_table.line(track_name(one.track))}, {html_table.line(note)}"
