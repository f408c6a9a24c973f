"""A document as blocks, which become Markdown, HTML or terminal text, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.records.parts import Metric
    from bench.statistics import Interval


class Code(str):
    """A name, value or command: shown verbatim, in a code style."""

    __slots__ = ()


class Listing(Code):
    """Code of several lines, which a page shows on demand."""

    __slots__ = ()


Cell = tuple[str, ...]
"""Pieces of one line: plain text and `Code`, without markup."""

NOTHING: Cell = ("–",)
"""The cell of a missing number."""


class Number(tuple[str, ...]):
    """A cell that is sorted as a number."""

    order: float

    def __new__(cls, text: str, order: float) -> Number:
        """A cell that shows `text`."""
        cell = super().__new__(cls, (text,))
        cell.order = order
        return cell


def number(interval: Interval | Metric | None, digits: int = 2) -> Cell:
    """Percent ± the distance to the interval's farther end."""
    return NOTHING if interval is None else percent(interval.value, interval.low, interval.high, digits)


def percent_text(interval: Interval | Metric | None, digits: int = 2) -> str:
    """`number` as text: ``73.21 ± 0.18``, or a dash."""
    return "".join(number(interval, digits))


def percent(value: float, low: float, high: float, digits: int = 2) -> Number:
    """``73.21 ± 0.18``, of fractions."""
    half = max(value - low, high - value)
    return Number(f"{100 * value:.{digits}f} ± {100 * half:.{digits}f}", value)


def duration(seconds: float) -> str:
    """Duration as text: ``54 s``, ``9 min 54 s``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter_count(count: int) -> str:
    """Count as text: ``640``, ``113 k``, ``2.0 M``."""
    if count >= 999_500:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.0f} k" if count >= 1000 else str(count)


class Heading(NamedTuple):
    """A heading of level 1 to 4."""

    level: int
    text: Cell


class Paragraph(NamedTuple):
    """A paragraph."""

    text: Cell


class Prose(NamedTuple):
    """Our own text, as Markdown."""

    markdown: str


class Grid(NamedTuple):
    """A table.

    Attributes:
        cells: a DataFrame of `Cell`; its columns are the headings.
        leading: number of columns that identify a row; they are repeated if the table is split.
    """

    cells: DataFrame
    leading: int

    @property
    def columns(self) -> dict[str, list[Cell]]:
        """Heading -> cells from top to bottom."""
        return {str(heading): list(column) for heading, column in self.cells.items()}

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells of each row."""
        return list(self.cells.itertuples(index=False, name=None))


class Commands(NamedTuple):
    """The exact commands of the rows of a table: (row, commands), shown on demand."""

    of_rows: Sequence[tuple[Cell, str]]


Block = Heading | Paragraph | Prose | Grid | Commands


def table(rows: Iterable[Mapping[str, Cell]]) -> DataFrame:
    """Rows (heading -> cell) as a table; missing cells are `NOTHING`."""
    from pandas import DataFrame

    lines = list(rows)
    headings = dict.fromkeys(heading for line in lines for heading in line)
    return DataFrame({heading: [line.get(heading, NOTHING) for line in lines] for heading in headings})


def without_empty_columns(cells: DataFrame, leading: int) -> Grid:
    """A table without empty columns."""
    whole = Grid(cells, leading).columns.items()
    said = [i < leading or any(cell != NOTHING for cell in own) for i, (_, own) in enumerate(whole)]
    return Grid(cells.loc[:, said], leading)
