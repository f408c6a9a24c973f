"""Recomputes a record's numbers from its per-episode file and the class sizes, without images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from bench.records.arrays import drawn_classes, key_of, key_of_pairs, setting_of
from bench.records.naming import (
    ACCEPTED,
    BEFORE,
    HITS,
    JOINED,
    PAIR_SCORES,
    QUERIES,
    TRIPLETS_WON,
    UNBALANCED,
    WON,
    join,
    joined_classes,
)
from bench.records.parts import EpisodeInfo, OpenSetInfo
from bench.records.store import Record
from bench.sampling.episodes import ClassPool
from bench.sampling.keys import pair_key, triplet_key
from bench.sampling.pairs import draw_pairs, draw_triplets
from bench.statistics import (
    Interval,
    closed_interval,
    joint_accuracies,
    mean_recall_interval,
    open_set_metrics,
    over_joins,
    pair_metrics,
    pairs_of_classes,
    proportion_interval,
    triplets_of_classes,
)

Arrays = Mapping[str, np.ndarray]
Pools = Mapping[str, Mapping[str, int]]

PARTS = ("base", "novel")


@dataclass
class Recomputed:
    """Intervals recomputed from the per-episode file.

    Attributes:
        metrics: metric key -> number.
        per_class: class name -> metric key -> number.
        constant_answer: metric key -> score of a constant answer.
        episodes: settings whose list of episodes was redrawn.
        problems: contradictions between file and record, one line each.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    per_class: dict[str, dict[str, Interval]] = field(default_factory=dict)
    constant_answer: dict[str, float] = field(default_factory=dict)
    episodes: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def of_class(self, name: str) -> dict[str, Interval]:
        """The numbers of one class, as a dict to fill in."""
        return self.per_class.setdefault(name, {})


def recompute(record: Record, arrays: Arrays, pools: Pools) -> Recomputed:
    """Recompute everything that follows from a record's arrays.

    Args:
        record: has the threshold and the keys of episodes, pairs and triplets.
        arrays: the content of its per-episode file; older files may lack some.
        pools: part -> class name -> number of images; from this record or one of the same split.
    """
    source = _Source(record, arrays, pools)
    steps: list[Callable[[Recomputed], None]] = []
    steps += [partial(_fewshot, source, setting) for setting in record.episodes]
    steps += [partial(_open_set, source, setting) for setting in record.open_set]
    for part in PARTS:
        steps += [partial(_pairs, source, part)] if f"{part}/{PAIR_SCORES}" in arrays else []
        # If there are pairs, the triplets behind the record's numbers must be there too.
        expected = f"{part}/{PAIR_SCORES}" in arrays and f"{part}/triplet_accuracy" in record.metrics
        steps += [partial(_triplets, source, part)] if expected or f"{part}/{TRIPLETS_WON}" in arrays else []
    # Older records have only the numbers.
    keys = {key for key in record.metrics if record.sources} | arrays.keys()
    steps += [partial(_unbalanced, source)] if UNBALANCED in keys else []
    steps += [partial(_before, source, key) for key in sorted(keys) if key.endswith(BEFORE)]
    joins = filter(None, map(JOINED.fullmatch, arrays))
    steps += [partial(_joined, source, joined) for joined in joins if joined["part"] == "novel"]
    found = Recomputed()
    for step in steps:
        try:
            step(found)
        except _Wrong as error:
            found.problems.append(str(error))
    return found


class _Wrong(Exception):
    """The content of the file is wrong."""


class _Source:
    """A record, its arrays, and the classes of each part."""

    def __init__(self, record: Record, arrays: Arrays, pools: Pools) -> None:
        self.record, self.arrays = record, arrays
        self.names = {part: list(sizes) for part, sizes in pools.items()}
        self.pools = {part: _pool(tuple(sizes.values())) for part, sizes in pools.items()}

    def array(self, name: str, *shapes: tuple[int, ...], kind: str) -> np.ndarray:
        """The array `name` with one of the shapes and the kind (``u`` whole numbers, ``f`` floats)."""
        if name not in self.arrays:
            raise _Wrong(f"{name}: is missing from the per-episode file")
        found = self.arrays[name]
        if found.shape not in shapes or found.dtype.kind not in ("f" if kind == "f" else "ui"):
            raise _Wrong(f"{name}: {found.dtype} numbers {list(found.shape)}, not {list(shapes[0])}")
        return found.astype(np.float64 if kind == "f" else np.int64)

    def flat(self, name: str, kind: str) -> np.ndarray:
        """The array `name`, checked to have one dimension."""
        size = self.arrays[name].size if name in self.arrays else 0
        return self.array(name, (size,), kind=kind)


@lru_cache(maxsize=16)
def _pool(sizes: tuple[int, ...]) -> ClassPool:
    return ClassPool.of_counts(sizes)


