"""Comparison of methods on identical episodes: paired differences and Holm's correction."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.statistics.seeds import ENOUGH_SEEDS, Variances, residual_variance, variances
from bench.statistics.student import half_width, p_value, t_quantile

MOST_SEEDS = 1000


class Difference(NamedTuple):
    """How much better the first method is.

    Attributes:
        value: mean accuracy of the first minus that of the second, between -1 and 1.
        low, high: its interval.
        p: two-sided p-value of no difference.
        episodes: number of identical episodes.
        seeds: numbers of training seeds of the first and of the second.
        over_training: whether it applies to retraining, or only to these trained models.
        paired_seeds: whether the seeds of both are answers of the same trained networks.
    """

    value: float
    low: float
    high: float
    p: float
    episodes: int
    seeds: tuple[int, int]
    over_training: bool
    paired_seeds: bool = False

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, paired_seeds: bool = False
) -> Difference:
    """Difference of two methods' mean accuracies on identical episodes.

    Population, with at least three seeds of each: retraining *both methods* with any seeds, and any episode
    drawn from *these images*. With fewer seeds of either: any episode drawn from these images, answered by
    *these trained models*; accuracies are then averaged over the available seeds, and retraining may reverse
    the difference. Never other images or other classes. Not valid if the methods answered different episodes,
    or if the seeds were chosen by their results.

    Only these models: mean ± t(T-1) s / sqrt(T) of the T differences, and the paired t test.

    Over training, with the model of `crossed_seeds` for each method and independent seeds:
    ``Var(difference) = A1/R1 + A2/R2 + B/T + ...``, where B is the variance of the difference
    between episodes, estimated as the variance of the T differences of episode means minus the part of the
    residual mean squares, ``s_d^2/T - s_g1^2/(R1 T) - s_g2^2/(R2 T)``, and 0 if negative. Seeds of
    independent trainings are not paired: that would halve their degrees of freedom without any gain. With
    `paired_seeds` the differences ``[R, T]`` are one table of `crossed_seeds`, which the variation that both
    methods share does not widen; with three seeds the test at level 5% then rejects 3.8 to 4.5% of the time.
    Otherwise the two seed parts v1 and v2 have ``(v1 + v2)^2 / (v1^2/R1 + v2^2/R2) - 1`` degrees of freedom,
    at most R1 + R2 - 2. This is half-way
    between Satterthwaite (1946), with R-1 for each R and nothing subtracted, whose test is too conservative
    with three seeds each (a size of 3.5%), and Welch (1947), with R+1 and 2 subtracted. `student.half_width`
    combines the seed parts and the third part. Under the null the test at level 5% rejects 4.0
    to 5.5% of the time with three seeds each, if the accuracy of the one method varies no more than twice
    as much between its seeds (standard deviations) as the other's, and 6.6% at worst; 4.6 to 5.6% with five
    seeds each; up to 8% with three of a much more variable method against ten.

    Source: Student (1908) for one seed each; Searle, Casella & McCulloch (1992), ch. 4, for several.

    Args:
        first: ``[T]`` fractions of one trained model, or ``[R1, T]`` of several seeds.
        second: ``[T]`` or ``[R2, T]``, on the same episodes.
        level: the share of intervals that should hold the truth.
        paired_seeds: whether row r of both tables is from the same trained network.

    Raises:
        ValueError: if the numbers of episodes differ, or there are fewer than two; if paired tables differ
            in their numbers of seeds.
    """
    return _difference(_Answers.of(first), _Answers.of(second), level, paired_seeds)


class _Answers(NamedTuple):
    """What all comparisons of a method need of its accuracies ``[R, T]``; the last two with R >= 2."""

    table: np.ndarray
    means: np.ndarray  # over the seeds, [T]
    of_seeds: float  # variance of the mean due to the seeds
    residual: float  # of a mean over the seeds, per episode

    @classmethod
    def of(cls, accuracies: np.ndarray) -> _Answers:
        table = np.atleast_2d(np.asarray(accuracies, dtype=np.float64))
        if table.ndim != 2 or table.shape[1] < 2:
            raise ValueError(f"accuracies {table.shape}: two or more identical episodes")
        seeds, means = len(table), table.mean(axis=0)
        if seeds == 1:
            return cls(table, means, 0.0, 0.0)
        return cls(
            table, means, float(table.mean(axis=1).var(ddof=1)) / seeds, residual_variance(table) / seeds
        )


def _difference(first: _Answers, second: _Answers, level: float, paired_seeds: bool) -> Difference:
    if first.table.shape[1] != second.table.shape[1]:
        raise ValueError(
            f"accuracies {first.table.shape} and {second.table.shape}: two or more identical episodes"
        )
    differences = first.means - second.means
    value, episodes = float(differences.mean()), len(differences)
    seeds = len(first.table), len(second.table)
    if paired_seeds and seeds[0] != seeds[1]:
        raise ValueError(f"{seeds[0]} and {seeds[1]} seeds cannot be paired")
    over_training = min(seeds) >= ENOUGH_SEEDS
    if not over_training:
        parts = Variances(float(differences.var(ddof=1)) / episodes, episodes - 1, 0.0, math.inf)
    elif paired_seeds:
        parts = variances(first.table - second.table)
    else:
        parts = _over_training(first, second, differences)
    half = half_width(*parts, level)
    return Difference(
        value,
        max(-1.0, value - half),
        min(1.0, value + half),
        p_value(value, *parts),
        episodes,
        seeds,
        over_training,
        paired_seeds,
    )


def _over_training(first: _Answers, second: _Answers, differences: np.ndarray) -> Variances:
    episodes = len(differences)
    of_seeds, seeds = [first.of_seeds, second.of_seeds], [len(first.table), len(second.table)]
    of_episodes = (float(differences.var(ddof=1)) - first.residual - second.residual) / episodes
    return Variances(sum(of_seeds), _seeds_df(of_seeds, seeds), max(0.0, of_episodes), episodes - 1)


def _seeds_df(variances: Sequence[float], seeds: Sequence[int]) -> float:
    most = sum(seeds) - 2
    weighed = sum(variance**2 / count for variance, count in zip(variances, seeds, strict=True))
    return min(most, sum(variances) ** 2 / weighed - 1) if weighed > 0 else most


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: rejecting those of at most 5% limits the family-wise error rate to 5%.

    Population: as the tests behind the p-values, which may depend on each other. Not valid if tests
    were left out because of their results.

    Source: Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


class Comparison(NamedTuple):
    """Difference of two of several methods, and its p after Holm's correction over all pairs."""

    first: str
    second: str
    difference: Difference
    p: float


