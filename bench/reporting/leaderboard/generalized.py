"""Tables of generalized accuracy: novel classes that join the base classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.records import identity
from bench.records.naming import JOINED, JOINT, join
from bench.reporting.blocks import (
    NOTHING,
    Block,
    Cell,
    Heading,
    Number,
    Prose,
    number,
    table,
    without_empty_columns,
)
from bench.reporting.leaderboard.cells import name
from bench.reporting.published import as_printed, published
from bench.reporting.ranking.rows import Row, joins_of
from bench.reporting.ranking.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

DIGITS = 1

LEGEND = """\
Novel classes join the base classes from a few support images each, and all are classified jointly:
accuracy on the joined classes (*novel*), on the base classes (*base*), over both (*all*), and the harmonic
mean of the first two. *before*: on the base classes before any class joined. ± applies to other novel
classes if they join one at a time (`+1`), otherwise to other support images. Rows over different novel
classes (*marks*) are not comparable; the figure of accuracies where classes join has the common ones."""

Line = tuple[tuple, dict[str, Cell]]


def generalized(tables: Sequence[Table]) -> list[Block]:
    """One grid per number of joining classes, with the rows of all tables; empty if no row has any."""
    found = joined(tables)
    blocks: list[Block] = [Heading(3, ("Generalized",)), Prose(LEGEND)] if found else []
    for classes, shown in found.items():
        blocks += [Heading(4, (f"{classes} classes",)), without_empty_columns(shown, leading=2)]
    return blocks


def joined(tables: Sequence[Table]) -> dict[str, DataFrame]:
    """Numbers of classes (``90+1``) -> the rows of tables of one protocol, and published results."""
    found: dict[tuple[int, ...], list[Line]] = {}
    for row in (row for one in tables for row in one.rows):
        for classes, line in _lines(row):
            found.setdefault(classes, []).append(line)
    shown = {}
    for (base, new), lines in sorted(found.items()):
        lines += _published(tables[0].first.dataset, base, new)
        shown[f"{base}+{new}"] = table(line for _, line in sorted(lines, key=lambda line: line[0]))
    return shown


def _lines(row: Row) -> Iterator[tuple[tuple[int, ...], Line]]:
    for base, new, shots in joins_of(row):
        start = join(base, new, shots)
        found = {part: row.intervals.get(f"{start}/{part}") for part in JOINT}
        before = row.intervals.get(f"{join(base, new, 0)}/base")
        last = found["harmonic"]
        # By shots; ours before published results, and best first.
        order = (shots, 0, row.apart, -last.value if last else 0.0, row.key)
        marks = identity.marks(row.first)
        key = f"{start}/novel"
        joined_alone = min(record.metrics[key].n for record in row.records if key in record.metrics)
        if new == 1 and joined_alone < row.first.classes.novel:
            marks.append(f"{joined_alone} of {row.first.classes.novel} novel classes")
        if len(row.records) > 1:
            marks.append(f"{len(row.records)} seeds")
        line: dict[str, Cell] = {
            "shots": Number(str(shots), shots),
            "method": name(row),
            **{part: number(own, DIGITS) for part, own in found.items()},
            "before": number(before, DIGITS),
            "marks": (", ".join(marks),) if marks else NOTHING,
        }
        yield (base, new), (order, line)


def _published(dataset: str, base: int, new: int) -> Iterator[Line]:
    for position, row in enumerate(published()):
        for key, value in row.values.items():
            match = JOINED.fullmatch(key)
            wanted = (str(base), str(new), "novel")
            if match and match.group("base", "new", "part") == wanted and row.dataset == dataset:
                line = {
                    "shots": Number(match["shots"], int(match["shots"])),
                    "method": (row.method,),
                    "novel": as_printed(value),
                    "marks": (row.source,),
                }
                yield (int(match["shots"]), 1, position), line
