"""Intervals: pure functions on arrays. Every docstring names the population its interval speaks of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
    return _clipped(value, _t(n - 1, level) * float(accuracies.std(ddof=1)) / math.sqrt(n), n)


def proportion_interval(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share of independent yes/no answers.

    Population: every pair or triplet that could be drawn from *these images* with *this trained model*.
    Not valid for answers that hang together, such as the queries of one episode.  Ties that count a half
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
    z = _t(math.inf, level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the ends are exactly 0 and 1; rounding must not move them past the share.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n)


def crossed_seeds(accuracies: np.ndarray, level: float = 0.95) -> Interval:
    """Mean accuracy over R training seeds that answered the same T episodes.

    Population: training *this method* again with any seed, and any episode drawn from *these images*.  It
    says nothing about other images or other classes.  Not valid if the seeds answered different episodes
    or if the runs differ in more than the seed.

    Model: ``y[r,t] = mu + a[r] + b[t] + e[r,t]`` with variances A (seeds), B (episodes) and E, so
    ``Var(mean) = A/R + B/T + E/(RT)``.  The mean squares of the two-way table have the expectations
    ``MS_R = E + T A``, ``MS_T = E + R B``, ``MS_E = E``, hence ``(MS_R + MS_T - MS_E) / (RT)`` is unbiased.
    With s_R^2 the variance of the R seed means (= MS_R / T), s_T^2 that of the T episode means (= MS_T / R)
    and s_g^2 = MS_E the residual mean square with (R-1)(T-1) degrees of freedom, that is
    ``SE^2 = s_R^2/R + s_T^2/T - s_g^2/(RT)``.

    The first term follows chi-squared with R-1 degrees of freedom, the other two, B/T together, are known
    to about T-1.  B/T is taken as 0 where its estimate is negative, so SE^2 never is.  SE is multiplied
    by the mean of t(R-1) and t(T-1), weighted by the two parts of SE^2 (Cochran & Cox 1950).
    Satterthwaite's degrees of freedom for the same SE^2 cover only 92% with 3 seeds and 94% with 5 when
    seeds make up most of SE^2; this covers at least 95% (at most 97.5% with 3 seeds, 96.5% with 5).

    Source: Searle, Casella & McCulloch (1992), Variance Components, ch. 4; Cochran & Cox (1950), 4.14.

    Args:
        accuracies: ``[R, T]`` fractions, R >= 2 and T >= 2.
        level: the share of intervals that should hold the truth.

    Returns:
        `n` is T.

    Raises:
        ValueError: with fewer than two seeds or episodes.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    if accuracies.ndim != 2 or min(accuracies.shape) < 2:
        raise ValueError(f"crossed seeds need [2 or more, 2 or more] accuracies, not {accuracies.shape}")
    seeds, episodes = accuracies.shape
    seed_means = accuracies.mean(axis=1)
    episode_means = accuracies.mean(axis=0)
    value = float(seed_means.mean())
    residual = accuracies - seed_means[:, None] - episode_means + value
    s_g2 = float((residual**2).sum()) / ((seeds - 1) * (episodes - 1))
    from_seeds = float(seed_means.var(ddof=1)) / seeds
    from_episodes = max(0.0, float(episode_means.var(ddof=1)) / episodes - s_g2 / (seeds * episodes))
    half = _half_width(from_seeds, seeds - 1, from_episodes, episodes - 1, level)
    return _clipped(value, half, episodes)


