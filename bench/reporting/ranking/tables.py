"""From rows to tables: one per data set, split, protocol and track, with ranks, and one of variations."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config.run_config import BRIEF
from bench.records.identity import split_digest
from bench.records.store import Record
from bench.records.tracks import Track, network, partition_by_track, shared_networks
from bench.reporting.ranking.rows import (
    Row,
    by_size,
    columns,
    fill_in_intervals,
    grouped,
    load_answers,
    rows_of,
)

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Table:
    """Rows of the same images and protocol, of one track or without a track.

    Attributes:
        rows: in order: in a track the ranked rows from the best, then the unranked ones; variations by
            method.
        track: of the rows; None for variations, which have no rank.
        section: equal for tables of the same images and parts, with any protocol and track.
        ranked_by: the setting that orders them.
        better: setting -> bool ``[M, M]`` over the M rows of `ranked`: whether the row is significantly
            better than the column for new episodes of these classes.
        better_for_new_classes: the same with the intervals over classes; only for settings that have them.
        beside: all tables of the section and protocol, including this one; empty if there are no others.
    """

    rows: list[Row]
    track: Track | None = None
    section: str = ""
    ranked_by: str = "5w1s"
    better: dict[str, np.ndarray] = field(default_factory=dict)
    better_for_new_classes: dict[str, np.ndarray] = field(default_factory=dict)
    beside: list[Table] = field(default_factory=list, repr=False, compare=False)

    @property
    def first(self) -> Record:
        """Any record; all have the same images, except variations that learn some of the novel classes."""
        return self.rows[0].first

    @cached_property
    def ranked(self) -> list[Row]:
        """The comparable rows."""
        return [row for row in self.rows if self.track and not row.apart]

    @cached_property
    def columns(self) -> dict[str, tuple[str, int]]:
        """Heading to metric key and decimals (of percent)."""
        return columns(record for row in self.rows for record in row.records)

    @cached_property
    def shared(self) -> list[tuple[list[Row], tuple[int, ...]]]:
        """Rows that use the same trained network, in this table and those in `beside`, and the seeds."""
        rows = [row for table in self.beside or [self] for row in table.rows]
        found = shared_networks([row.records for row in rows])
        return [([rows[i] for i in one.rows], one.seeds) for one in found]

    @property
    def most_episodes(self) -> int:
        """The largest number of episodes of the ranked rows in the setting that orders them."""
        ranked = (row.episodes(self.ranked_by) for row in self.ranked if self.ranked_by in row.ranks)
        return max((info.count for info in ranked if info), default=0)


def tables_of(records: Iterable[Record], directory: Path) -> list[Table]:
    """All tables, in order: by data set, split and protocol, the newest protocol first, then by track.

    Args:
        records: in any order.
        directory: of their episode files; rows whose files are missing are not compared.
    """
    shown = sorted(filter(is_shown, records), key=lambda r: r.run_id)
    tables = [table for section, group in _sections(shown) for table in _tables(section, group)]
    for table in tables:
        _fill_in(table, directory)
    return tables


def tracks_of(records: Iterable[Record]) -> dict[str, Track]:
    """Run id -> track, for records with a track."""
    found: dict[str, Track] = {}
    for _, group in _sections(list(filter(is_shown, records))):
        for track, own in partition_by_track(group)[0].items():
            found |= {record.run_id: track for record in own}
    return found


def newest(tables: Sequence[Table]) -> list[Table]:
    """For each set of images, the tables of the newest protocol; `tables` are in order."""
    first: dict[str, int] = {}
    for table in tables:
        first.setdefault(table.section, table.first.protocol_version)
    return [table for table in tables if table.first.protocol_version == first[table.section]]


def is_shown(record: Record) -> bool:
    """Whether a record may have a row."""
    return record.preset != BRIEF and record.failure is None


def _sections(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Records of the same images, parts and protocol.

    Records without a split digest are grouped with the others, unless these have several digests. Records of
    methods that learn some images of the novel classes, and so are tested on the rest, are in the group of
    their split, if there is one such group.
    """
    whole = [record for record in records if not record.labelled_novel_images]
    digests = {
        images: {split_digest(record) for record in alike} - {None}
        for images, alike in grouped(whole, _images).items()
    }

    def section(record: Record) -> str:
        images = _images(record)
        return f"{images} {split_digest(record) or ''}" if len(digests.get(images, ())) > 1 else images

    def order(own: list[Record]) -> tuple:
        first = own[0]
        # by_size: 100-0 after 90-10.
        images = first.dataset, by_size(first.split), first.fingerprint
        return *images, section(first), -first.protocol_version

    def key(record: Record) -> str:
        return f"{section(record)} {record.protocol_version}"

    groups = grouped(whole, key)
    for record in records:
        if record.labelled_novel_images:
            alike = [own for own in groups.values() if _place(own[0]) == _place(record)]
            (alike[0] if len(alike) == 1 else groups.setdefault(key(record), [])).append(record)
    return [(section(own[0]), own) for own in sorted(groups.values(), key=order)]


def _images(record: Record, but: Collection[str] = ()) -> str:
    """Key that is equal for records of the same images and parts, as far as recorded, `but` some counts."""
    kind = record.dataset.partition(":")[0]
    counts = [count for count in record.classes if count[0] not in but]
    return json.dumps([kind, record.split, record.fingerprint, counts])


def _place(record: Record) -> tuple[str, int]:
    """Equal for records of the same images, parts and protocol, apart from the tested images."""
    return _images(record, but={"novel_images", "novel_dropped_duplicates"}), record.protocol_version


