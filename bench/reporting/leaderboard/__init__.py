"""The leaderboard: one document from the records, reproducible to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.common.files import check_output, read_text, write_files
from bench.config.run_config import BRIEF
from bench.records.store import Record, read_all
from bench.reporting import markdown, terminal
from bench.reporting.blocks import Block, Paragraph
from bench.reporting.frame import failures, frame
from bench.reporting.leaderboard import studies
from bench.reporting.leaderboard.document import document
from bench.reporting.ranking.rows import Row
from bench.reporting.ranking.tables import Table, is_shown, newest, tables_of


def blocks_of(records: Sequence[Record], directory: Path) -> list[Block]:
    """The leaderboard; its end counts what is not shown.

    Records that differ only in the seed form one row; of two with the same seed the later one counts.

    Args:
        records: in any order.
        directory: of their episode files. Rows whose files are missing are not compared, and their intervals
            over several seeds come from the records' intervals, which is slightly wider; a note says so.
    """
    tables = tables_of(records, directory)
    said = [Paragraph((text,))] if (text := hidden(records, tables)) else []
    return [*document(tables, studies.section(records, directory)), *failures(frame(records)), *said]


def read(directory: Path, own: bool = False) -> tuple[list[Block], list[str]]:
    """The leaderboard of all valid records of a folder, and one line per file that is not one.

    Args:
        directory: the folder.
        own: with the user's own runs, as `read_all`.

    Raises:
        UserError: if the folder cannot be read.
    """
    records, problems = read_all(directory, own)
    return blocks_of(records, directory), problems


def write(directory: Path, output: Path) -> list[str]:
    """Write the leaderboard of all valid records of a folder.

    Returns:
        One line per file of the folder that is not a valid record.

    Raises:
        UserError: if the folder cannot be read or the file cannot be written.
    """
    check_output(output, "--output")
    blocks, problems = read(directory)
    write_files({output: markdown.render(blocks).encode()}, "--output")
    return problems


def show(directory: Path) -> list[str]:
    """Print the leaderboard, with own runs, for a terminal of any width; otherwise as `write`."""
    blocks, problems = read(directory, own=True)
    terminal.show(blocks)
    return problems


def is_stale(directory: Path, output: Path) -> tuple[bool, list[str]]:
    """Whether the leaderboard file is missing or differs from what the records give.

    Returns:
        Also one line per file of the folder that is not a valid record.

    Raises:
        UserError: if the folder or the file cannot be read.
    """
    blocks, problems = read(directory)
    return read_text(output, "--output") != markdown.render(blocks), problems


def hidden(records: Sequence[Record], tables: Sequence[Table]) -> str:
    """Numbers of records without a row or column, or not in the summary; empty if none.

    Args:
        records: all records.
        tables: made from them.
    """
    shown = [record for record in records if is_shown(record)]
    smoke = sum(record.preset == BRIEF for record in records)
    rows = [row for table in tables for row in table.rows]
    counted = newest(tables)
    superseded = [row for table in tables if table not in counted for row in table.rows]
    without = [
        _some(smoke, "smoke run"),
        _some(len(records) - smoke - len(shown), "failed run"),
        _some(len(shown) - _runs(rows), "older run", "of a configuration and seed that ran again"),
        _some(sum(row.left_out for row in rows), "setting", "on other episodes than its column"),
    ]
    older = _some(_runs(superseded), "run", "of an older protocol version")
    parts = {"Not in the tables": filter(None, without), "Not in the summary": filter(None, [older])}
    return " ".join(f"{where}: {text}." for where, what in parts.items() if (text := ", ".join(what)))


def _runs(rows: Sequence[Row]) -> int:
    return sum(len(runs) for row in rows for runs in row.runs)


def _some(count: int, what: str, which: str = "") -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''} {which}".rstrip() if count else ""
