"""The leaderboard's tables for figures: every row with a unique short name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

from bench.records.identity import name_of, split_digest
from bench.records.store import Record
from bench.records.tracks import on_gpu, training_seconds
from bench.reporting.figures.style import row_name
from bench.reporting.ranking.rows import Row as BoardRow
from bench.reporting.ranking.tables import Table, tables_of
from bench.statistics import Interval

T = TypeVar("T")

ACCURACY = {
    "fewshot/5w1s": "5w1s accuracy",
    "novel/pair_accuracy": "pair accuracy",
    "novel/triplet_accuracy": "triplet accuracy",
}
"""Metric key -> words; the first available one describes a model's quality."""


class Row:
    """The records of one configuration, one per seed.

    Args:
        row: of the leaderboard.
        directory: of the records' files.
        variation: whether it has no track.

    Attributes:
        label: its name; `sections` numbers equal names in a section.
    """

    def __init__(self, row: BoardRow, directory: Path, variation: bool = False) -> None:
        self.row, self.directory, self.variation = row, directory, variation
        self.label = name_of(self.first)

    @property
    def records(self) -> list[Record]:
        """One record per seed."""
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
        """Mean wall-clock time of training, pretraining included; None if nothing was trained."""
        times = [own for record in self.records if (own := training_seconds(record)) is not None]
        return sum(times) / len(times) if times else None

    @property
    def on_gpu(self) -> bool:
        """Whether any of its seeds trained on a GPU."""
        return any(map(on_gpu, self.records))


class Section:
    """Rows of the same images, split and protocol.

    Attributes:
        tables: of the leaderboard: its tracks, and the variations.
        rows: of all of them, by label.
        title: data set and split, and more if two sections share them.
    """

    def __init__(self, tables: Sequence[Table], rows: Sequence[Row]) -> None:
        self.tables = tables
        self.rows = sorted(rows, key=lambda row: row.label)
        self.title = f"{self.first.dataset} {self.first.split}"

    @property
    def first(self) -> Record:
        """Any record of the section, for common values."""
        return self.rows[0].first

    def best(self, key: str = "fewshot/5w1s") -> list[Row]:
        """Rows from best to worst by a metric; then variations; then rows without the metric."""

        def order(row: Row) -> tuple[bool, bool, float, str]:
            interval = row.intervals.get(key)
            return interval is None, row.variation, -interval.value if interval else 0.0, row.label

        return sorted(self.rows, key=order)


def of_model(title: str, record: Record) -> str:
    """The title of a figure of one model, with the model's name and accuracy."""
    accuracies = (f"{words} {100 * record.metrics[key].value:.1f}%" for key, words in ACCURACY.items()
                  if key in record.metrics)  # fmt: skip
    return ", ".join([f"{title}: {row_name(name_of(record))}", f"seed {record.seed}", *islice(accuracies, 1)])


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by key, in the order of first occurrence."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def sections(records: Iterable[Record], directory: Path) -> list[Section]:
    """The leaderboard's tables of the same images and protocol together, in its order."""
    made = []
    tables = tables_of(records, directory)
    for _, same in groupby(tables, key=lambda table: (table.section, table.first.protocol_version)):
        own = list(same)
        rows = [Row(row, directory, table.track is None) for table in own for row in table.rows]
        _number(rows)
        made.append(Section(own, rows))
    for alike in grouped(made, lambda section: section.title).values():
        if len(alike) > 1:
            for section in alike:
                first, digest = section.first, split_digest(section.first)
                section.title += f" {first.fingerprint[:8]} protocol {first.protocol_version}"
                section.title += f" split {digest[:8]}" if digest else ""
    return made


def _number(rows: Sequence[Row]) -> None:
    for alike in grouped(rows, lambda row: row.label).values():
        for number, row in enumerate(alike[1:], start=2):
            row.label = f"{row.label} #{number}"
