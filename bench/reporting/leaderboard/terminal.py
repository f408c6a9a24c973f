"""Blocks in a terminal of any width; tables that are too wide for it are broken up."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.reporting.leaderboard.blocks import Block, Cell, Code, Commands, Grid, Heading, Paragraph, Prose
from bench.reporting.leaderboard.markdown import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

NARROWEST = 60
WIDEST_CELL = 36
GAP = 2
WHERE_COMMANDS_ARE = "The exact commands are in leaderboard.md; `python -m bench show RUN` has a run's."


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
        text.append(
            printable(" ".join(piece.split()) if isinstance(piece, Code) else piece),
            "cyan" if isinstance(piece, Code) else None,
        )
    return text


def _tables(grid: Grid, width: int) -> Iterator[RenderableType]:
    """The columns in as few tables as fit, each beginning with those that tell the rows apart."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = [[_text((heading,)), *map(_text, cells)] for heading, *cells in _columns(grid)]
    widest = min(WIDEST_CELL, width // 3)
    widths = [min(widest, max(text.cell_len for text in column)) for column in columns]
    for chosen in _broken_up(widths, grid.leading, width):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
        for i in chosen:
            table.add_column(columns[i][0], width=widths[i], overflow="fold")
        for cells in zip(*(columns[i][1:] for i in chosen), strict=True):
            table.add_row(*cells)
        yield table


def _columns(grid: Grid) -> Iterator[tuple]:
    yield from zip(grid.headings, *grid.rows, strict=True)


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
