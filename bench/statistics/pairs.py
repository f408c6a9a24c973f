"""Verification: thresholds, metrics of the ROC curve, and their intervals over pairs."""

from __future__ import annotations

import functools

import numpy as np

from bench.statistics.intervals import Interval, balanced_interval, proportion_interval
from bench.statistics.student import LEVEL


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy on these pairs, ``score >= threshold`` means same.

    Thresholds are midpoints between neighbouring distinct scores. Among equally good thresholds, the one in
    the widest gap is taken, and among equally wide gaps the lowest. If no threshold is better than
    classifying every pair as same (for example with constant scores), it is the lowest score.

    Args:
        scores: ``[n]`` finite.
        same: ``[n]`` bool, with at least one pair of each kind.

    Raises:
        ValueError: if scores are not finite, or without pairs of both kinds.
    """
    scores, same = checked(scores, same)
    values, ranks = np.unique(scores, return_inverse=True)
    positives, negatives = int(same.sum()), int((~same).sum())
    # Counts below the cut between values i and i+1, as whole numbers for exact ties.
    missed = np.cumsum(np.bincount(ranks[same], minlength=len(values)))[:-1]
    rejected = np.cumsum(np.bincount(ranks[~same], minlength=len(values)))[:-1]
    gain = rejected * positives - missed * negatives
    if len(values) == 1 or gain.max() < 0:
        return float(values[0])
    gaps = np.diff(values)
    cut = int(np.argmax(np.where(gain == gain.max(), gaps, -1.0)))
    middle = float(values[cut] + gaps[cut] / 2)
    # Two adjacent floats have no midpoint.
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
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Verification metrics of scored pairs with percentile bootstrap intervals.

    Population: all pairs that can be drawn from *these images* with *this trained model*, separately for
    same-class and different-class pairs. Pairs are resampled within each kind, so the numbers of both kinds
    are constant. It does not cover other images, other classes or retraining. Not valid for very few pairs or
    duplicate pairs; if every pair is correct, the interval has width 0. The oracle is a maximum over noise:
    each resampling increases it again by about the same amount, so twice that increase is subtracted from its
    ends (in simulations its interval then covers the best accuracy of any threshold over all pairs 93% of the
    time with 4,000 pairs, 90% with 300). An interval that does not contain its value is extended to it.

    - ``pair_accuracy``: balanced accuracy, ``score >= threshold`` means same.
    - ``pair_auc``: area under the ROC curve; ties count half.
    - ``pair_eer``: where the false accept rate equals the false reject rate, on the ROC curve with linear
      interpolation.
    - ``pair_tar@f``: the highest true accept rate of any threshold whose false accept rate is at most f,
      without interpolation.
    - ``pair_accuracy_oracle``: balanced accuracy at the best threshold for these pairs.

    Source: Efron & Tibshirani (1993), ch. 13; Fawcett (2006) for the ROC curve.

    Args:
        scores: ``[n]`` finite; larger means more similar.
        same: ``[n]`` bool, with at least one pair of each kind.
        threshold: chosen on other (validation) pairs.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.
        level: nominal coverage.

    Returns:
        One interval per metric in `PAIR_METRICS`; `n` is the number of pairs.

    Raises:
        ValueError: if scores are not finite, or without pairs of both kinds.
    """
    scores, same = checked(scores, same)
    kinds, width, accepted = _columns(scores, same, threshold)
    ends = [np.bincount(kind + 1, minlength=width + 1).cumsum() for kind in kinds]
    point = roc_metrics(ends[0][None].copy(), ends[1][None].copy(), accepted)[0]

    draws = np.empty((resamples, len(PAIR_METRICS)))
    resampled = _resampled(len(kinds[0]), len(kinds[1]), resamples, seed)
    orders = [kind.argsort() for kind in kinds]
    # 32 bits are a third faster.
    whole_numbers = np.int32 if 4 * len(kinds[0]) * len(kinds[1]) < 2**31 else np.int64
    several = max(1, 2**15 // len(scores))  # fit in the processor's cache
    for start in range(0, resamples, several):
        accepts = []
        for often, order, own in zip(resampled, orders, ends, strict=True):
            in_order = often[start : start + several].take(order, axis=1)
            sums = np.zeros((len(in_order), len(order) + 1), dtype=whole_numbers)
            in_order.cumsum(axis=1, out=sums[:, 1:])
            accepts.append(sums.take(own, axis=1))
        draws[start : start + several] = roc_metrics(accepts[0], accepts[1], accepted)
    oracle = PAIR_METRICS.index("pair_accuracy_oracle")
    draws[:, oracle] -= 2 * (draws[:, oracle].mean() - point[oracle])
    # If nearly every pair is correct, the increase can be below 0.
    draws[:, oracle] = draws[:, oracle].clip(0, 1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(float(v), float(min(v, lo)), float(max(v, hi)), len(scores))
        for name, v, lo, hi in zip(PAIR_METRICS, point, low, high, strict=True)
    }


@functools.lru_cache(maxsize=1)  # most tables have the same numbers of pairs; 40 MB of 20,000
def _resampled(same: int, different: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each pair is in each resample: uint8 ``[resamples, same]`` and ``[resamples, different]``."""
    rng = np.random.default_rng(seed)
    found = np.empty((resamples, same), np.uint8), np.empty((resamples, different), np.uint8)
    # The number drawn at once determines the order of the random numbers, and so recorded intervals.
    rows = max(1, 2**15 // (same + different))
    for first in range(0, resamples, rows):
        for own in found:
            size, count = own[first : first + rows].shape
            picked = rng.integers(0, count, size=(size, count), dtype=np.int32)
            picked += np.arange(size, dtype=np.int32)[:, None] * count
            often = np.bincount(picked.ravel(), minlength=size * count)
            own[first : first + rows] = often.reshape(size, count)
    return found


def roc_metrics(true_accepts: np.ndarray, false_accepts: np.ndarray, accepted: int) -> np.ndarray:
    """`PAIR_METRICS` of B ROC curves over the same U columns (distinct scores, or groups of them): ``[B,
    6]``.

    Comparisons use whole numbers, so ties are exact; their type must hold 4 times the number of cells, the
    product of the numbers of both kinds.

    Args:
        true_accepts: whole ``[B, U + 1]``, overwritten: same-class pairs (or their weights) in the first u
            columns, those of the highest scores, from 0 to all of them.
        false_accepts: the same for different-class pairs, overwritten. Each row has pairs of both kinds.
        accepted: number of columns that reach the threshold.
    """
    every = np.arange(len(true_accepts))
    positives, negatives = true_accepts[:, -1:].copy(), false_accepts[:, -1:].copy()
    cells = (positives * negatives)[:, 0]

    # With linear interpolation, ties count half in the area.
    twice = np.einsum("bu,bu->b", np.diff(false_accepts), true_accepts[:, :-1] + true_accepts[:, 1:])
    tar = []
    for rate in (0.1, 0.01):
        allowed = np.floor(rate * negatives + 1e-9).astype(np.int64)
        last = (false_accepts > allowed).argmax(axis=1) - 1
        tar.append(true_accepts[every, last] / positives[:, 0])

    # From here on both are in units of 1 / cells.
    true_accepts *= negatives
    false_accepts *= positives
    informedness = true_accepts - false_accepts
    # FAR - FRR rises from -1 to 1; the EER is where it crosses 0.
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
    """The columns of the ROC curve of each kind's pairs, the number of columns, and how many reach the
    threshold.

    Columns go from the highest score down. Equal scores share one, and so do neighbouring scores of one
    kind: between them the curve is a straight line for any weights of the pairs.
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
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be lists of equal length")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    if same.all() or not same.any():
        raise ValueError("pairs of both kinds, same and different, are needed")
    return scores, same


def pairs_of_classes(
    first: np.ndarray, second: np.ndarray, right: np.ndarray, same: np.ndarray, by_first: bool = False
) -> dict[int, Interval]:
    """Balanced accuracy of each class over the pairs that contain it, if there are pairs of both kinds.

    Population and validity: as `balanced_interval`.

    Args:
        first, second: int ``[n]``, classes of both images.
        right, same: bool ``[n]``, whether the answer is correct, and whether the classes are equal.
        by_first: only pairs whose first image is of the class.
    """
    found = {}
    for c in np.unique(first if by_first else [first, second]):
        involved = (first == c) | ((second == c) & (not by_first))
        kinds = right[involved & same], right[involved & ~same]
        if all(map(len, kinds)):
            found[int(c)] = balanced_interval(*kinds)
    return found


def triplets_of_classes(anchor: np.ndarray, won: np.ndarray) -> dict[int, Interval]:
    """Triplet accuracy of each class over the triplets whose anchor is of it.

    Population and validity: as `proportion_interval`.

    Args:
        anchor: int ``[n]``, classes. won: ``[n]``, 1 per correct triplet, 0.5 per tie.
    """
    by_class = {int(c): won[anchor == c] for c in np.unique(anchor)}
    return {c: proportion_interval(float(own.sum()), len(own)) for c, own in by_class.items()}
