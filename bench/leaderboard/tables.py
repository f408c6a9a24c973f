"""Rows to tables: one for each data set, split and protocol, with ranks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bench.leaderboard.reading import Found, Job, read_rows
from bench.leaderboard.rows import Row, columns, grouped, rightly_named, rows_of
from bench.records import Record

if TYPE_CHECKING:
    import numpy as np

HIDDEN_PRESET = "smoke"
"""A preset that only tests the plumbing; its numbers mean nothing."""


@dataclass
class Table:
    """Rows that were measured on the same images by the same protocol.

    Attributes:
        rows: in order: ranked rows from the best, then those set apart.
        ranked_by: the setting that orders them.
        better: setting -> bool ``[M, M]`` over the M rows of `ranked`: whether the one is significantly
            better than the other.
    """

    rows: list[Row]
    ranked_by: str = "5w1s"
    better: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def first(self) -> Record:
        """Any record; all tell the same about the images."""
        return self.rows[0].first

    @cached_property
    def ranked(self) -> list[Row]:
        """The rows that may be compared with each other."""
        return [row for row in self.rows if not row.apart]

    @cached_property
    def columns(self) -> dict[str, tuple[str, int]]:
        """Heading to metric key and decimals (of percent)."""
        return columns(record for row in self.rows for record in row.records)

    @property
    def most_episodes(self) -> int:
        """How many episodes of the setting that orders them the ranked rows answered at most."""
        ranked = (row.episodes(self.ranked_by) for row in self.ranked if self.ranked_by in row.ranks)
        return max((info.count for info in ranked if info), default=0)


def tables_of(records: Iterable[Record], directory: Path | None) -> list[Table]:
    """All tables, in order: by data set, split and protocol, the newest protocol first.

    Args:
        records: in any order.
        directory: where their episode files lie; without it no row is compared with another.
    """
    shown = sorted(map(rightly_named, filter(is_shown, records)), key=lambda r: r.run_id)
    groups = sorted(grouped(shown, _table_key).values(), key=lambda group: _order(group[0]))
    tables = [rows_of(group) for group in groups]
    with closing(read_rows([job for rows in tables for job in _jobs(rows, directory)])) as found:
        return [_table(rows, found) for rows in tables]


def is_shown(record: Record) -> bool:
    """Whether a record may have a row."""
    return record.preset != HIDDEN_PRESET and record.failure is None


def section_key(record: Record) -> str:
    """Equal for two records of the same images and parts, wherever the images lay."""
    kind = record.dataset.partition(":")[0]
    return json.dumps([kind, record.split, record.fingerprint, list(record.classes)])


def _table_key(record: Record) -> str:
    return f"{section_key(record)} {record.protocol_version}"


def _order(record: Record) -> tuple:
    # 100-0 after 90-10: numbers in names count as numbers.
    split = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", record.split)]
    return record.dataset, split, record.fingerprint, section_key(record), -record.protocol_version


def _jobs(rows: list[Row], directory: Path | None) -> list[Job]:
    counts: dict[str, set[int]] = {}
    for record in (record for row in rows for record in row.records):
        for setting, info in record.episodes.items():
            counts.setdefault(setting, set()).add(info.count)
    compared = sum(not row.apart for row in rows) > 1
    in_order = {setting: sorted(own) for setting, own in counts.items()}
    return [
        Job(row, directory, in_order, len(row.records) > 1 or (compared and not row.apart)) for row in rows
    ]


def _table(rows: list[Row], found: Iterator[Found]) -> Table:
    for row, own in zip(rows, found, strict=False):  # what the other tables get stays there
        row.answers, row.whole, row.intervals = own
    table = Table(rows)
    keys = [key for key, _ in table.columns.values() if any(key in row.intervals for row in rows)]
    measured = [key.removeprefix("fewshot/") for key in keys if key.startswith("fewshot/")]
    table.ranked_by = next(iter(measured), table.ranked_by)
    rows.sort(key=lambda row: (row.apart, -row.value(table.ranked_by), row.first.method, row.key))
    for setting in measured:
        _rank(table, setting)
    for row in rows:
        row.answers.clear()
    return table


def _rank(table: Table, setting: str) -> None:
    """Fill in `better` and the ranks in one setting of the rows that are compared in it.

    Those are the rows that answered the same episodes as most others did; a row alone is the first of one.
    """
    from bench.statistics.all_pairs import ranges, significantly_better

    ranked = table.ranked
    members = [i for i, row in enumerate(ranked) if f"fewshot/{setting}" in row.intervals]
    families = _families(ranked, members, setting)
    compared = max(families, key=lambda family: (len(family), -min(family)), default=[])
    if len(members) == 1:
        compared = members
    elif len(compared) == 1:
        compared = []
    answers = {i: ranked[i].answers[setting] for i in compared if setting in ranked[i].answers}
    table.better[setting] = significantly_better([answers], len(ranked))
    for i, own in zip(compared, ranges(table.better[setting], compared), strict=True):
        ranked[i].ranks[setting] = own


def _families(rows: list[Row], members: list[int], setting: str) -> list[list[int]]:
    """Rows that answered the same episodes, as far as each went.

    Lists that are drawn alike are the same as far as the shorter goes (`bench.episodes`), unless two of one
    length differ: then nobody knows which belongs to which, and only equal lists are compared.
    """

    infos = {i: info for i in members if (info := rows[i].episodes(setting))}

    def drawn(i: int) -> tuple[int, ...]:
        info = infos[i]
        return info.way, info.shot, info.query, info.seed

    def identity(i: int) -> tuple[int, str]:
        return infos[i].count, infos[i].sha256

    families = []
    answers = {i: rows[i].answers.get(setting) for i in infos}
    there = [i for i, own in answers.items() if own is not None and len(own.means) > 1]  # one tells no spread
    for _, alike in groupby(sorted(there, key=drawn), key=drawn):
        family = list(alike)
        lists = {identity(i) for i in family}
        if len(lists) == len({count for count, _ in lists}):
            families.append(family)
        else:
            families += [[i for i in family if identity(i) == one] for one in sorted(lists)]
    return families
