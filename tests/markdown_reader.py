"""Markdown as an independent reader of it shows it."""

import functools
import html
import re

from markdown_it import MarkdownIt


@functools.cache
def as_html(markdown: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(markdown)


def cells(markdown: str) -> list[list[list[str]]]:
    """Every table: its rows, the headings first, as the HTML of their cells."""
    return [
        [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table>(.*?)</table>", as_html(markdown), re.DOTALL)
    ]


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """Every table: rows of heading to HTML."""
    return [[dict(zip(headings, row, strict=True)) for row in rows] for headings, *rows in cells(markdown)]


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))
