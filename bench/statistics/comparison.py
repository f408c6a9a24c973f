"""Comparison of methods on identical episodes: paired differences, Holm's correction, rank ranges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
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
    tables = [np.atleast_2d(np.asarray(table, dtype=np.float64)) for table in (first, second)]
    episodes = tables[0].shape[1]
    if tables[1].shape[1] != episodes or episodes < 2 or any(table.ndim != 2 for table in tables):
        raise ValueError(
            f"accuracies {tables[0].shape} and {tables[1].shape}: two or more identical episodes"
        )
    differences = tables[0].mean(axis=0) - tables[1].mean(axis=0)
    value = float(differences.mean())
    seeds = len(tables[0]), len(tables[1])
    if paired_seeds and seeds[0] != seeds[1]:
        raise ValueError(f"{seeds[0]} and {seeds[1]} seeds cannot be paired")
    over_training = min(seeds) >= ENOUGH_SEEDS
    if not over_training:
        parts = Variances(float(differences.var(ddof=1)) / episodes, episodes - 1, 0.0, math.inf)
    elif paired_seeds:
        parts = variances(tables[0] - tables[1])
    else:
        parts = _over_training(tables, differences)
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


def _over_training(tables: Sequence[np.ndarray], differences: np.ndarray) -> Variances:
    episodes = len(differences)
    of_seeds = [float(table.mean(axis=1).var(ddof=1)) / len(table) for table in tables]
    explained = sum(residual_variance(table) / (len(table) * episodes) for table in tables)
    of_episodes = max(0.0, float(differences.var(ddof=1)) / episodes - explained)
    return Variances(sum(of_seeds), _seeds_df(of_seeds, [len(t) for t in tables]), of_episodes, episodes - 1)


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
    pairs = list(itertools.combinations(accuracies, 2))
    of_seeds = networks or {}
    tables = {name: np.asarray(table) for name, table in accuracies.items()}
    differences = []
    for first, second in pairs:
        shared = min(tables[first].shape[-1], tables[second].shape[-1])
        own, other = of_seeds.get(first), of_seeds.get(second)
        paired = own is not None and None not in own and own == other
        ends = tables[first][..., :shared], tables[second][..., :shared]
        differences.append(paired_difference(*ends, level, paired))
    adjusted = holm([difference.p for difference in differences])
    return [Comparison(*pair, d, p) for pair, d, p in zip(pairs, differences, adjusted, strict=True)]


class RankRange(NamedTuple):
    """The possible ranks of a method; methods whose ranges overlap are tied."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


def significantly_better(
    names: Sequence[str], comparisons: Iterable[Comparison], level: float = 0.95
) -> np.ndarray:
    """Which of M methods are significantly better than which others.

    Population: as the comparisons. After Holm's correction the family-wise error rate is at most 1 - `level`.
    Not valid for uncorrected p-values. A missing pair counts as not different.

    Args:
        names: of the methods.
        comparisons: of all pairs, from `compare_all`.
        level: 1 minus the largest corrected p that is significant.

    Returns:
        bool ``[M, M]``: whether the row is better than the column.
    """
    position = {name: i for i, name in enumerate(names)}
    better = np.zeros((len(names), len(names)), dtype=bool)
    for comparison in comparisons:
        if comparison.p <= 1 - level:
            pair = position[comparison.first], position[comparison.second]
            better[pair if comparison.difference.value > 0 else pair[::-1]] = True
    return better


def rank_ranges(better: np.ndarray) -> list[RankRange]:
    """``[1 + number significantly better, M - number significantly worse]`` for each of M methods.

    Methods whose range starts at 1 are tied for the best. With 95% probability all true ranks are in their
    ranges, if the family-wise error rate of `better` is at most 5%.

    Args:
        better: ``[M, M]`` from `significantly_better`.
    """
    first, last = 1 + better.sum(axis=0), len(better) - better.sum(axis=1)
    return [RankRange(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True)]


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
        *_, of_episodes, episodes_df = _over_training(tables, tables[0].mean(axis=0) - tables[1].mean(axis=0))
    of_seed = [float(table.mean(axis=1).var(ddof=1)) for table in tables]
    reserve = t_quantile(math.inf, 2 * power - 1)
    for seeds in range(ENOUGH_SEEDS, MOST_SEEDS + 1):
        of_seeds = [variance / seeds for variance in of_seed]
        df = seeds - 1 if paired_seeds else _seeds_df(of_seeds, [seeds, seeds])
        error = math.sqrt(sum(of_seeds) + of_episodes)
        if half_width(sum(of_seeds), df, of_episodes, episodes_df, level) + reserve * error <= effect:
            return seeds
    return None
