"""A document as blocks: what is said, apart from how Markdown or a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Code(str):
    """A name, value or command as somebody wrote it: shown as it stands, and set off from the text."""

    __slots__ = ()


Cell = tuple[str, ...]
"""Pieces of one line: plain text and `Code`. Nothing in them is markup."""


class Heading(NamedTuple):
    """A heading of level 1 to 4."""

    level: int
    text: Cell


class Paragraph(NamedTuple):
    """A paragraph."""

    text: Cell


class Prose(NamedTuple):
    """Paragraphs and lists of our own, as Markdown."""

    markdown: str


class Grid(NamedTuple):
    """A table.

    Attributes:
        headings: of the columns.
        rows: of cells, as many as headings.
        leading: how many columns tell which row it is; they are repeated where a table is broken up.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    leading: int


class Commands(NamedTuple):
    """The exact commands behind the rows of a table: (which row, commands), shown when asked for."""

    of_rows: Sequence[tuple[Cell, str]]


Block = Heading | Paragraph | Prose | Grid | Commands


def without_empty_columns(headings: Sequence[str], rows: Sequence[Sequence[Cell]], leading: int) -> Grid:
    """A table without the columns that say nothing in any row."""
    kept = [i for i in range(len(headings)) if i < leading or any(row[i] != NOTHING for row in rows)]
    return Grid([headings[i] for i in kept], [[row[i] for i in kept] for row in rows], leading)


NOTHING: Cell = ("–",)
"""The cell of a number that a row does not have."""
