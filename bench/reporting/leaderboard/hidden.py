"""Counts what the tables leave out, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.store import Record
from bench.reporting.ranking.rows import Row, without_misnamed_settings
from bench.reporting.ranking.summary import newest
from bench.reporting.ranking.tables import HIDDEN_PRESET, Table, is_shown


def hidden(records: Sequence[Record], tables: Sequence[Table]) -> str:
    """Numbers of records without a row or column, or not in the summary; empty if none.

    Args:
        records: all records.
        tables: made from them.
    """
    shown = [record for record in records if is_shown(record)]
    smoke = sum(record.preset == HIDDEN_PRESET for record in records)
    rows = [row for table in tables for row in table.rows]
    misnamed = sum(len(record.episodes) - len(without_misnamed_settings(record).episodes) for record in shown)
    counted = newest(tables)
    superseded = [row for table in tables if table not in counted for row in table.rows]
    without = [
        _some(smoke, "smoke run"),
        _some(len(records) - smoke - len(shown), "failed run"),
        _some(len(shown) - _runs(rows), "older run", "of a configuration and seed that ran again"),
        _some(misnamed + sum(row.left_out for row in rows), "setting", "on other episodes than its column"),
    ]
    older = _some(_runs(superseded), "run", "of an older protocol version")
    parts = {"Not in the tables": filter(None, without), "Not in the summary": filter(None, [older])}
    return " ".join(f"{where}: {text}." for where, what in parts.items() if (text := ", ".join(what)))


def _runs(rows: Sequence[Row]) -> int:
    return sum(len(runs) for row in rows for runs in row.runs)


def _some(count: int, what: str, which: str = "") -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''} {which}".rstrip() if count else ""
