"""Shows blocks and tables in a terminal; tables that are too wide are split."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.common.errors import one_line, printable
from bench.reporting.blocks import Block, Cell, Code, Commands, Grid, Heading, Paragraph, Prose

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

NARROWEST = 60
WIDEST_CELL = 36
GAP = 1  # additional space between columns
ANY_WIDTH = 100_000
WHERE_COMMANDS_ARE = "The exact commands are in leaderboard.md; `python -m bench show RUN` prints one."


def show(blocks: Sequence[Block]) -> None:
    """Print the document to stdout."""
    from rich.console import Console

    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    for block in blocks:
        for part in _parts(block, max(console.width, NARROWEST)):
            console.print(part)
            console.print()
    if any(isinstance(block, Commands) for block in blocks):
        console.print(WHERE_COMMANDS_ARE)


def text(rows: Sequence[Mapping[str, Any]], widest: Mapping[str, int] | None = None) -> str:
    """Rows with the same headings as an aligned table of any width.

    Args:
        rows: heading -> value; the first has all headings.
        widest: heading -> width at which the column is wrapped.
    """
    from rich.console import Console

    if not rows:
        return "(none)"
    columns = {heading: [_text((str(row.get(heading, "")),)) for row in rows] for heading in rows[0]}
    console = Console(width=ANY_WIDTH, color_system=None, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(_table(columns, widest or {}))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _parts(block: Block, width: int) -> Iterator[RenderableType]:
    match block:
        case Heading(_, text):
            yield _text(text, "bold")
        case Paragraph(text):
            yield _text(text)
        case Prose(markdown):
            from rich.markdown import Markdown

            yield Markdown(markdown)
        case Grid():
            yield from _tables(block, width)


def _text(cell: Cell, style: str = "") -> Text:
    from rich.text import Text

    text = Text(style=style, overflow="fold")
    for piece in cell:
        is_code = isinstance(piece, Code)
        text.append(one_line(piece) if is_code else printable(piece), "cyan" if is_code else None)
    return text


def _table(columns: Mapping[str, Iterable[Text]], widest: Mapping[str, int]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
    for heading in columns:
        table.add_column(_text((heading,)), max_width=widest.get(heading), overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _tables(grid: Grid, width: int) -> Iterator[RenderableType]:
    """The columns in as few tables as fit, each starting with the columns that identify the rows."""
    columns = {heading: list(map(_text, cells)) for heading, cells in grid.columns.items()}
    widest = min(WIDEST_CELL, width // 3)
    widths = {
        heading: min(widest, max(len(heading), *(text.cell_len for text in column)))
        for heading, column in columns.items()
    }
    headings = list(columns)
    for chosen in _broken_up(list(widths.values()), grid.leading, width):
        yield _table({headings[i]: columns[headings[i]] for i in chosen}, widths)


def _broken_up(widths: Sequence[int], leading: int, width: int) -> list[list[int]]:
    """Positions of the columns of each table."""
    start = list(range(leading))
    tables, used = [list(start)], 0
    for i in range(leading, len(widths)):
        used += GAP + 1 + widths[i]
        if len(tables[-1]) > leading and sum(widths[:leading]) + leading * (GAP + 1) + used > width:
            tables.append(list(start))
            used = GAP + 1 + widths[i]
        tables[-1].append(i)
    return tables
