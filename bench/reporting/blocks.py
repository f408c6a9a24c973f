"""A document as blocks: what it says, apart from how Markdown, HTML or a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pandas import DataFrame


class Code(str):
    """A name, value or command as somebody wrote it: shown verbatim, and set off from the text."""

    __slots__ = ()


class Listing(Code):
    """Code of several lines, which a page shows when asked for."""

    __slots__ = ()


Cell = tuple[str, ...]
"""Pieces of one line: plain text and `Code`. Nothing in them is markup."""

NOTHING: Cell = ("–",)
"""The cell of a number that a row does not have."""


class Number(tuple[str, ...]):
    """A cell that a table is sorted by as a number."""

    order: float

    def __new__(cls, text: str, order: float) -> Number:
        """A cell that shows `text`."""
        cell = super().__new__(cls, (text,))
        cell.order = order
        return cell


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
        cells: a `Cell` in each place; its columns are the headings.
        leading: how many columns identify a row; they are repeated where a table is broken up.
    """

    cells: DataFrame
    leading: int

    @property
    def columns(self) -> dict[str, list[Cell]]:
        """Heading -> cells, from the top."""
        return {str(heading): list(column) for heading, column in self.cells.items()}

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells of each row."""
        return list(self.cells.itertuples(index=False, name=None))


class Commands(NamedTuple):
    """The exact commands behind the rows of a table: (which row, commands), shown when asked for."""

    of_rows: Sequence[tuple[Cell, str]]


Block = Heading | Paragraph | Prose | Grid | Commands


def table(rows: Iterable[Mapping[str, Cell]]) -> DataFrame:
    """Rows of heading to cell as a table; a cell that a row lacks is `NOTHING`."""
    from pandas import DataFrame

    lines = list(rows)
    headings = dict.fromkeys(heading for line in lines for heading in line)
    return DataFrame({heading: [line.get(heading, NOTHING) for line in lines] for heading in headings})


def without_empty_columns(cells: DataFrame, leading: int) -> Grid:
    """A table without the columns that say nothing in any row."""
    whole = Grid(cells, leading).columns.items()
    said = [i < leading or any(cell != NOTHING for cell in own) for i, (_, own) in enumerate(whole)]
    return Grid(cells.loc[:, said], leading)