def _fewshot(source: _Source, name: str, found: Recomputed) -> None:
    info, key = source.record.episodes[name], f"fewshot/{name}"
    correct = source.array(name, (info.count,), kind="u")
    queries = source.array(f"{name}/{QUERIES}", (), (info.count,), kind="u")
    if not ((correct >= 0) & (correct <= queries) & (queries > 0)).all():
        raise _Wrong(f"{name}: must be from 0 to the number of queries")
    found.metrics[key] = closed_interval(correct / queries)
    if "novel" not in source.pools:
        return
    names, pool = source.names["novel"], source.pools["novel"]
    classes = _redrawn(source, name, info, found)
    asked = np.full(classes.shape, info.query) if info.query else pool.counts[classes] - info.shot
    if (asked.sum(axis=1) != queries).any():
        raise _Wrong(f"{name}/{QUERIES}: differ from the number of queries of the episodes")
    if f"{name}/{HITS}" not in source.arrays:
        return
    hits = source.array(f"{name}/{HITS}", classes.shape, kind="u")
    if (hits.sum(axis=1) != correct).any() or ((hits < 0) | (hits > asked)).any():
        raise _Wrong(f"{name}/{HITS}: do not add up to the correct answers of each episode")
    shares = hits / asked
    for c, own in enumerate(names):
        if (classes == c).any():
            found.of_class(own)[key] = closed_interval(shares[classes == c])


def _open_set(source: _Source, name: str, found: Recomputed) -> None:
    record = source.record
    info = record.open_set[name]
    won = source.array(f"{name}/{WON}", (info.count,), kind="u")
    most = 2 * info.way * info.others * info.query**2
    if not info.query or not ((won >= 0) & (won <= most)).all():
        raise _Wrong(f"{name}/{WON}: must be from 0 to {most}")
    accepted = None
    if name in record.thresholds:
        accepted = source.array(f"{name}/{ACCEPTED}", (info.count, info.way + info.others), kind="u")
        if not ((accepted >= 0) & (accepted <= info.query)).all():
            raise _Wrong(f"{name}/{ACCEPTED}: must be from 0 to {info.query}")
        _check_possible(name, won, accepted, info)
    metrics = open_set_metrics(won, accepted, info.way, info.others, info.query)
    found.metrics |= {f"{name}/{key}": interval for key, interval in metrics.items()}
    if "novel" in source.pools:
        _redrawn(source, name, info, found)


def _check_possible(name: str, won: np.ndarray, accepted: np.ndarray, info: OpenSetInfo) -> None:
    """Compare won pairs with accepted queries: above a threshold all win against all below it."""
    known, other = accepted[:, : info.way].sum(axis=1), accepted[:, info.way :].sum(axis=1)
    knowns, others = info.way * info.query, info.others * info.query
    fewest = 2 * known * (others - other)
    most = 2 * (knowns * others - (knowns - known) * other)
    if ((won < fewest) | (won > most)).any():
        raise _Wrong(f"{name}/{WON}: impossible with {name}/{ACCEPTED}: no threshold accepts these queries")


def _redrawn(source: _Source, name: str, info: EpisodeInfo, found: Recomputed) -> np.ndarray:
    """The classes ``[T, way]`` of the episodes of a setting, whose hash must be the record's."""
    record, pool = source.record, source.pools["novel"]
    setting = setting_of(record, name)
    try:
        classes, sha256 = drawn_classes(tuple(pool.counts.tolist()), key_of(record, name), setting)
    except ValueError as error:
        raise _Wrong(f"episodes.{name}: cannot be drawn from the novel classes ({error})") from None
    found.episodes.add(name)
    if sha256 != info.sha256 or classes.shape[1] != info.way + setting.others:
        raise _Wrong(f"episodes.{name}: the redrawn list has another SHA-256, {sha256}")
    return classes


def _drawn_from(source: _Source, part: str, what: str) -> tuple[list[str], ClassPool, str]:
    """Names and sizes of a part's classes, and the key of its pairs and triplets."""
    if part not in source.pools:
        raise _Wrong(f"pools.{part}: is missing, but the record has {what} of this part")
    names, pool = source.names[part], source.pools[part]
    if len(names) < 2 or pool.smallest < 2:
        raise _Wrong(f"pools.{part}: no {what} can be drawn from classes of these sizes")
    return names, pool, key_of_pairs(source.record, part)


