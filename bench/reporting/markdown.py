"""Renders blocks as Markdown; text of records is escaped and cannot become markup, link or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.common.errors import printable
from bench.reporting.blocks import Block, Cell, Code, Commands, Grid, Heading, Paragraph, Prose

MARKUP = re.compile(r"[\\`*_\[\]~$]")
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
NARROW = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


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


def plain(text: str) -> str:
    """Text with markup escaped."""
    return MARKUP.sub(r"\\\g<0>", printable(text, "\n\t").translate(HTML))


def code(text: str) -> str:
    """Any text as a code span."""
    text = " ".join(printable(text, " \t\n").split()) or "–"
    fence = "`" * (_longest_backticks(text) + 1)
    pad = " " if "`" in text[0] + text[-1] else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown cells."""
    import tabulate

    tabulate.WIDE_CHARS_MODE = False  # otherwise widths depend on installed packages
    tabulate.MIN_PADDING = 0
    cells = [[_cell(cell) for cell in row] for row in rows]
    return tabulate.tabulate(cells, headings, tablefmt="pipe", disable_numparse=True)


def _cell(text: str) -> str:
    # A bar would end the cell, even in a code span. A number stays on one line with its interval.
    return " ".join(text.split()).replace("|", "\\|").replace(" ± ", NARROW)


def _longest_backticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _commands(of_rows: Sequence[tuple[Cell, str]]) -> str:
    parts = ["<details>\n<summary>The exact command of every row</summary>"]
    for title, text in of_rows:
        commands = printable(text, "\n\t")
        fence = "`" * max(3, _longest_backticks(commands) + 1)
        parts.append(f"{line(title)}:\n\n{fence}sh\n{commands}\n{fence}")
    return "\n\n".join([*parts, "</details>"])
