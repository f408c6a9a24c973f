"""Renders tables as HTML, which the page's script sorts and filters; text of records is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping

from bench.common.errors import printable
from bench.reporting.blocks import NOTHING, Cell, Code, Grid, Listing, Number

WIDE = 40
"""A column with a longer text may be wrapped."""


def escape(text: str) -> str:
    """Any text as escaped HTML; line breaks are kept."""
    return html.escape(printable(text, "\n\t"))


def line(cell: Cell) -> str:
    """Pieces of one line as HTML."""
    return "".join(map(_piece, cell))


def _piece(piece: str) -> str:
    match piece:
        case Listing():
            return f"<details><summary>show</summary><pre><code>{escape(piece)}</code></pre></details>"
        case Code():
            return f"<code>{escape(piece)}</code>"
    return escape(piece)


def table(identity: str, title: str, note: str, grid: Grid, hints: Mapping[str, str]) -> str:
    """A table that can be sorted, and filtered by its columns ``data set`` and ``split``.

    Args:
        identity: id of the section; the id of the table starts with it.
        title: its heading.
        note: HTML below the heading.
        grid: the table; its first column names the row.
        hints: heading -> what it means, shown when the pointer is on it.
    """
    classes = {heading: _class(cells) for heading, cells in grid.columns.items()}
    head = "".join(
        f'<th scope="col"{own}><button type="button"{_hint(hints.get(name))}>{escape(name)}</button></th>'
        for name, own in classes.items()
    )
    body = "\n".join(_row(dict(zip(classes, row, strict=True)), classes) for row in grid.rows)
    return f"""<section aria-labelledby="{identity}">
<h2 id="{identity}">{escape(title)}</h2>
<p class="note">{note} <span id="{identity}-table-count" role="status">{len(grid.rows)} rows</span></p>
<div class="scroll" role="region" aria-labelledby="{identity}" tabindex="0">
<table id="{identity}-table"><thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table>
</div>
</section>"""


def _hint(text: str | None) -> str:
    return f' title="{escape(text)}"' if text else ""


def _class(cells: list[Cell]) -> str:
    if all(isinstance(cell, Number) or cell == NOTHING for cell in cells):
        return ' class="number"'
    return ' class="wide"' if any(len("".join(cell)) > WIDE for cell in cells) else ""


def _row(row: dict[str, Cell], classes: dict[str, str]) -> str:
    # The name comes first; a digest of the split may follow.
    parts = [f'<tr data-dataset="{escape(row["data set"][0])}" data-split="{escape(row["split"][0])}">']
    for position, (heading, cell) in enumerate(row.items()):
        tag, extra = ("td", classes[heading]) if position else ("th", ' scope="row"')
        parts.append(f'<{tag}{extra} data-value="{escape(_order(cell))}">{line(cell)}</{tag}>')
    return "".join([*parts, "</tr>"])


def _order(cell: Cell) -> str:
    """The sort value of a cell; the empty string is last."""
    if isinstance(cell, Number):
        return str(cell.order)
    return "" if cell == NOTHING else "".join(cell)
