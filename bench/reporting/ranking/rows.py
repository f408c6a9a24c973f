"""From records to rows: the seeds of one configuration, with intervals over them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.common.errors import UserError
from bench.records.identity import configuration, marks
from bench.records.naming import JOINED
from bench.records.parts import EpisodeInfo
from bench.records.store import Record
from bench.records.tracks import training_seconds

if TYPE_CHECKING:
    import numpy as np

    from bench.statistics import Interval, RankRange

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

COLUMNS = {
    "5w1s": ("fewshot/5w1s", 2),
    "5w5s": ("fewshot/5w5s", 2),
    "5w10s": ("fewshot/5w10s", 2),
    "all-way 1-shot": ("fewshot/allw1s", 2),
    "novel pairs": ("novel/pair_accuracy", 1),
    "AUC": ("novel/pair_auc", 1),
    "EER": ("novel/pair_eer", 1),
    "open-set AUC": ("open5w1s/auroc", 1),
    "novel triplets": ("novel/triplet_accuracy", 1),
    "base pairs": ("base/pair_accuracy", 1),
    "base triplets": ("base/triplet_accuracy", 1),
}
"""Heading -> metric key and decimals (of percent)."""

SETTINGS = {heading: key.removeprefix("fewshot/") for heading, (key, _) in COLUMNS.items() if key[0] == "f"}
"""Heading -> name, of the settings that most runs measure."""


@dataclass
class Row:
    """The records of one configuration, one per seed.

    Attributes:
        key: equal for records that differ only in the seed.
        records: by seed; each combines the settings of all runs of its seed.
        runs: per seed the runs behind its record, newest first, each with the settings used.
        left_out: number of unused settings of these runs, because other runs have other episodes.
        answers: setting -> accuracies ``[R, T]`` of R seeds in T episodes; only while its table is made.
        whole: whether all per-episode accuracies were found.
        intervals: metric key -> value and interval over the seeds.
        ranks: setting -> possible ranks for new episodes of these classes.
        new_class_ranks: the same for new classes; only for settings where they are known.
        label: its name in figures, unique among the rows of one split.
        variation: whether it has no track.
    """

    key: str
    records: list[Record]
    runs: list[list[Record]]
    left_out: int = 0
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    whole: bool = True
    intervals: dict[str, Interval] = field(default_factory=dict)
    ranks: dict[str, RankRange] = field(default_factory=dict)
    new_class_ranks: dict[str, RankRange] = field(default_factory=dict)
    label: str = ""
    variation: bool = False

    @property
    def first(self) -> Record:
        """The record of the lowest seed."""
        return self.records[0]

    @property
    def apart(self) -> bool:
        """Whether its marks keep it from being ranked."""
        return bool(marks(self.first))

    @property
    def training_seconds(self) -> float | None:
        """Mean of `tracks.training_seconds` over the seeds; None if nothing was trained."""
        times = [own for record in self.records if (own := training_seconds(record)) is not None]
        return sum(times) / len(times) if times else None

    def episodes(self, setting: str) -> EpisodeInfo | None:
        """The episodes of a setting, shared by all seeds; None if no seed has it."""
        return next((one.episodes[setting] for one in self.records if setting in one.episodes), None)

    def value(self, setting: str) -> float:
        """The accuracy in a setting; -1 if not measured."""
        interval = self.intervals.get(f"fewshot/{setting}")
        return interval.value if interval else -1.0


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, in the order of first occurrence."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_size(key: str) -> list[tuple[int, str]]:
    """Sort key: names alphabetically, numbers in them by size, 5s before 10s."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", key)]


def columns(records: Iterable[Record]) -> dict[str, tuple[str, int]]:
    """`COLUMNS`, with a column per additional few-shot setting after the standard ones."""

    def numbers(name: str) -> list[int]:
        return [number for number, _ in by_size(name)]

    own = {name for record in records for name in record.episodes} - set(SETTINGS.values())
    standard = {heading: COLUMNS[heading] for heading in SETTINGS}
    return standard | {name: (f"fewshot/{name}", 2) for name in sorted(own, key=numbers)} | COLUMNS


def joins_of(row: Row) -> list[tuple[int, int, int]]:
    """Base classes, joining classes and shots of a row's generalized numbers, by size."""
    found = [match for match in map(JOINED.fullmatch, row.intervals) if match and match["part"] == "novel"]
    return sorted((int(match["base"]), int(match["new"]), int(match["shots"])) for match in found)


