"""The leaderboard's Markdown as an independent reader of Markdown shows it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import markdown_reader
from markdown_reader import plain
from record_factory import metric, record_fields

from bench.records.store import Record
from bench.reporting import leaderboard
from bench.reporting import markdown as as_markdown
from bench.reporting.ranking.rows import COLUMNS

NOWHERE = Path("/nowhere/results")


def render(records: Iterable[Record], directory: Path = NOWHERE) -> str:
    """The leaderboard of these records as Markdown."""
    return as_markdown.render(leaderboard.blocks_of(list(records), directory))


def own(markdown: str) -> str:
    """Without the published results at the end, which are most of a small leaderboard."""
    return markdown.split("## Published, without a row of ours")[0].replace("\N{NO-BREAK SPACE}", " ")


def as_html(markdown: str) -> str:
    return markdown_reader.as_html(own(markdown))


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """Every table of records: rows of heading to HTML."""
    return markdown_reader.tables(own(markdown))


def with_columns(markdown: str, *headings: str) -> list[list[dict[str, str]]]:
    """The tables that have these columns."""
    return [table for table in tables(markdown) if table and set(headings) <= set(table[0])]


def boards(markdown: str) -> list[list[dict[str, str]]]:
    """The tables of records."""
    return with_columns(markdown, "seeds", "date")


def column(table: list[dict[str, str]], heading: str) -> list[str]:
    return [plain(row[heading]) for row in table]


def with_metrics(values: dict[str, float]) -> dict[str, Any]:
    """The factory's metrics, those under the given headings replaced."""
    replaced = {COLUMNS[heading][0]: metric(value) for heading, value in values.items()}
    return record_fields()["metrics"] | replaced
