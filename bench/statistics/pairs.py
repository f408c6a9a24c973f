"""Verification: thresholds, the ROC curve and its numbers, and their intervals over pairs."""

from __future__ import annotations

import numpy as np

from bench.statistics.intervals import Interval


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
    scores, same = checked(scores, same)
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
    scores, same = checked(scores, same)
    kinds, width, accepted = _columns(scores, same, threshold)
    whole = [np.bincount(kind + 1, minlength=width + 1).cumsum()[None] for kind in kinds]
    point = roc_metrics(whole[0], whole[1], accepted)[0]

    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, len(PAIR_METRICS)))
    # How many resamples are drawn at once decides the order of the random numbers, which recorded intervals
    # rest on. As many are measured at once as stay in the processor's cache.
    rows = max(1, 2**15 // len(scores))
    several = rows * max(1, 2**15 // (rows * width))
    for start in range(0, resamples, several):
        end = min(start + several, resamples)
        accepts = np.zeros((2, end - start, width + 1), dtype=np.int64)
        for first in range(0, end - start, rows):
            size = min(rows, end - start - first)
            row_offset = np.arange(size)[:, None] * width
            for kind, own in zip(kinds, accepts, strict=True):
                picked = kind.take(
                    rng.integers(0, len(kind), size=(size, len(kind)), dtype=np.int32), mode="clip"
                )
                picked += row_offset
                counts = np.bincount(picked.ravel(), minlength=size * width)
                own[first : first + size, 1:] = counts.reshape(size, width)
        accepts = accepts.cumsum(axis=2)
        draws[start:end] = roc_metrics(accepts[0], accepts[1], accepted)
    oracle = PAIR_METRICS.index("pair_accuracy_oracle")
    draws[:, oracle] -= 2 * (draws[:, oracle].mean() - point[oracle])
    # Where nearly every pair is right, the lift can be below 0.
    draws[:, oracle] = draws[:, oracle].clip(0, 1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(float(v), float(min(v, lo)), float(max(v, hi)), len(scores))
        for name, v, lo, hi in zip(PAIR_METRICS, point, low, high, strict=True)
    }


def roc_metrics(true_accepts: np.ndarray, false_accepts: np.ndarray, accepted: int) -> np.ndarray:
    """`PAIR_METRICS` of B ROC curves over the same U columns: distinct scores, or runs of them. ``[B, 6]``.

    Everything is compared in whole numbers, so ties are exact.

    Args:
        true_accepts: whole ``[B, U + 1]``, overwritten: same-class pairs (or their weights) in the first u
            columns, those of the highest scores, from 0 to all of them.
        false_accepts: the like of different-class pairs, overwritten. Each row has pairs of both kinds.
        accepted: how many of the columns reach the threshold.
    """
    every = np.arange(len(true_accepts))
    positives, negatives = true_accepts[:, -1:].copy(), false_accepts[:, -1:].copy()
    cells = (positives * negatives)[:, 0]

    # The area under straight lines between ROC points counts ties a half.
    twice = np.einsum("bu,bu->b", np.diff(false_accepts), true_accepts[:, :-1] + true_accepts[:, 1:])
    tar = []
    for rate in (0.1, 0.01):
        allowed = np.floor(rate * negatives + 1e-9).astype(np.int64)
        last = (false_accepts > allowed).argmax(axis=1) - 1
        tar.append(true_accepts[every, last] / positives[:, 0])

    # From here on both count in steps of 1 / cells.
    true_accepts *= negatives
    false_accepts *= positives
    informedness = true_accepts - false_accepts
    # FAR - FRR climbs from -1 to 1; the EER lies on the step where it passes 0.
    true_accepts += false_accepts
    after = (true_accepts >= cells[:, None]).argmax(axis=1)
    e0, e1 = true_accepts[every, after - 1] - cells, true_accepts[every, after] - cells
    f0, f1 = false_accepts[every, after - 1], false_accepts[every, after]
    eer = (f0 + (f1 - f0) * (-e0 / (e1 - e0))) / cells
    return np.stack(
        [
            0.5 + informedness[:, accepted] / (2 * cells),
            twice / (2 * cells),
            eer,
            tar[0],
            tar[1],
            0.5 + informedness.max(axis=1) / (2 * cells),
        ],
        axis=1,
    )


def _columns(
    scores: np.ndarray, same: np.ndarray, threshold: float
) -> tuple[tuple[np.ndarray, np.ndarray], int, int]:
    """The columns of the ROC curve that the pairs of each kind lie in, how many columns there are, and how
    many of them reach the threshold.

    Columns go from the highest score down. Equal scores share one, and so do neighbouring scores of one
    kind: between them the curve is a straight line, however the pairs are weighted.
    """
    values, ranks = np.unique(-scores, return_inverse=True)
    accepted = int((-values >= threshold).sum())
    holds = np.zeros((2, len(values)), dtype=bool)
    holds[same.astype(int), ranks] = True
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = (holds[:, 1:] != holds[:, :-1]).any(axis=0) | holds[:, 1:].all(axis=0)
    starts[accepted : accepted + 1] = True
    column = starts.cumsum()[ranks] - 1
    return (column[same], column[~same]), int(starts.sum()), int(starts[:accepted].sum())


def checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 and bool arrays, or a ValueError."""
    # float64, because a float32 array would round the threshold to float32 before comparing.
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be two equally long lists")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    if same.all() or not same.any():
        raise ValueError("pairs of both kinds, same and different, are needed")
    return scores, same