def _with(record: Record, episodes: Mapping[str, EpisodeInfo]) -> Record:
    """The record with only these of its settings."""
    if len(episodes) == len(record.episodes):
        return record
    gone = {f"fewshot/{name}" for name in record.episodes.keys() - episodes.keys()}
    metrics, *classes = (
        {key: metric for key, metric in own.items() if key not in gone}
        for own in (record.metrics, *record.per_class.values())
    )
    per_class = dict(zip(record.per_class, classes, strict=True))
    return record.model_copy(update={"episodes": episodes, "metrics": metrics, "per_class": per_class})


def rows_of(records: Iterable[Record]) -> list[Row]:
    """Rows of the records of one table.

    For two records with the same seed, the later one counts, and the earlier one only for missing settings.
    """
    rows = []
    for key, group in grouped(records, row_key).items():
        row = Row(key, [], [])
        lists: dict[str, str] = {}  # setting -> SHA-256 of its episodes, the same for all seeds
        seeds: dict[int, list[Record]] = {}
        for record in sorted(group, key=lambda record: (record.created, record.run_id), reverse=True):
            newer = seeds.setdefault(record.seed, [])
            known = {name for run in newer for name in run.episodes}
            more = {name: info for name, info in record.episodes.items() if name not in known}
            used = {
                name: info
                for name, info in more.items()
                if lists.setdefault(name, info.sha256) == info.sha256
            }
            row.left_out += len(more) - len(used)
            if used or not newer:
                newer.append(_with(record, used))
        row.runs = [seeds[seed] for seed in sorted(seeds)]
        row.records = [_together(runs) for runs in row.runs]
        rows.append(row)
    return sorted(rows, key=lambda row: row.key)


def _together(runs: list[Record]) -> Record:
    """The newest run of a seed, with the settings of the others."""
    newest, *others = runs
    episodes, metrics = dict(newest.episodes), dict(newest.metrics)
    for run in others:
        episodes |= run.episodes
        metrics |= {
            key: run.metrics[key] for name in run.episodes if (key := f"fewshot/{name}") in run.metrics
        }
    return newest.model_copy(update={"episodes": episodes, "metrics": metrics}) if others else newest


def row_key(record: Record) -> str:
    """Key that is equal for records of one table and `configuration` with the same episodes."""
    lists = [(name, record.episodes[name].sha256) for name in SETTINGS.values() if name in record.episodes]
    return json.dumps([configuration(record, known_split=False), lists])


def load_answers(row: Row, directory: Path) -> None:
    """Read the per-episode accuracies of a row.

    Args:
        row: its `answers` are filled in; if a file is missing or damaged, `whole` is set to False.
        directory: of the episode files.
    """
    import numpy as np

    from bench.records.arrays import read_episodes

    seeds: dict[str, list[np.ndarray]] = {}
    for record in (record for runs in row.runs for record in runs):
        if record.episode_file is None:
            row.whole = False
            return
        try:
            found = read_episodes(record, directory, record.episodes)
        except UserError:
            row.whole = False
            return
        for setting, accuracies in found.items():
            seeds.setdefault(setting, []).append(accuracies)
    row.answers = {setting: np.stack(own) for setting, own in seeds.items()}


def fill_in_intervals(row: Row) -> None:
    """Fill in the intervals over seeds of every metric, from per-episode answers if available."""
    from bench.statistics import Interval, over_seeds

    for key in dict.fromkeys(key for record in row.records for key in record.metrics):
        metrics = [record.metrics[key] for record in row.records if key in record.metrics]
        own = [Interval(metric.value, metric.low, metric.high, metric.n) for metric in metrics]
        answers = row.answers.get(key.removeprefix("fewshot/"))
        if len(own) == 1:
            row.intervals[key] = own[0]
        elif answers is None or answers.shape[1] == 1:
            row.intervals[key] = over_seeds(own)
        else:
            row.intervals[key] = interval_of(answers)


def interval_of(answers: np.ndarray) -> Interval:
    """Of the accuracies ``[R, T]`` of R seeds: over retraining, or with too few seeds of these models."""
    from bench.statistics import ENOUGH_SEEDS, closed_interval, crossed_seeds

    return crossed_seeds(answers) if len(answers) >= ENOUGH_SEEDS else closed_interval(answers.mean(axis=0))
