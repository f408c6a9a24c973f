"""Runs that failed: named, so that nobody takes the seeds that are left for all that were tried."""

from __future__ import annotations

from collections.abc import Iterable

from bench.records.identity import name_of
from bench.records.store import Record
from bench.reporting.leaderboard.blocks import Block, Cell, Code, Grid, Heading, Prose
from bench.reporting.leaderboard.tables import HIDDEN_PRESET

NOTE = Prose("They have no numbers and no rank. Where other seeds of a row have, the row is of those alone.")


def failures(records: Iterable[Record]) -> list[Block]:
    """A table of the runs that failed; nothing if none did."""
    rows: list[list[Cell]] = [
        [
            (Code(name_of(record)),),
            (Code(record.backbone),),
            (Code(record.dataset), " ", Code(record.split)),
            (str(record.seed),),
            (record.failure,),
            (f"{record.created:%Y-%m-%d}",),
        ]
        for record in sorted(records, key=lambda record: record.run_id)
        if record.failure is not None and record.preset != HIDDEN_PRESET
    ]
    headings = ["method", "backbone", "data set, split", "seed", "what happened", "date"]
    return [Heading(2, ("Failed runs",)), NOTE, Grid(headings, rows, 1)] if rows else []
