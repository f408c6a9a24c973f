"""The tables of the HTML report."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.records.identity import name_of
from bench.records.tracks import cost, images_seen
from bench.reporting.figures.rows import Section
from bench.reporting.leaderboard.blocks import NOTHING, Cell, Code
from bench.reporting.leaderboard.cells import (
    NEW_CLASSES,
    TIME,
    cells,
    name,
    network_notes,
    number,
    track_name,
)
from bench.reporting.leaderboard.generalized import MEASURES, joins_of
from bench.reporting.leaderboard.markdown import printable
from bench.reporting.leaderboard.others import HEADINGS as PUBLISHED_HEADINGS
from bench.reporting.leaderboard.others import percent
from bench.reporting.leaderboard.overview import NOT_SEPARABLE, TIED, best_name, names
from bench.reporting.leaderboard.rows import SETTINGS
from bench.reporting.leaderboard.rows import Row as BoardRow
from bench.reporting.leaderboard.summary import best, newest
from bench.reporting.leaderboard.tables import Table
from bench.reporting.published import published

TEXT_COLUMNS = (
    "method",
    "best",
    "highest",
    "track",
    "pretraining",
    "kept step",
    "backbone",
    "data set",
    "split",
    "setting",
    "run",
    "date",
    "device",
)
"""Headings of columns that are not numbers, besides the wide ones."""

WIDE = ("marks", "command", "source", TIED, NOT_SEPARABLE)
"""Headings of columns whose text may be broken."""


class Value(NamedTuple):
    """A cell: what it shows, as HTML, and what it is sorted by; the empty string is sorted last."""

    shown: str
    order: str


class Line(NamedTuple):
    """A row of a table by heading, the first names it; and what the page's filter asks for."""

    dataset: str
    split: str
    values: dict[str, Value]


def escape(text: str) -> str:
    """Any text as HTML that shows it and does nothing."""
    return html.escape(printable(text))


def show(cell: Cell) -> str:
    """A cell of the leaderboard as HTML."""
    pieces = [f"<code>{escape(piece)}</code>" if isinstance(piece, Code) else escape(piece) for piece in cell]
    return "".join(pieces)


def text(value: str) -> Value:
    """A cell of text."""
    return Value(escape(value), value)


def of_cell(cell: Cell, order: float | str | None = None) -> Value:
    """A cell of the leaderboard, sorted by its text or by what is given."""
    if cell == NOTHING:
        return Value(show(cell), "")
    return Value(show(cell), "".join(cell) if order is None else str(order))


def table(identity: str, title: str, note: str, lines: Sequence[Line]) -> str:
    """A table that can be sorted and filtered; columns that say nothing are left out."""
    if not lines:
        return ""
    headings = [
        heading for heading in dict.fromkeys(h for line in lines for h in line.values)
        if any(line.values.get(heading, NONE).order for line in lines)
    ]  # fmt: skip
    head = "".join(
        f'<th scope="col"{_class(heading)}><button type="button">{escape(heading)}</button></th>'
        for heading in headings
    )
    body = "\n".join(_row(line, headings) for line in lines)
    return f"""<section aria-labelledby="{identity}">
<h2 id="{identity}">{escape(title)}</h2>
<p class="note">{note} <span id="{identity}-table-count" role="status">{len(lines)} rows</span></p>
<div class="scroll" role="region" aria-labelledby="{identity}" tabindex="0">
<table id="{identity}-table"><thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table>
</div>
</section>"""


NONE = Value("–", "")


def _class(heading: str) -> str:
    if heading in WIDE:
        return ' class="wide"'
    return "" if heading in TEXT_COLUMNS else ' class="number"'


def _row(line: Line, headings: Sequence[str]) -> str:
    parts = [f'<tr data-dataset="{escape(line.dataset)}" data-split="{escape(line.split)}">']
    for position, heading in enumerate(headings):
        value = line.values.get(heading, NONE)
        tag, extra = ("td", _class(heading)) if position else ("th", ' scope="row"')
        parts.append(f'<{tag}{extra} data-value="{escape(value.order)}">{value.shown}</{tag}>')
    return "".join([*parts, "</tr>"])


def best_lines(tables: Sequence[Table]) -> list[Line]:
    """The best row of each track and setting, and those that are not separable from it."""
    lines = []
    for one in best(newest(tables)):
        first = one.table.first
        interval = one.row.intervals[f"fewshot/{SETTINGS[one.heading]}"]
        values = {
            "best": of_cell(best_name(one)),
            **_where(first.dataset, first.split),
            "track": of_cell(track_name(one.table.track)),
            "setting": text(one.heading),
            "highest": of_cell(name(one.row)),
            "accuracy": of_cell(number(interval, 2), interval.value),
            TIED: of_cell(names(one.tied)),
            NOT_SEPARABLE: of_cell(names(one.not_separable or [])),
            "among": Value(str(one.among), str(one.among)),
        }
        lines.append(Line(first.dataset, first.split, values))
    return lines


