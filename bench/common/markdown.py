"""Text as Markdown: it is escaped and cannot become markup, link or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.common.errors import printable

MARKUP = re.compile(r"[\\`*_\[\]~$]")
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
NARROW = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


def plain(text: str) -> str:
    """Text with markup escaped."""
    return MARKUP.sub(r"\\\g<0>", printable(text, "\n\t").translate(HTML))


def code(text: str) -> str:
    """Any text as a code span."""
    text = " ".join(printable(text, " \t\n").split()) or "–"
    fence = "`" * (longest_backticks(text) + 1)
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


def longest_backticks(text: str) -> int:
    """Length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
