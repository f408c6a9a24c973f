"""Blocks as Markdown, in which no text of a record becomes markup, link or HTML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from bench.reporting.leaderboard.blocks import Block, Cell, Code, Commands, Grid, Heading, Paragraph, Prose

MARKUP = re.compile(r"[\\`*_\[\]~$]")
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {line(text)}"
        case Paragraph(text):
            return line(text)
        case Prose(markdown):
            return markdown
        case Grid():
            return _table(block)
        case Commands(of_rows):
            return _commands(of_rows)


def line(text: Cell) -> str:
    """Pieces of one line as Markdown."""
    return "".join(code(piece) if isinstance(piece, Code) else plain(piece) for piece in text)


def plain(text: str) -> str:
    """Text that is shown as it is written."""
    return MARKUP.sub(r"\\\g<0>", text.translate(HTML))


def code(text: str) -> str:
    """Any text as a code span."""
    text = " ".join(printable(text, " \t\n").split()) or "–"
    fence = "`" * (_longest_backticks(text) + 1)
    pad = " " if "`" in text[0] + text[-1] else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def printable(text: str, keep: str = "") -> str:
    """Control and direction-changing characters written out, e.g. ``\\x1b``, but for those to `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _longest_backticks(text: str) -> int:
    return max((len(list(run)) for tick, run in itertools.groupby(text) if tick == "`"), default=0)


def _table(grid: Grid) -> str:
    rows = [list(grid.headings), *([_cell(cell) for cell in row] for row in grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    lines.insert(1, f"|{'|'.join(':' + '-' * (width + 1) for width in widths)}|")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    # A bar would end the cell, even inside a code span; a number stays in one line with its interval.
    return line(cell).replace("|", "\\|").replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _commands(of_rows: Sequence[tuple[Cell, str]]) -> str:
    parts = ["<details>\n<summary>The exact command of every row</summary>"]
    for title, text in of_rows:
        commands = printable(text, "\n\t")
        fence = "`" * max(3, _longest_backticks(commands) + 1)
        parts.append(f"{line(title)}:\n\n{fence}sh\n{commands}\n{fence}")
    return "\n\n".join([*parts, "</details>"])