def _where(dataset: str, split: str) -> dict[str, Value]:
    return {"data set": text(dataset), "split": text(split)}


def result_lines(tables: Sequence[Table]) -> list[Line]:
    """Every row of every table."""
    lines = []
    for one in tables:
        for row in one.rows:
            first = row.first
            found = cells(row, one)
            values = {
                "method": of_cell(found["method"]),
                **_where(first.dataset, first.split),
                "track": of_cell(track_name(one.track)),
            }
            if len({table.first.protocol_version for table in tables}) > 1:
                values["protocol"] = Value(str(first.protocol_version), str(first.protocol_version))
            orders = _orders(row, one)
            values |= {h: of_cell(cell, orders.get(h)) for h, cell in found.items() if h != "method"}
            lines.append(Line(first.dataset, first.split, values))
    return lines


def network_lines(tables: Sequence[Table]) -> str:
    """Which rows answer with the same network, as HTML."""
    notes = [
        f"{escape(f'{one.first.dataset} {one.first.split}')}, {show(track_name(one.track))}, {show(note)}"
        for one in tables
        for note in network_notes(one)
    ]
    return "".join(f"<br>{note}" for note in notes)


def _orders(row: BoardRow, table: Table) -> dict[str, float]:
    """Heading -> number that a column is sorted by."""
    orders: dict[str, float] = {
        heading: row.intervals[key].value
        for heading, (key, _) in table.columns.items()
        if key in row.intervals
    }
    if rank := row.ranks.get(table.ranked_by):
        orders["rank"] = rank.first
    if new_classes := row.new_class_ranks.get(table.ranked_by):
        orders[NEW_CLASSES] = new_classes.first
    if spent := cost(row.records):
        orders[TIME] = spent.seconds
    orders["images"] = images_seen(row.first) or 0
    return orders | {"seeds": len(row.records), "parameters": row.first.parameters}


def generalized_lines(tables: Sequence[Table]) -> list[Line]:
    """Novel classes that join the base classes: a line for each row, number of classes and shots."""
    lines = []
    for one in tables:
        for row in one.rows:
            for base, new, shots in joins_of(row):
                classes = f"{base}+{new}"
                found = {
                    part: row.intervals.get(f"generalized/{classes}/{shots}s/{part}") for part in MEASURES
                }
                found["before"] = row.intervals.get(f"generalized/{classes}/0s/base")
                values = {
                    "method": of_cell(name(row)),
                    **_where(row.first.dataset, row.first.split),
                    **{
                        heading: Value(str(count), str(count))
                        for heading, count in (("base classes", base), ("joining", new), ("shots", shots))
                    },
                    **{part: of_cell(number(own, 1), own and own.value) for part, own in found.items()},
                }
                lines.append(Line(row.first.dataset, row.first.split, values))
    return lines


def published_lines(sections: Sequence[Section]) -> list[Line]:
    """What others published on the data sets of the records."""
    datasets = {section.first.dataset for section in sections}
    lines = []
    for one in published():
        if one.dataset not in datasets:
            continue
        numbers = {
            heading: Value(escape(percent(own)), own[0])
            for key, heading in PUBLISHED_HEADINGS.items()
            if (own := one.values.get(key))
        }
        values = {
            "method": text(one.method),
            "backbone": text(one.backbone),
            **_where(one.dataset, one.split),
        }
        values |= {heading: numbers.get(heading, NONE) for heading in PUBLISHED_HEADINGS.values()}
        values |= {"setting": text(one.setting), "source": text(one.source)}
        lines.append(Line(one.dataset, one.split, values))
    return lines


def run_lines(tables: Iterable[Table]) -> list[Line]:
    """Every record that counts, with its exact command."""
    lines = []
    for record in (run for one in tables for row in one.rows for runs in row.runs for run in runs):
        accuracy = record.metrics.get("fewshot/5w1s")
        command = f"<pre><code>{escape_lines(record.command)}</code></pre>"
        values = {
            "run": text(record.run_id),
            "method": text(name_of(record)),
            **_where(record.dataset, record.split),
            "seed": Value(str(record.seed), str(record.seed)),
            "5w1s": Value(f"{100 * accuracy.value:.2f}", str(accuracy.value)) if accuracy else NONE,
            "date": text(f"{record.created:%Y-%m-%d %H:%M}"),
            "device": text(record.environment.device),
            "command": Value(f"<details><summary>show</summary>{command}</details>", record.command),
        }
        lines.append(Line(record.dataset, record.split, values))
    return lines


def escape_lines(value: str) -> str:
    """As `escape`, but lines stay lines."""
    return html.escape(printable(value, "\n\t"))