def _pairs(source: _Source, part: str, found: Recomputed) -> None:
    names, pool, key = _drawn_from(source, part, "pairs")
    threshold = source.record.thresholds.get("similarity")
    if threshold is None:
        raise _Wrong("thresholds.similarity: is missing, but the record has scored pairs")
    scores = source.flat(f"{part}/{PAIR_SCORES}", kind="f")
    a, b, same = draw_pairs(pool, pair_key(key), len(scores))
    try:
        metrics = pair_metrics(scores, same, threshold)
    except ValueError as error:
        raise _Wrong(f"{part}/{PAIR_SCORES}: {error}") from None
    found.metrics |= {f"{part}/{name}": interval for name, interval in metrics.items()}
    if part != "novel":
        return
    found.constant_answer[UNBALANCED] = (len(names) - 1) / len(names)
    first, second, right = pool.owner[a], pool.owner[b], (scores >= threshold) == same
    by_first = bool(source.record.labelled_novel_images)
    for c, interval in pairs_of_classes(first, second, right, same, by_first).items():
        found.of_class(names[c])["novel/pair_accuracy"] = interval


def _triplets(source: _Source, part: str, found: Recomputed) -> None:
    names, pool, key = _drawn_from(source, part, "triplets")
    won = source.flat(f"{part}/{TRIPLETS_WON}", kind="u") / 2
    if not (count := len(won)) or not np.isin(won, (0, 0.5, 1)).all():
        raise _Wrong(f"{part}/{TRIPLETS_WON}: must be 0, 1 or 2")
    anchor, *_ = draw_triplets(pool, triplet_key(key), count)
    found.metrics[f"{part}/triplet_accuracy"] = proportion_interval(float(won.sum()), count)
    if part == "novel":
        for c, interval in triplets_of_classes(pool.owner[anchor], won).items():
            found.of_class(names[c])["novel/triplet_accuracy"] = interval


def _unbalanced(source: _Source, found: Recomputed) -> None:
    shares = source.flat(UNBALANCED, kind="f")
    if len(shares) < 2 or not ((shares >= 0) & (shares <= 1)).all():
        raise _Wrong(f"{UNBALANCED}: must be accuracies between 0 and 1 of two or more draws")
    found.metrics[UNBALANCED] = closed_interval(shares)


def _before(source: _Source, key: str, found: Recomputed) -> None:
    """Accuracy on the base classes before any class joins."""
    if key != (expected := f"{join(source.record.classes.base, 1, 0)}/base"):
        raise _Wrong(f"{key}: must be {expected}")
    if "base" not in source.pools:
        raise _Wrong(f"{key}: the class sizes of base classes are missing")
    counts = source.pools["base"].counts
    right = source.array(key, counts.shape, kind="u")
    if not ((right >= 0) & (right <= counts)).all():
        raise _Wrong(f"{key}: must be from 0 to the number of images")
    found.metrics[key] = mean_recall_interval(right, counts)


def _joined(source: _Source, joined: re.Match, found: Recomputed) -> None:
    """Generalized accuracies of base and novel classes, which join one at a time or all together."""
    old, key = source.record.classes.base, joined["join"]
    new, shots = int(joined["new"]), int(joined["shots"])
    if not {"base", "novel"} <= source.pools.keys():
        raise _Wrong(f"{key}: the class sizes of base and novel classes are missing")
    names, tested = source.names["novel"], len(source.names["base"])
    shape = source.arrays[f"{key}/novel"].shape
    alone, counts = new == 1, source.pools["novel"].counts
    large = np.flatnonzero(counts > shots)  # only these join
    if key != join(old, new, shots) or new not in (1, len(large)):
        joins = f"{len(large)} classes that join {old} base classes"
        raise _Wrong(f"{key}: must be 1 or {joins}")
    novel = source.array(f"{key}/novel", shape, kind="f")
    base = source.array(f"{key}/base", shape if alone else shape[:1], kind="f")
    fractions = all(((values >= 0) & (values <= 1)).all() for values in (novel, base))
    if novel.ndim != 2 or min(shape) < 2 or not fractions:
        raise _Wrong(f"{key}: must be accuracies between 0 and 1 of two or more joins")
    classes = source.flat(joined_classes(old), kind="u") if alone else large
    if not ((classes >= 0) & (classes < len(names))).all():
        raise _Wrong(f"{key}: {len(classes)} classes joined, of {len(names)} novel ones")
    classes = classes[np.isin(classes, large)]
    if len(classes) != shape[0 if alone else 1]:
        raise _Wrong(f"{key}: {shape[0 if alone else 1]} classes joined, not {len(classes)}")
    of_novel = novel if alone else novel.mean(axis=1)
    for name, values in joint_accuracies(of_novel, base, new, tested).items():
        found.metrics[f"{key}/{name}"] = over_joins(values, values.mean(axis=1) if alone else values)
    for row, c in enumerate(classes):
        own = found.of_class(names[c])
        if alone:
            own[f"{key}/novel"], own[f"{key}/base"] = (over_joins(v[row], v[row]) for v in (novel, base))
        else:
            own[f"{key}/novel"] = over_joins(novel[:, row], novel[:, row])
