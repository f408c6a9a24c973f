"""The leaderboard's tables as pictures need them: every row with a short name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from bench.configurations import changes
from bench.leaderboard.rows import Row as BoardRow
from bench.leaderboard.tables import Table, tables_of
from bench.records import Record
from bench.statistics import Interval

T = TypeVar("T")


class Row:
    """The records of one configuration, one a seed.

    Args:
        row: of the leaderboard.
        directory: where the records' files lie.

    Attributes:
        label: its name among the rows of its section, given by `sections`.
    """

    def __init__(self, row: BoardRow, directory: Path) -> None:
        self.row, self.directory = row, directory
        self.label = self.first.method

    @property
    def records(self) -> list[Record]:
        """One a seed."""
        return self.row.records

    @property
    def first(self) -> Record:
        """The record of the lowest seed."""
        return self.row.first

    @property
    def intervals(self) -> dict[str, Interval]:
        """Metric key -> value and interval over the seeds."""
        return self.row.intervals

    @property
    def training_seconds(self) -> float | None:
        """Mean training time of the seeds; None where nothing was trained."""
        times = [record.timings.train_s for record in self.records if record.trained]
        return sum(times) / len(times) if times else None


class Section:
    """Rows that were measured on the same images, split and protocol.

    Attributes:
        table: of the leaderboard.
        rows: by label.
        title: data set and split, and more where two sections share them.
    """

    def __init__(self, table: Table, rows: Sequence[Row]) -> None:
        self.table = table
        self.rows = sorted(rows, key=lambda row: row.label)
        self.title = f"{self.first.dataset} {self.first.split}"

    @property
    def first(self) -> Record:
        """Any record of the section, for what all have in common."""
        return self.rows[0].first

    def best(self, key: str = "fewshot/5w1s") -> list[Row]:
        """Rows from the best to the worst by a metric, those without it last."""

        def order(row: Row) -> tuple[bool, float, str]:
            interval = row.intervals.get(key)
            return interval is None, -interval.value if interval else 0.0, row.label

        return sorted(self.rows, key=order)


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by key, in the order in which the keys come up."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def sections(records: Iterable[Record], directory: Path) -> list[Section]:
    """The leaderboard's tables, in its order."""
    made = []
    for table in tables_of(records, directory):
        rows = [Row(row, directory) for row in table.rows]
        _name(rows)
        made.append(Section(table, rows))
    for alike in grouped(made, lambda section: section.title).values():
        if len(alike) > 1:
            for section in alike:
                section.title += f" {section.first.fingerprint[:8]} protocol {section.first.protocol_version}"
    return made


def _name(rows: Sequence[Row]) -> None:
    """Label rows by method, and by as much more as it takes to tell them apart."""
    more: list[Callable[[Record], str]] = [
        lambda record: record.preset,
        lambda record: record.backbone,
        changes,
        lambda record: f"weights {record.weights[:8]}" if record.weights else "",
        lambda record: "" if record.trained else "untrained",
    ]
    for part in more:
        for alike in grouped(rows, lambda row: row.label).values():
            words = [part(row.first) for row in alike]
            if len(set(words)) > 1:
                for row, word in zip(alike, words, strict=True):
                    row.label = f"{row.label} {word}".rstrip()
    for alike in grouped(rows, lambda row: row.label).values():
        for number, row in enumerate(alike[1:], start=2):
            row.label = f"{row.label} #{number}"