def over_seeds(intervals: Sequence[Interval], level: float = 0.95) -> Interval:
    """Mean of one metric over R runs that differ in the seed, from the runs' own intervals alone.

    For numbers that have no per-episode accuracies to cross, such as pairs and triplets.

    Population: with R >= 3 as `crossed_seeds`; with fewer, these trained models only, as the spread of two
    numbers says next to nothing about training again.  With R >= 3, SE^2 is s_R^2/R plus the runs' mean
    closed variance.  The latter holds the part E/T of the model of `crossed_seeds` that seeds average
    away, so the interval is a little wide.  With R < 3 the half-width is the mean of the runs' own: the
    standard error of a mean of correlated numbers is at most the mean of theirs.

    Args:
        intervals: one a run, each at `level`.
        level: the share of intervals that should hold the truth.

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
    if seeds < 3:
        half = float(halves.mean())
    else:
        closed = float((halves**2).mean()) / _t(math.inf, level) ** 2
        half = _half_width(float(values.var(ddof=1)) / seeds, seeds - 1, closed, math.inf, level)
    return _clipped(float(values.mean()), half, min(interval.n for interval in intervals))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy on these pairs, ``score >= threshold`` means same.

    Thresholds are midpoints between neighbouring different scores.  Of several that are equally good, the
    one in the widest gap is taken, of equally wide gaps the lowest.  Where no threshold beats calling
    everything the same (constant scores, say), it is the lowest score.

    Args:
        scores: ``[n]`` finite.
        same: ``[n]`` bool, with at least one pair of each kind.

    Raises:
        ValueError: on scores that are not finite, or without pairs of both kinds.
    """
    scores, same = _checked(scores, same)
    values, ranks = np.unique(scores, return_inverse=True)
    positives, negatives = int(same.sum()), int((~same).sum())
    # What lies below the cut between values i and i+1, in whole numbers so that equal is equal.
    missed = np.cumsum(np.bincount(ranks[same], minlength=len(values)))[:-1]
    rejected = np.cumsum(np.bincount(ranks[~same], minlength=len(values)))[:-1]
    gain = rejected * positives - missed * negatives
    if len(values) == 1 or gain.max() < 0:
        return float(values[0])
    gaps = np.diff(values)
    cut = int(np.argmax(np.where(gain == gain.max(), gaps, -1.0)))
    middle = float(values[cut] + gaps[cut] / 2)
    # Between two neighbouring floats there is no midpoint.
    return middle if middle > values[cut] else float(values[cut + 1])


PAIR_METRICS = (
    "pair_accuracy",
    "pair_auc",
    "pair_eer",
    "pair_tar@0.1",
    "pair_tar@0.01",
    "pair_accuracy_oracle",
)


