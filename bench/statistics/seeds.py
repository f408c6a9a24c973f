"""Intervals over training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.statistics.intervals import Interval, clipped
from bench.statistics.student import LEVEL, half_width, t_quantile

ENOUGH_SEEDS = 3
"""With fewer, the spread over seeds is not estimated: with two it may be 32 times the estimate."""


class Variances(NamedTuple):
    """Variance components of the mean over R seeds and T episodes.

    Attributes:
        seeds: variance of the mean due to the R seeds.
        episodes: variance of the mean due to the T episodes.
        seeds_df, episodes_df: degrees of freedom of the two estimates.
    """

    seeds: float
    seeds_df: float
    episodes: float
    episodes_df: float


def crossed_seeds(accuracies: np.ndarray, level: float = LEVEL) -> Interval:
    """Mean accuracy over R training seeds that answered the same T episodes.

    Population: retraining *this method* with any seed, and any episode drawn from *these images*. It does not
    cover other images or other classes. Not valid if the seeds answered different episodes or if the runs
    differ in more than the seed; with two seeds it covers as little as 93.2%.

    Model: ``y[r,t] = mu + a[r] + b[t] + e[r,t]`` with variances A (seeds), B (episodes) and E, so
    ``Var(mean) = A/R + B/T + E/(RT)``.  The mean squares of the two-way table have the expectations
    ``MS_R = E + T A``, ``MS_T = E + R B``, ``MS_E = E``, hence ``(MS_R + MS_T - MS_E) / (RT)`` is unbiased.
    With s_R^2 the variance of the R seed means (= MS_R / T), s_T^2 that of the T episode means (= MS_T / R)
    and s_g^2 = MS_E the residual mean square with (R-1)(T-1) degrees of freedom, that is
    ``SE^2 = s_R^2/R + s_T^2/T - s_g^2/(RT)``.

    The first term follows chi-squared with R-1 degrees of freedom; the other two together, B/T, have about
    T-1. B/T is set to 0 if its estimate is negative, so SE^2 is never negative. SE is multiplied by a mean of
    t(R-1) and t(T-1), see `student.half_width`: the interval covers 94.2 to 95.9% with 3 seeds and 94.7 to
    95.2% with 5, for any share of SE^2 due to the seeds. Satterthwaite's degrees of freedom would cover 92%
    with 3 seeds.

    Source: Searle, Casella & McCulloch (1992), Variance Components, ch. 4; Cochran & Cox (1950), 4.14.

    Args:
        accuracies: ``[R, T]`` fractions, R >= 2 and T >= 2.
        level: nominal coverage.

    Returns:
        `n` is T.

    Raises:
        ValueError: with fewer than two seeds or episodes.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    found = variances(accuracies)
    return clipped(float(accuracies.mean()), half_width(*found, level), accuracies.shape[1])


def variances(accuracies: np.ndarray) -> Variances:
    """The two parts of SE^2 of `crossed_seeds` for ``[R, T]`` accuracies.

    Raises:
        ValueError: with fewer than two seeds or episodes.
    """
    if accuracies.ndim != 2 or min(accuracies.shape) < 2:
        raise ValueError(f"crossed seeds need [2 or more, 2 or more] accuracies, not {accuracies.shape}")
    seeds, episodes = accuracies.shape
    seed_means, episode_means = accuracies.mean(axis=1), accuracies.mean(axis=0)
    of_episodes = float(episode_means.var(ddof=1)) / episodes - residual_variance(accuracies) / (
        seeds * episodes
    )
    return Variances(float(seed_means.var(ddof=1)) / seeds, seeds - 1, max(0.0, of_episodes), episodes - 1)


def residual_variance(accuracies: np.ndarray) -> float:
    """MS_E of a two-way table ``[R, T]``: the variance not explained by row and column means."""
    seeds, episodes = accuracies.shape
    residual = accuracies - accuracies.mean(axis=1, keepdims=True)
    residual -= residual.mean(axis=0)
    return float((residual**2).sum()) / ((seeds - 1) * (episodes - 1))


def over_seeds(intervals: Sequence[Interval]) -> Interval:
    """Mean of one metric over R runs that differ only in the seed, from the intervals of the runs.

    For numbers without per-episode accuracies, such as pairs and triplets.

    Population: with R >= 3 as `crossed_seeds`. With fewer, only these trained models, because the spread of
    two numbers says very little about retraining. With R >= 3, SE^2 is s_R^2/R plus the runs' mean closed
    variance. This contains the part E/T of the model of `crossed_seeds`, which averaging over seeds reduces,
    so the interval is slightly too wide. With R < 3 the half-width is the mean of the runs' half-widths: the
    standard error of a mean of correlated numbers is at most the mean of their standard errors.

    Args:
        intervals: one per run.

    Returns:
        `n` is the smallest of the runs' n.

    Raises:
        ValueError: without intervals.
    """
    if not intervals:
        raise ValueError("no intervals")
    seeds = len(intervals)
    values = np.array([interval.value for interval in intervals])
    halves = np.array([interval.half_width for interval in intervals])
    if seeds < ENOUGH_SEEDS:
        half = float(halves.mean())
    else:
        closed = float((halves**2).mean()) / t_quantile(math.inf) ** 2
        half = half_width(float(values.var(ddof=1)) / seeds, seeds - 1, closed, math.inf)
    return clipped(float(values.mean()), half, min(interval.n for interval in intervals))
