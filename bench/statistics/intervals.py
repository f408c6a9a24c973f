"""Intervals of one model's accuracy: over episodes, over fresh images, over independent answers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bench.statistics.student import LEVEL, t_quantile


class Interval(NamedTuple):
    """An estimate, its interval, and the number of observations behind it.

    `std` is the standard deviation (ddof 1) of the single values, where it says more than the interval.
    """

    value: float
    low: float
    high: float
    n: int
    std: float | None = None

    @property
    def half_width(self) -> float:
        """The distance from the value to the farther end (ends may be clipped at 0 or 1)."""
        return max(self.value - self.low, self.high - self.value)


def closed_interval(accuracies: np.ndarray, level: float = LEVEL) -> Interval:
    """Mean accuracy over episodes, ± t(T-1) s / sqrt(T) with ddof 1, clipped at 0 and 1.

    Population: all episodes that can be drawn from *these images* with *this trained model*. It does not
    cover other images, other classes or retraining. One observation is one episode: the queries of an episode
    share a support set, so they never count as independent. Not valid for episodes that were not drawn
    independently, and rough for fewer than about 20 episodes.

    Source: Student (1908), the interval that episodic papers report.

    Args:
        accuracies: ``[T]`` fractions, one per episode.
        level: nominal coverage.

    Returns:
        `n` is T. With one episode the spread is unknown, so the interval is [0, 1].

    Raises:
        ValueError: without episodes.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    if accuracies.ndim != 1 or len(accuracies) == 0:
        raise ValueError(f"accuracies must be one number per episode, not an array of {accuracies.shape}")
    n = len(accuracies)
    value = float(accuracies.mean())
    if n == 1:
        return Interval(value, 0.0, 1.0, 1)
    return clipped(value, t_quantile(n - 1, level) * float(accuracies.std(ddof=1)) / math.sqrt(n), n)


def open_interval(accuracies: np.ndarray, images: np.ndarray) -> Interval:
    """Mean accuracy over episodes without common images, ± t(T-1) s / sqrt(T), clipped at 0 and 1.

    Population: all episodes of *fresh images of these classes* with *this trained model*. The closed interval
    becomes narrower with more episodes from the same images, although other images would give another number.
    Here every image counts once, so the spread of episodes is the spread of fresh images. It does not cover
    other classes or retraining. Not valid if images of different episodes are dependent (for example frames
    of one video), and rough for fewer than about 10 episodes.

    Source: Student (1908); the names closed and open: Lafargue et al. (2024), Oops, I Sampled it Again.

    Args:
        accuracies: ``[T]`` fractions, one per episode.
        images: int ``[T, K]``, the support and query images of each episode; `disjoint_episodes` chooses
            suitable episodes.

    Raises:
        ValueError: if an image occurs twice, or without episodes.
    """
    if len(images) != len(accuracies):
        raise ValueError(f"{len(accuracies)} accuracies, but images of {len(images)} episodes")
    if len(np.unique(images)) < np.size(images):
        raise ValueError("an image occurs in more than one episode")
    return closed_interval(accuracies)


def disjoint_episodes(images: np.ndarray) -> np.ndarray:
    """Positions of episodes without common images, chosen greedily from the beginning.

    The choice depends only on images, not on accuracies. It favours classes that were drawn less often
    before, so the chosen episodes are slightly more balanced than independent ones.

    Args:
        images: int ``[T, K]``, indices (0 and up) of the support and query images of each episode.
    """
    images = np.asarray(images)
    used = np.zeros(int(images.max(initial=-1)) + 1, dtype=bool)
    chosen = []
    for position, own in enumerate(images):
        if not used[own].any():
            used[own] = True
            chosen.append(position)
    return np.array(chosen, dtype=np.int64)


def proportion_interval(successes: float, n: int) -> Interval:
    """Wilson's interval of a proportion of independent yes/no answers.

    Population: all pairs or triplets that can be drawn from *these images* with *this trained model*.
    Not valid for dependent answers, such as the queries of one episode. Ties may count as halves; they vary
    less than whole answers, so the interval is then slightly too wide.

    Source: Wilson (1927).

    Args:
        successes: number of correct answers, between 0 and `n`, possibly with halves.
        n: number of answers.

    Raises:
        ValueError: if `n` is not positive or `successes` is not between 0 and `n`.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes out of {n}")
    z = t_quantile(math.inf)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the ends are exactly 0 and 1; rounding must not move them.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n)


def mean_recall_interval(right: np.ndarray, counts: np.ndarray) -> Interval:
    """Mean over classes of their accuracies, with equal weights; Wilson's interval.

    Its n is the effective number of images, equally many per class, that gives the mean the same precision.
    Population and limits: those of `proportion_interval`.

    Args:
        right: whole ``[C]``, correct answers per class.
        counts: whole ``[C]``, images per class, at least 1.
    """
    n = round(len(counts) ** 2 / (1 / counts).sum())
    return proportion_interval(float((right / counts).mean()) * n, n)


def balanced_interval(same: np.ndarray, different: np.ndarray) -> Interval:
    """Balanced accuracy of independent correct/wrong answers of two kinds.

    The distances to the ends of both Wilson intervals add in quadrature (Newcombe 1998, method 10).

    Population and validity: as `proportion_interval`, for each kind separately.

    Args:
        same: bool, the answers of the first kind, at least one.
        different: bool, the answers of the second kind, at least one.

    Returns:
        `n` is the number of answers of both kinds.
    """
    kinds = [proportion_interval(int(right.sum()), len(right)) for right in (same, different)]
    value = sum(k.value for k in kinds) / 2
    low = value - math.hypot(*(k.value - k.low for k in kinds)) / 2
    high = value + math.hypot(*(k.high - k.value for k in kinds)) / 2
    return Interval(value, max(0.0, low), min(1.0, high), len(same) + len(different))


def clipped(value: float, half: float, n: int) -> Interval:
    """`value` ± `half`, clipped at 0 and 1."""
    return Interval(value, max(0.0, value - half), min(1.0, value + half), n)
