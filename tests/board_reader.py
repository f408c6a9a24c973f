"""The leaderboard's Markdown as an independent reader of Markdown shows it."""

import html
import re
from typing import Any

from markdown_it import MarkdownIt
from record_factory import metric, record_fields

from bench.leaderboard import COLUMNS


def as_html(markdown: str) -> str:
    """Without the published results at the end, which are most of a small leaderboard."""
    own = markdown.split("## Published, without a row of ours")[0].replace("\N{NO-BREAK SPACE}", " ")
    return MarkdownIt("commonmark").enable("table").render(own)


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """Every table: rows of heading to HTML."""
    found = []
    for table in re.findall(r"<table>(.*?)</table>", as_html(markdown), re.DOTALL):
        rows = [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        found.append([dict(zip(rows[0], row, strict=True)) for row in rows[1:]])
    return found


def with_columns(markdown: str, *headings: str) -> list[list[dict[str, str]]]:
    """The tables that have these columns."""
    return [table for table in tables(markdown) if table and set(headings) <= set(table[0])]


def boards(markdown: str) -> list[list[dict[str, str]]]:
    """The tables of records."""
    return with_columns(markdown, "rank", "seeds")


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def column(table: list[dict[str, str]], heading: str) -> list[str]:
    return [plain(row[heading]) for row in table]


def with_metrics(values: dict[str, float]) -> dict[str, Any]:
    """The factory's metrics, those under the given headings replaced."""
    replaced = {COLUMNS[heading][0]: metric(value) for heading, value in values.items()}
    return record_fields()["metrics"] | replaced
