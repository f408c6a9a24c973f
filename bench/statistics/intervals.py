"""Intervals of one model's accuracy: over episodes, over fresh images, over independent answers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bench.statistics.student import t_quantile


class Interval(NamedTuple):
    """An estimate, its interval, and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """The distance from the value to the farther end (they differ where an end was cut off at 0 or 1)."""
        return max(self.value - self.low, self.high - self.value)


def closed_interval(accuracies: np.ndarray, level: float = 0.95) -> Interval:
    """Mean accuracy over episodes, ± t(T-1) s / sqrt(T) with ddof 1, cut off at 0 and 1.

    Population: every episode that could be drawn from *these images* with *this trained model*. It says
    nothing about other images, other classes or training again.  One observation is one episode: the
    queries of an episode share a support set, so they are never counted one by one.  Not valid for
    episodes that were not drawn independently, and rough for fewer than about 20 episodes.

    Source: Student (1908), the interval that episodic papers report.

    Args:
        accuracies: ``[T]`` fractions, one an episode.
        level: the share of intervals that should hold the truth.

    Returns:
        `n` is T; with one episode nothing is known of the spread, so the interval is [0, 1].

    Raises:
        ValueError: without episodes.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    if accuracies.ndim != 1 or len(accuracies) == 0:
        raise ValueError(f"accuracies must be one number an episode, not an array of {accuracies.shape}")
    n = len(accuracies)
    value = float(accuracies.mean())
    if n == 1:
        return Interval(value, 0.0, 1.0, 1)
    return clipped(value, t_quantile(n - 1, level) * float(accuracies.std(ddof=1)) / math.sqrt(n), n)


def open_interval(accuracies: np.ndarray, images: np.ndarray, level: float = 0.95) -> Interval:
    """Mean accuracy over episodes that share no image, ± t(T-1) s / sqrt(T), cut off at 0 and 1.

    Population: every episode of *fresh images of these classes* with *this trained model*. The more
    episodes are drawn from the same images, the narrower the closed interval: it forgets that other images
    would have given another number. Here every image counts once, so the spread of the episodes is the
    spread of fresh images. It says nothing about other classes or training again. Not valid if images of
    different episodes are dependent (frames of one video, say), and rough for fewer than about 10 episodes.

    Source: Student (1908); the names closed and open: Lafargue et al. (2024), Oops, I Sampled it Again.

    Args:
        accuracies: ``[T]`` fractions, one an episode.
        images: int ``[T, K]``, the support and query images of each episode; `disjoint_episodes` chooses
            episodes that qualify.
        level: the share of intervals that should hold the truth.

    Raises:
        ValueError: if an image occurs twice, or there are no episodes.
    """
    if len(images) != len(accuracies):
        raise ValueError(f"{len(accuracies)} accuracies, but the images of {len(images)} episodes")
    if len(np.unique(images)) < np.size(images):
        raise ValueError("an image occurs in more than one episode")
    return closed_interval(accuracies, level)


def disjoint_episodes(images: np.ndarray) -> np.ndarray:
    """Positions of the episodes that share no image with an earlier one of those chosen.

    The choice looks at images alone, never at accuracies. It favours classes that were drawn less often
    before, which makes the chosen episodes a little more even than independent ones.

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


def proportion_interval(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share of independent yes/no answers.

    Population: every pair or triplet that could be drawn from *these images* with *this trained model*.
    Not valid for dependent answers, such as the queries of one episode.  Ties that count a half
    may be handed in as halves; they spread less than whole answers, so the interval is then a little wide.

    Source: Wilson (1927).

    Args:
        successes: how many were right, between 0 and `n`, possibly with halves.
        n: how many were asked.
        level: the share of intervals that should hold the truth.

    Raises:
        ValueError: if `n` is not positive or `successes` is not between 0 and `n`.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes out of {n}")
    z = t_quantile(math.inf, level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the ends are exactly 0 and 1; rounding must not move them past the share.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n)


def mean_recall_interval(right: np.ndarray, counts: np.ndarray, level: float = 0.95) -> Interval:
    """Mean over classes of their shares of right answers, each class counting the same; Wilson's interval.

    Its n is that of as many images, alike in all classes, as would give the mean the same precision.
    Population and limits: those of `proportion_interval`.

    Args:
        right: whole ``[C]``, right answers of each class.
        counts: whole ``[C]``, its images, at least 1.
        level: the share of intervals that should hold the truth.
    """
    n = round(len(counts) ** 2 / (1 / counts).sum())
    return proportion_interval(float((right / counts).mean()) * n, n, level)


def balanced_interval(same: np.ndarray, different: np.ndarray, level: float = 0.95) -> Interval:
    """Balanced accuracy of independent right/wrong answers of two kinds.

    The distances to the ends of the kinds' Wilson intervals add in quadrature (Newcombe 1998, method 10).

    Population and validity: as `proportion_interval`, the two kinds apart.

    Args:
        same: bool, the answers of the first kind, at least one.
        different: bool, those of the second kind, at least one.
        level: the share of intervals that should hold the truth.

    Returns:
        `n` is the number of answers of both kinds.
    """
    kinds = [proportion_interval(int(right.sum()), len(right), level) for right in (same, different)]
    value = sum(k.value for k in kinds) / 2
    low = value - math.hypot(*(k.value - k.low for k in kinds)) / 2
    high = value + math.hypot(*(k.high - k.value for k in kinds)) / 2
    return Interval(value, max(0.0, low), min(1.0, high), len(same) + len(different))


def clipped(value: float, half: float, n: int) -> Interval:
    """`value` ± `half`, cut off at 0 and 1."""
    return Interval(value, max(0.0, value - half), min(1.0, value + half), n)
