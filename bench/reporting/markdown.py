"""Renders blocks as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.common.errors import printable
from bench.common.markdown import code, longest_backticks, plain, table
from bench.reporting.blocks import Block, Cell, Code, Commands, Grid, Heading, Paragraph, Prose


def render(blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {line(text)}"
        case Paragraph(text):
            return line(text)
        case Prose(markdown):
            return markdown
        case Grid():
            return table(list(block.columns), [map(line, row) for row in block.rows])
        case Commands(of_rows):
            return _commands(of_rows)


def line(text: Cell) -> str:
    """Pieces of one line as Markdown."""
    return "".join(code(piece) if isinstance(piece, Code) else plain(piece) for piece in text)


def _commands(of_rows: Sequence[tuple[Cell, str]]) -> str:
    parts = ["<details>\n<summary>The exact command of every row</summary>"]
    for title, text in of_rows:
        commands = printable(text, "\n\t")
        fence = "`" * max(3, longest_backticks(commands) + 1)
        parts.append(f"{line(title)}:\n\n{fence}sh\n{commands}\n{fence}")
    return "\n\n".join([*parts, "</details>"])