def pair_metrics(
    scores: np.ndarray,
    same: np.ndarray,
    threshold: float,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Verification metrics of scored pairs with percentile bootstrap intervals.

    Population: every pair that could be drawn from *these images* with *this trained model*, same-class
    and different-class pairs apart.  Pairs are resampled within each kind, so the numbers of the two
    kinds stay as they are.  It says nothing about other images, other classes or training again.  Not
    valid for a handful of pairs, nor for pairs listed twice; where every pair is right the interval has
    no width.  The oracle is a maximum over noise: each resampling lifts it again by about as much, so
    twice that lift is taken off its ends (simulated, its interval then holds the best accuracy that any
    threshold has over all pairs 93% of the time with 4,000 pairs, 90% with 300).  An interval that would
    not hold its own value is widened to it.

    - ``pair_accuracy``: balanced accuracy, ``score >= threshold`` means same.
    - ``pair_auc``: area under the ROC curve; ties count a half.
    - ``pair_eer``: where the false accept rate equals the false reject rate, on the ROC curve with straight
      lines between its points.
    - ``pair_tar@f``: the highest true accept rate of any threshold whose false accept rate is at most f;
      nothing is interpolated.
    - ``pair_accuracy_oracle``: balanced accuracy at the threshold that is best for these very pairs.

    Source: Efron & Tibshirani (1993), ch. 13; Fawcett (2006) for the ROC curve.

    Args:
        scores: ``[n]`` finite; larger means more alike.
        same: ``[n]`` bool, with at least one pair of each kind.
        threshold: found on other (validation) pairs.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.
        level: the share of intervals that should hold the truth.

    Returns:
        One interval for each of `PAIR_METRICS`; `n` is the number of pairs.

    Raises:
        ValueError: on scores that are not finite, or without pairs of both kinds.
    """
    scores, same = _checked(scores, same)
    values, ranks = np.unique(scores, return_inverse=True)
    width = len(values)
    ranks = width - 1 - ranks  # 0 is the highest score; equal scores share one column
    kinds = ranks[same], ranks[~same]
    accepted = int((values >= threshold).sum())
    counts = [np.bincount(kind, minlength=width)[None] for kind in kinds]
    point = _roc_metrics(counts[0], counts[1], accepted)[0]

    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, len(PAIR_METRICS)))
    rows = max(1, 2**15 // len(scores))  # as many resamples at once as stay in the processor's cache
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        row_offset = np.arange(size)[:, None] * width
        counts = []
        for kind in kinds:
            picked = kind[rng.integers(0, len(kind), size=(size, len(kind)), dtype=np.int32)]
            picked += row_offset
            counts.append(np.bincount(picked.ravel(), minlength=size * width).reshape(size, width))
        draws[start : start + size] = _roc_metrics(counts[0], counts[1], accepted)
    oracle = PAIR_METRICS.index("pair_accuracy_oracle")
    draws[:, oracle] -= 2 * (draws[:, oracle].mean() - point[oracle])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(float(v), float(min(v, lo)), float(max(v, hi)), len(scores))
        for name, v, lo, hi in zip(PAIR_METRICS, point, low, high, strict=True)
    }


def _roc_metrics(same: np.ndarray, different: np.ndarray, accepted: int) -> np.ndarray:
    """`PAIR_METRICS` as ``[B, 6]`` of counts ``[B, U]`` of pairs at each distinct score, highest first.

    `accepted` is the number of distinct scores that reach the threshold.  Everything is compared in whole
    numbers, so ties are exact.
    """
    batch, width = same.shape
    true_accepts = np.zeros((batch, width + 1), dtype=np.int64)
    false_accepts = np.zeros((batch, width + 1), dtype=np.int64)
    np.cumsum(same, axis=1, out=true_accepts[:, 1:])
    np.cumsum(different, axis=1, out=false_accepts[:, 1:])
    positives, negatives = int(true_accepts[0, -1]), int(false_accepts[0, -1])
    cells = positives * negatives
    every = np.arange(batch)

    # The area under straight lines between ROC points counts ties a half.
    area = np.einsum("bu,bu->b", different, true_accepts[:, :-1] + true_accepts[:, 1:]) / (2 * cells)
    tar = []
    for rate in (0.1, 0.01):
        allowed = math.floor(rate * negatives + 1e-9)
        last = (false_accepts > allowed).argmax(axis=1) - 1
        tar.append(true_accepts[every, last] / positives)

    # From here on both count in steps of 1 / cells.
    true_accepts *= negatives
    false_accepts *= positives
    informedness = true_accepts - false_accepts
    # FAR - FRR climbs from -1 to 1; the EER lies on the step where it passes 0.
    excess = true_accepts + false_accepts
    excess -= cells
    after = (excess >= 0).argmax(axis=1)
    e0, e1 = excess[every, after - 1], excess[every, after]
    f0, f1 = false_accepts[every, after - 1], false_accepts[every, after]
    eer = (f0 + (f1 - f0) * (-e0 / (e1 - e0))) / cells
    return np.stack(
        [
            0.5 + informedness[:, accepted] / (2 * cells),
            area,
            eer,
            tar[0],
            tar[1],
            0.5 + informedness.max(axis=1) / (2 * cells),
        ],
        axis=1,
    )


def _checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # float64, because a float32 array would round the threshold to float32 before comparing.
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be two equally long lists")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    if same.all() or not same.any():
        raise ValueError("pairs of both kinds, same and different, are needed")
    return scores, same


def _half_width(first: float, first_df: float, second: float, second_df: float, level: float) -> float:
    """t times SE for SE^2 = `first` + `second`, with t the mean of theirs weighted by their share of SE^2."""
    total = first + second
    if total == 0:
        return 0.0
    t = (first * _t(first_df, level) + second * _t(second_df, level)) / total
    return t * math.sqrt(total)


def _t(df: float, level: float) -> float:
    from scipy.special import ndtri, stdtrit  # scipy.stats would take seconds to import

    return float(ndtri((1 + level) / 2) if math.isinf(df) else stdtrit(df, (1 + level) / 2))


def _clipped(value: float, half: float, n: int) -> Interval:
    return Interval(value, max(0.0, value - half), min(1.0, value + half), n)