def _tables(section: str, records: Sequence[Record]) -> list[Table]:
    tracks, variations = partition_by_track(records)
    tables = [Table(rows_of(own), track, section) for track, own in tracks.items()]
    tables += [Table(rows_of(variations), None, section)] if variations else []
    for table in tables:
        table.beside = tables
    return tables


def _fill_in(table: Table, directory: Path) -> None:
    """Intervals, ranks and order of the rows."""
    rows = table.rows
    compared = len(table.ranked) > 1
    for row in rows:
        if len(row.records) > 1 or (compared and not row.apart):
            load_answers(row, directory)
        fill_in_intervals(row)
    keys = [key for key, _ in table.columns.values() if any(key in row.intervals for row in rows)]
    measured = [key.removeprefix("fewshot/") for key in keys if key.startswith("fewshot/")]
    table.ranked_by = next(iter(measured), table.ranked_by)

    def order(row: Row) -> tuple:
        by_value = (-row.value(table.ranked_by), row.first.method, row.key)
        return (row.apart, *by_value) if table.track else (row.first.method, *by_value)

    rows.sort(key=order)
    for setting in measured if table.track else ():
        _rank(table, setting)
    for row in rows:
        row.answers.clear()


def _rank(table: Table, setting: str) -> None:
    """Fill in `better` and the ranks of the rows compared in one setting.

    These are the rows with the same episodes as most others; a single row has rank 1.
    """
    import numpy as np

    from bench.records.arrays import common_classes
    from bench.statistics import ENOUGH_SEEDS, compare_all, corrected, rank_ranges, significantly_better

    ranked = table.ranked
    members = [i for i, row in enumerate(ranked) if f"fewshot/{setting}" in row.intervals]
    families = _families(ranked, members, setting)
    compared = max(families, key=lambda family: (len(family), -min(family)), default=[])
    if len(members) == 1:
        compared = members
    elif len(compared) == 1:
        compared = []
    answers = {str(i): own for i in compared if (own := ranked[i].answers.get(setting)) is not None}
    networks = {i: [network(record) for record in ranked[int(i)].records] for i in answers}
    comparisons = compare_all(answers, networks=networks)
    better = significantly_better([str(i) for i in compared], comparisons)
    ranks = dict(zip(compared, rank_ranges(better), strict=True))
    # A comparison with a row of few seeds does not cover retraining: rows of enough are ranked by themselves.
    enough = [i for i in compared if len(ranked[i].records) >= ENOUGH_SEEDS]
    if enough and len(enough) < len(compared):
        alone = [str(i) for i in enough]
        pairs = [one for one in comparisons if one.first in alone and one.second in alone]
        among = significantly_better(alone, corrected(pairs))
        ranks |= zip(enough, rank_ranges(among), strict=True)
        places = [compared.index(i) for i in enough]
        better[np.ix_(places, places)] = among
    table.better[setting] = _of_all(better, compared, len(ranked))
    for i, ends in ranks.items():
        ranked[i].ranks[setting] = ends
    separable = None
    if len(answers) > 1:
        records = [record for i in compared for record in ranked[i].records if setting in record.episodes]
        means = [own.mean(axis=0) for own in answers.values()]
        separable = _better_for_new_classes(means, common_classes(records, setting))
    if separable is not None:
        table.better_for_new_classes[setting] = _of_all(separable, compared, len(ranked))
        for i, ends in zip(compared, rank_ranges(separable), strict=True):
            ranked[i].new_class_ranks[setting] = ends


def _of_all(better: np.ndarray, among: Sequence[int], size: int) -> np.ndarray:
    """``[M, M]`` from the matrix of some of the M rows; False for all other rows."""
    import numpy as np

    whole = np.zeros((size, size), dtype=bool)
    whole[np.ix_(among, among)] = better
    return whole


def _better_for_new_classes(
    accuracies: Sequence[np.ndarray], classes: np.ndarray | None
) -> np.ndarray | None:
    """Which models are better than which by the interval over classes; None if not known.

    Args:
        accuracies, classes: as in `class_differences`; the classes are None if not known.
    """
    from bench.statistics import class_differences

    if classes is None:
        return None
    try:
        values, halves = class_differences(accuracies, classes)
    except ValueError:  # too few classes
        return None
    return values > halves


def _families(rows: list[Row], members: list[int], setting: str) -> list[list[int]]:
    """Groups of rows with the same episodes, up to the shorter list.

    Lists with the same key are equal up to the shorter length (`bench.sampling.episodes`), unless two of one
    length differ: then it is unknown which belong together, and only equal lists are compared.
    """

    infos = {i: info for i in members if (info := rows[i].episodes(setting))}

    def drawn(i: int) -> tuple[int, ...]:
        info = infos[i]
        return info.way, info.shot, info.query, info.seed

    def identity(i: int) -> tuple[int, str]:
        return infos[i].count, infos[i].sha256

    families = []
    answers = {i: rows[i].answers.get(setting) for i in infos}
    there = [i for i, own in answers.items() if own is not None and own.shape[1] > 1]  # one has no spread
    for _, alike in groupby(sorted(there, key=drawn), key=drawn):
        family = list(alike)
        lists = {identity(i) for i in family}
        if len(lists) == len({count for count, _ in lists}):
            families.append(family)
        else:
            families += [[i for i in family if identity(i) == one] for one in sorted(lists)]
    return families
