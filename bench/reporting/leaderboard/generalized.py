"""Tables of generalized accuracy: novel classes that join the base classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.reporting.leaderboard.blocks import NOTHING, Block, Cell, Heading, Prose, without_empty_columns
from bench.reporting.leaderboard.cells import name, number
from bench.reporting.leaderboard.others import percent
from bench.reporting.leaderboard.rows import Row
from bench.reporting.leaderboard.tables import Table
from bench.reporting.published import published

KEY = re.compile(r"generalized/(?P<classes>(?P<base>[0-9]+)\+(?P<new>[0-9]+))/(?P<shots>[0-9]+)s/novel")
MEASURES = ("novel", "base", "all", "harmonic")
DIGITS = 1

LEGEND = """\
Novel classes join the base classes from a few support images each, and all are told apart at once: accuracy
on the classes that joined (*novel*), on the base classes beside them (*base*), over both (*all*), and the
harmonic mean of the first two. *before*: on the base classes before any joined. ± speaks of other novel
classes that join one at a time (`+1`), or of other support images."""

Line = tuple[tuple, list[Cell]]


def generalized(tables: Sequence[Table]) -> list[Block]:
    """One grid per number of classes that join, with the rows of all tables; none if no row has any."""
    found: dict[tuple[int, ...], list[Line]] = {}
    for row in (row for table in tables for row in table.rows):
        for classes, line in _lines(row):
            found.setdefault(classes, []).append(line)
    if not found:
        return []
    blocks: list[Block] = [Heading(3, ("Generalized",)), Prose(LEGEND)]
    for (base, new), lines in sorted(found.items()):
        lines += _published(tables[0].first.dataset, f"{base}+{new}")
        rows = [line for _, line in sorted(lines, key=lambda line: line[0])]
        headings = ["shots", "method", *MEASURES, "before", "marks"]
        blocks.append(Heading(4, (f"{base}+{new} classes",)))
        blocks.append(without_empty_columns(headings, rows, leading=2))
    return blocks


def joins_of(row: Row) -> list[tuple[int, int, int]]:
    """Base classes, classes that join, and shots of a row's generalized numbers, by size."""
    matches = filter(None, map(KEY.fullmatch, row.intervals))
    return sorted((int(match["base"]), int(match["new"]), int(match["shots"])) for match in matches)


def _lines(row: Row) -> Iterator[tuple[tuple[int, ...], Line]]:
    for base, new, shots in joins_of(row):
        classes = f"{base}+{new}"
        found = [row.intervals.get(f"generalized/{classes}/{shots}s/{measure}") for measure in MEASURES]
        before = row.intervals.get(f"generalized/{classes}/0s/base")
        last = found[-1]
        line = [(str(shots),), name(row), *(number(one, DIGITS) for one in (*found, before))]
        # By shots; ours before published ones, and from the best.
        order = (shots, 0, row.apart, -last.value if last else 0.0, row.key)
        marks = [
            word
            for word, on in (
                ("external data", row.first.external_data),
                ("transductive", row.first.transductive),
                (f"{len(row.records)} seeds", len(row.records) > 1),
            )
            if on
        ]
        yield (base, new), (order, [*line, (", ".join(marks),) if marks else NOTHING])


def _published(dataset: str, classes: str) -> Iterator[Line]:
    for position, row in enumerate(published()):
        for key, value in row.values.items():
            match = KEY.fullmatch(key)
            if match and match["classes"] == classes and row.dataset == dataset:
                blank = [NOTHING] * len(MEASURES)
                line = [(match["shots"],), (row.method,), (percent(value),), *blank, (row.source,)]
                yield (int(match["shots"]), 1, position), line