def compare_all(
    accuracies: Mapping[str, np.ndarray],
    level: float = 0.95,
    networks: Mapping[str, Sequence[str | None]] | None = None,
) -> list[Comparison]:
    """`paired_difference` of all pairs of several methods, with Holm's correction over all pairs.

    Population and validity: as `paired_difference`; the intervals are not corrected.

    Args:
        accuracies: method -> ``[T]`` or ``[R, T]``. If two differ in T, the shorter's episodes must be the
            first of the longer's, and the two are compared on those.
        level: of the intervals.
        networks: method -> the trained network of each of its seeds, by any name; seeds of two methods that
            use the same networks in the same order are paired.
    """
    of_seeds = networks or {}
    tables = {name: np.asarray(table) for name, table in accuracies.items()}

    @functools.cache
    def answers(name: str, episodes: int) -> _Answers:
        return _Answers.of(tables[name][..., :episodes])

    found = []
    for first, second in itertools.combinations(tables, 2):
        shared = min(tables[first].shape[-1], tables[second].shape[-1])
        own, other = of_seeds.get(first), of_seeds.get(second)
        paired = own is not None and None not in own and own == other
        difference = _difference(answers(first, shared), answers(second, shared), level, paired)
        found.append(Comparison(first, second, difference, difference.p))
    return corrected(found)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Some comparisons with Holm's correction over just these."""
    adjusted = holm([comparison.difference.p for comparison in comparisons])
    return [comparison._replace(p=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def seeds_needed(
    first: np.ndarray,
    second: np.ndarray,
    effect: float = 0.01,
    level: float = 0.95,
    power: float = 0.8,
    paired_seeds: bool = False,
) -> int | None:
    """Number of training seeds per method needed to detect a true difference of `effect`.

    Detect means that `paired_difference` gives p <= 1 - `level`, with probability `power`.

    Population: as `paired_difference` over training. A rough guide: it takes the observed spread over seeds
    as the true one, which with three seeds each may be wrong by a factor of two. It does not include a
    correction for several comparisons, which needs more seeds.

    Source: Cohen (1988), Statistical Power Analysis, 2.4, with t for the normal quantile.

    Args:
        first: ``[R1, T]`` fractions, three or more seeds.
        second: ``[R2, T]`` on the same episodes.
        effect: true difference, a fraction (0.01 is one point).
        level: of the interval.
        power: probability of detecting it.
        paired_seeds: whether row r of both tables is from the same trained network.

    Returns:
        Total seeds per method, at least three; None if no number of seeds suffices because there are too few
        episodes (or more than 1,000 seeds would be needed).

    Raises:
        ValueError: with fewer than three seeds of either.
    """
    tables = [np.asarray(table, dtype=np.float64) for table in (first, second)]
    if min(len(table) for table in tables) < ENOUGH_SEEDS or any(table.ndim != 2 for table in tables):
        raise ValueError(f"the spread over seeds needs {ENOUGH_SEEDS} seeds of each method")
    if paired_seeds:
        tables = [tables[0] - tables[1]]
        *_, of_episodes, episodes_df = variances(tables[0])
    else:
        one, other = map(_Answers.of, tables)
        *_, of_episodes, episodes_df = _over_training(one, other, one.means - other.means)
    of_seed = [float(table.mean(axis=1).var(ddof=1)) for table in tables]
    reserve = t_quantile(math.inf, 2 * power - 1)
    for seeds in range(ENOUGH_SEEDS, MOST_SEEDS + 1):
        of_seeds = [variance / seeds for variance in of_seed]
        df = seeds - 1 if paired_seeds else _seeds_df(of_seeds, [seeds, seeds])
        error = math.sqrt(sum(of_seeds) + of_episodes)
        if half_width(sum(of_seeds), df, of_episodes, episodes_df, level) + reserve * error <= effect:
            return seeds
    return None
