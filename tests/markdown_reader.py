"""Markdown as an independent reader of it shows it."""

import html
import re

from markdown_it import MarkdownIt


def as_html(markdown: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(markdown)


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


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))
