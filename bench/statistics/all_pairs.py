"""Every two rows of a long table compared at once: the tests of `compare_all`, by matrix products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.statistics.comparison import RankRange
from bench.statistics.intervals import Interval, clipped, closed_interval
from bench.statistics.seeds import ENOUGH_SEEDS
from bench.statistics.student import half_width

ROWS_AT_ONCE = 256


class Answers(NamedTuple):
    """What a method's answers to one list of episodes come down to.

    Attributes:
        means: ``[T]``, accuracy in each episode, averaged over the seeds.
        seeds: R, how many.
        parts: number of first episodes -> (variance of the mean over them that comes from the seeds, and
            that which no seed and no episode explains); zeros with fewer than three seeds.
    """

    means: np.ndarray
    seeds: int
    parts: dict[int, tuple[float, float]]

    def interval(self) -> Interval:
        """What `crossed_seeds` gives for ``[R, T]``; with fewer seeds the closed interval of their mean."""
        if self.seeds < ENOUGH_SEEDS:
            return closed_interval(self.means)
        count = len(self.means)
        of_seeds, unexplained = self.parts[count]
        of_episodes = max(0.0, float(self.means.var(ddof=1)) / count - unexplained)
        half = half_width(of_seeds, self.seeds - 1, of_episodes, count - 1, 0.95)
        return clipped(float(self.means.mean()), half, count)


class Accumulator:
    """Takes in the seeds of a method one by one, so that only one seed's answers are in memory.

    Args:
        counts: the numbers of first episodes that rows may be compared on.
    """

    def __init__(self, counts: Iterable[int]) -> None:
        self.counts = tuple(counts)
        self.seeds = 0

    def add(self, accuracies: np.ndarray) -> None:
        """Take in one seed: ``[T]`` fractions, on the same episodes as the other seeds'."""
        if self.seeds == 0:
            self.first, self.total = accuracies, np.zeros_like(accuracies)
            self.own_means: dict[int, list[float]] = {count: [] for count in self.counts}
            self.squares = dict.fromkeys(self.counts, 0.0)
        # Less the first seed: nothing is lost in the squares where seeds answer nearly alike.
        rest = accuracies - self.first
        self.total = self.total + rest
        for count in self.counts:
            self.own_means[count].append(float(rest[:count].mean()))
            self.squares[count] += float(rest[:count] @ rest[:count])
        self.seeds += 1

    def answers(self) -> Answers:
        """What was taken in, of at least one seed."""
        seeds, average = self.seeds, self.total / self.seeds
        parts = dict.fromkeys(self.counts, (0.0, 0.0))
        if seeds >= ENOUGH_SEEDS:
            for count in (count for count in self.counts if count > 1):
                own, episodes = np.array(self.own_means[count]), average[:count]
                left = self.squares[count] - count * (own @ own) - seeds * (episodes @ episodes)
                left = max(0.0, float(left + seeds * count * own.mean() ** 2))
                unexplained = left / ((seeds - 1) * (count - 1) * seeds * count)
                parts[count] = float(own.var(ddof=1)) / seeds, unexplained
        return Answers(self.first + average, seeds, parts)


