"""The leaderboard's tables for figures: every row with a unique short name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path

from bench.records.identity import name_of, split_digest
from bench.records.store import Record
from bench.reporting.ranking.rows import Row, grouped
from bench.reporting.ranking.tables import Table, tables_of


class Section:
    """Rows of the same images, split and protocol.

    Attributes:
        tables: of the leaderboard: its tracks, and the variations.
        directory: of the records' files.
        rows: of all tables, by label.
        title: data set and split, and more if two sections share them.
    """

    def __init__(self, tables: Sequence[Table], directory: Path) -> None:
        self.tables, self.directory = tables, directory
        for table in tables:
            for row in table.rows:
                row.label, row.variation = name_of(row.first), table.track is None
        rows = chain.from_iterable(table.rows for table in tables)
        for label, alike in grouped(rows, lambda row: row.label).items():
            for number, row in enumerate(alike[1:], start=2):
                row.label = f"{label} #{number}"
        self.rows = sorted((row for table in tables for row in table.rows), key=lambda row: row.label)
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


def sections(records: Iterable[Record], directory: Path) -> list[Section]:
    """The leaderboard's tables of the same images and protocol together, in its order."""
    tables = groupby(tables_of(records, directory), lambda one: (one.section, one.first.protocol_version))
    made = [Section(list(same), directory) for _, same in tables]
    for alike in grouped(made, lambda section: section.title).values():
        if len(alike) > 1:
            for section in alike:
                first, digest = section.first, split_digest(section.first)
                section.title += f" {first.fingerprint[:8]} protocol {first.protocol_version}"
                section.title += f" split {digest[:8]}" if digest else ""
    return made