def significantly_better(
    families: Sequence[Mapping[int, Answers]], size: int, level: float = 0.95
) -> np.ndarray:
    """Which rows of a table are better than which, by Holm's correction over all its tests.

    Population, tests and validity: as `compare_all`.  That takes each pair by itself; here a block of pairs
    is tested at once, from products of the rows' accuracies.

    Args:
        families: of rows that answered the same episodes, as far as each went: row -> answers. Rows of
            different families are not tested against each other, nor are those with a single episode.
        size: how many rows the table has.
        level: 1 less the largest corrected p that is significant.

    Returns:
        bool ``[size, size]``: whether the row is better than the column.
    """
    usable = [{row: own for row, own in family.items() if len(own.means) > 1} for family in families]
    usable = [family for family in usable if len(family) > 1]
    tests = sum(len(family) * (len(family) - 1) // 2 for family in usable)
    better = np.zeros((size, size), dtype=bool)
    rejected, undecided = 0, []

    def reject(pairs: _Pairs) -> None:
        forward = pairs.value > 0
        winner, loser = np.where(forward, (pairs.one, pairs.other), (pairs.other, pairs.one))
        better[winner, loser] = True

    # Whatever Holm's thresholds become, they lie between that of the first step and that of the last.
    for pairs in (block for family in usable for block in _blocks(family)):
        sure = pairs.reach(1 - level, tests)
        reject(pairs.those(sure))
        rejected += int(sure.sum())
        undecided.append(pairs.those(~sure & pairs.reach(1 - level, 1)))
    if undecided:
        # The smallest p that is not yet rejected meets level / (tests left); so do all others below that.
        pairs = _Pairs(*(np.concatenate(arrays) for arrays in zip(*undecided, strict=True)))
        while len(pairs.value):
            now = pairs.reach(1 - level, tests - rejected)
            if not now.any():
                break
            reject(pairs.those(now))
            rejected += int(now.sum())
            pairs = pairs.those(~now)
    return better


def ranges(better: np.ndarray, among: Sequence[int] | None = None) -> list[RankRange]:
    """``[1 + number significantly better, M - number significantly worse]`` for each of M rows.

    Args:
        better: from `significantly_better`.
        among: the rows that count; all of them if not given.
    """
    if among is not None:
        better = better[np.ix_(among, among)]
    first, last = 1 + better.sum(axis=0), len(better) - better.sum(axis=1)
    return [RankRange(*pair) for pair in zip(first.tolist(), last.tolist(), strict=True)]


class _Pairs(NamedTuple):
    """Tested pairs, one array a field: who, the difference, and its two variances with degrees of freedom."""

    one: np.ndarray
    other: np.ndarray
    value: np.ndarray
    first: np.ndarray
    first_df: np.ndarray
    second: np.ndarray
    second_df: np.ndarray

    def those(self, chosen: np.ndarray) -> _Pairs:
        return _Pairs(*(array[chosen] for array in self))

    def reach(self, tail: float, tests: int) -> np.ndarray:
        """Whether p <= `tail` / `tests`, as `student.p_value` has it."""
        from scipy.special import stdtrit

        few, which = np.unique(self.second_df, return_inverse=True)
        t1, t2 = -stdtrit(self.first_df, tail / tests / 2), -stdtrit(few, tail / tests / 2)[which]
        total = self.first + self.second
        share = np.divide(self.first, total, out=np.ones_like(total), where=total > 0)
        t = t2 + (t1 - t2) * share ** (1 + 1.2 * t2 / t1)
        return np.abs(self.value) > t * np.sqrt(total)


def _blocks(family: Mapping[int, Answers]) -> Iterator[_Pairs]:
    """Every two rows of a family once, on the episodes that both answered."""
    for count in sorted({len(own.means) for own in family.values()}):
        names = [row for row, own in family.items() if len(own.means) >= count]
        starts = range(0, len(names), ROWS_AT_ONCE)
        for i in starts:
            left = _Block.of(family, names[i : i + ROWS_AT_ONCE], count)
            for j in (start for start in starts if start >= i):
                right = left if i == j else _Block.of(family, names[j : j + ROWS_AT_ONCE], count)
                # Those that both went further are compared further on.
                wanted = left.shortest[:, None] | right.shortest
                yield _tested(left, right, np.triu(wanted, 1) if i == j else wanted, count)


class _Block(NamedTuple):
    """Some rows of a family, cut to the same number of episodes."""

    names: np.ndarray
    shortest: np.ndarray
    means: np.ndarray
    centred: np.ndarray
    variances: np.ndarray
    seeds: np.ndarray
    of_seeds: np.ndarray
    unexplained: np.ndarray

    @classmethod
    def of(cls, family: Mapping[int, Answers], names: Sequence[int], count: int) -> _Block:
        rows = [family[name] for name in names]
        accuracies = np.stack([own.means[:count] for own in rows]).astype(np.float64)
        means = accuracies.mean(axis=1)
        centred = accuracies - means[:, None]
        parts = np.array([own.parts[count] for own in rows])
        return cls(
            np.array(names),
            np.array([len(own.means) == count for own in rows]),
            means,
            centred,
            np.einsum("mt,mt->m", centred, centred) / (count - 1),
            np.array([own.seeds for own in rows]),
            parts[:, 0],
            parts[:, 1],
        )


def _tested(left: _Block, right: _Block, wanted: np.ndarray, count: int) -> _Pairs:
    i, j = np.nonzero(wanted)
    shared = (left.centred @ right.centred.T)[i, j] / (count - 1)
    of_both = np.maximum(0, left.variances[i] + right.variances[j] - 2 * shared) / count
    r1, r2, v1, v2 = left.seeds[i], right.seeds[j], left.of_seeds[i], right.of_seeds[j]
    over_training = (r1 >= ENOUGH_SEEDS) & (r2 >= ENOUGH_SEEDS)
    most, weighed = r1 + r2 - 2.0, v1**2 / r1 + v2**2 / r2
    df = np.divide((v1 + v2) ** 2, weighed, out=most + 1, where=over_training & (weighed > 0)) - 1
    of_episodes = np.maximum(0, of_both - left.unexplained[i] - right.unexplained[j])
    return _Pairs(
        left.names[i],
        right.names[j],
        left.means[i] - right.means[j],
        np.where(over_training, v1 + v2, of_both),
        np.where(over_training, np.minimum(df, most), count - 1.0),
        np.where(over_training, of_episodes, 0),
        np.full(len(i), count - 1.0),
    )
