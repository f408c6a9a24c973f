"""Intervals that apply to new classes: a jackknife for episodes, a bootstrap for pairs and triplets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.statistics.intervals import Interval, clipped
from bench.statistics.pairs import PAIR_METRICS, checked, roc_metrics
from bench.statistics.student import t_quantile

FEWEST_CLASSES = 3


def class_jackknife(accuracies: np.ndarray, classes: np.ndarray) -> Interval:
    """Mean accuracy over episodes, with their C classes as a random sample: delete-one-class jackknife.

    Population: episodes of *new classes* from the same population, with images and class sets redrawn,
    answered by *this trained model*. It does not cover retraining. Not valid if every episode contains every
    class (`allw1s`), or if classes were selected by hand.

    ``SE^2 = (C-1)/C sum (a_(-c) - mean)^2``, where a_(-c) is the mean over the episodes without class c, and
    the interval is ± t(C-1) SE. Because there are only T episodes, a_(-c) differs from the mean over all
    episodes even if the classes are equal, with variance ``(n_c/T)^2 (s_c^2/n_c + s_(-c)^2/n_(-c))``,
    where n_c and s_c^2 are of the episodes that contain the class. The sum over classes is subtracted from
    the sum of squares, and the closed variance s^2/T is added to SE^2. Without this correction the interval
    of 20 classes and 1,000 episodes covers 98% if classes differ little, and that of 90 classes nearly 100%.

    Interactions of two classes (they look alike) enter SE^2 twice, as in every jackknife of an average over
    sets. So the interval is slightly too wide if a class is hard only together with certain others. With 10
    classes it covers 95% if their accuracies follow a normal distribution, 91% if they are as skewed as an
    exponential distribution.

    Source: Efron & Stein (1981), The Jackknife Estimate of Variance; Arvesen (1969) for averages over sets.

    Args:
        accuracies: ``[T]`` fractions, one per episode.
        classes: int ``[T, way]``, the classes of each episode, all different.

    Returns:
        `n` is C.

    Raises:
        ValueError: with fewer than three classes, or if a class is in fewer than two episodes or missing from
            fewer than two.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    if classes.ndim != 2 or accuracies.shape != classes.shape[:1]:
        raise ValueError(f"accuracies {accuracies.shape} and classes {classes.shape} must have equal lengths")
    members = _members(classes)
    [value], [half] = _jackknife(accuracies[None], members)
    return clipped(float(value), float(half), members.shape[1])


def class_difference(first: np.ndarray, second: np.ndarray, classes: np.ndarray) -> Interval:
    """Difference of two models' mean accuracies on identical episodes, with C classes as a random sample.

    Population: episodes of *new classes* from the same population, answered by *these two trained models*.
    It does not cover retraining or models trained on other base classes. Method and validity:
    `class_jackknife` of the differences per episode, so what makes a class hard for both models cancels.

    Args:
        first: ``[T]`` fractions, one per episode; of several seeds their mean.
        second: ``[T]``, on the same episodes.
        classes: int ``[T, way]``, the classes of each episode, all different.

    Returns:
        Ends between -1 and 1; `n` is C.

    Raises:
        ValueError: as `class_jackknife`, or if the numbers of episodes differ.
    """
    if not len(first) == len(second) == len(classes):
        raise ValueError(f"{len(first)}, {len(second)} and {len(classes)} episodes: must be equal")
    values, halves = class_differences([first, second], classes)
    value, half = float(values[0, 1]), float(halves[0, 1])
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), len(np.unique(classes)))


def class_differences(accuracies: Sequence[np.ndarray], classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`class_difference` of all pairs of M models.

    Args:
        accuracies: ``[T]`` fractions per model. If two differ in T, the shorter's episodes are the first of
            the longer's, and the two are compared on those.
        classes: int ``[T, way]`` of the longest.

    Returns:
        ``[M, M]`` differences, row minus column, and the half-widths of their intervals.

    Raises:
        ValueError: as `class_jackknife`.
    """
    tables = [np.asarray(own, dtype=np.float64) for own in accuracies]
    values, halves = np.zeros((2, len(tables), len(tables)))
    for count in sorted({len(own) for own in tables}):
        if count > len(classes):
            raise ValueError(f"{count} accuracies and classes {classes.shape} must have equal lengths")
        members = _members(classes[:count])
        for i, own in enumerate(tables):
            others = [j for j in range(i) if min(len(own), len(tables[j])) == count]
            if not others:
                continue
            differences = own[:count] - np.stack([tables[j][:count] for j in others])
            value, half = _jackknife(differences, members)
            values[i, others], values[others, i] = value, -value
            halves[i, others] = halves[others, i] = half
    return values, halves


def _members(classes: np.ndarray) -> np.ndarray:
    """``[T, C]``: 1 if the episode contains the class."""
    names, positions = np.unique(classes, return_inverse=True)
    members = np.zeros((len(classes), len(names)))
    np.put_along_axis(members, positions.reshape(classes.shape), 1.0, axis=1)
    return members


def _jackknife(values: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``[M, T]`` values and the half-widths of their intervals, as `class_jackknife` describes."""
    episodes, count = members.shape
    inside = members.sum(axis=0)
    outside = episodes - inside
    if count < FEWEST_CLASSES or min(inside.min(), outside.min()) < 2:
        raise ValueError(
            f"{count} classes: at least {FEWEST_CLASSES} needed, each in two episodes and missing from two"
        )
    means = values.mean(axis=1)
    centred = values - means[:, None]
    sums, squares = centred @ members, centred**2 @ members
    total = (centred**2).sum(axis=1, keepdims=True)
    without = -sums / outside  # a_(-c) minus the mean over all episodes; all deviations sum to 0
    spread_inside = (squares - sums**2 / inside) / (inside - 1)
    spread_outside = (total - squares - sums**2 / outside) / (outside - 1)
    noise = (inside / episodes) ** 2 * (spread_inside / inside + spread_outside / outside)
    spread = (without - without.mean(axis=1, keepdims=True)) ** 2
    of_classes = np.maximum(0.0, (spread - noise).sum(axis=1))
    variance = (count - 1) / count * of_classes + total[:, 0] / (episodes - 1) / episodes
    return means, t_quantile(count - 1) * np.sqrt(variance)


def pairs_over_classes(
    scores: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    threshold: float,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Verification metrics of scored pairs, with their C classes as a random sample: bootstrap.

    Population: pairs of images of *new classes* from the same population, scored by *this trained
    model*, with this threshold. It does not cover retraining. Not valid if classes were selected by
    hand; rough with fewer than 10 classes.

    A resample draws C classes with replacement. The weight of a same-class pair is the count of its class,
    that of a different-class pair the product of both counts. Pairs are not resampled. Percentiles of so few
    classes are too narrow, because their spread lacks the factor sqrt(C/(C-1)) and Student's t: with 10
    classes they cover 88 to 91%. So the interval is ``logit(value) ± t(C-1) sqrt(C/(C-1)) sd``, with sd the
    standard deviation of the resamples' logits; on the logit scale the interval of an AUC near 1 can be
    asymmetric. Simulated with 10 classes and effects like those of CIFAR-100, it covers 94 to 96%.
    Interactions of two classes count up to three times: if these, or the small number of pairs, matter as
    much as the classes, it covers 97%.

    Source: Efron & Tibshirani (1993), ch. 13; Hesterberg (2015), What Teachers Should Know About the
    Bootstrap, 5.2, on the percentiles of small samples.

    Args:
        scores: ``[n]`` finite; larger means more similar.
        first: int ``[n]``, the class of each pair's first image.
        second: int ``[n]``, that of the second image.
        threshold: chosen on other (validation) pairs.
        resamples: number of resamples of the classes. Those without pairs of one kind are dropped.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        One interval per metric in `PAIR_METRICS` except the oracle; `n` is C.

    Raises:
        ValueError: if scores are not finite, without pairs of both kinds, or with fewer than three
            classes.
    """
    scores, same = checked(scores, first == second)
    from scipy.sparse import coo_array

    owners, multiplicity = _resampled([first, second], resamples, seed)
    classes = multiplicity.shape[1]
    values, ranks = np.unique(-scores, return_inverse=True)  # rank 0 is the highest score
    accepted = int((-values >= threshold).sum())
    one, other = np.triu_indices(classes)
    meeting = np.zeros((classes, classes), dtype=np.int64)
    meeting[one, other] = meeting[other, one] = np.arange(len(one))
    meetings = meeting[owners[0], owners[1]]
    # Number of pairs per score: of each class with itself, and of each two classes.
    counts = [
        coo_array(
            (np.ones(int(kind.sum()), dtype=np.int64), (ranks[kind], meetings[kind])), (len(values), len(one))
        ).tocsr()
        for kind in (same, ~same)
    ]

    def metrics(times: np.ndarray) -> np.ndarray:
        weights = (times[:, one].T, (times[:, one] * times[:, other]).T)
        accepts = []
        for count, weight in zip(counts, weights, strict=True):
            accepts.append(np.zeros((len(times), len(values) + 1), dtype=np.int64))
            np.cumsum((count @ weight).T, axis=1, out=accepts[-1][:, 1:])
        usable = (accepts[0][:, -1] > 0) & (accepts[1][:, -1] > 0)
        return roc_metrics(accepts[0][usable], accepts[1][usable], accepted)

    rows = max(1, 2**16 // len(values))  # resamples at once that fit in the processor's cache
    draws = np.concatenate([metrics(multiplicity[i : i + rows]) for i in range(0, resamples, rows)])
    point = metrics(np.ones((1, classes), dtype=np.int64))[0]
    return {
        name: _interval(float(point[i]), draws[:, i], len(scores), classes)
        for i, name in enumerate(PAIR_METRICS)
        if name != "pair_accuracy_oracle"
    }


def triplets_over_classes(
    won: np.ndarray,
    anchor: np.ndarray,
    negative: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Share of correct triplets, with their C classes as a random sample: bootstrap.

    Population, method and validity: as `pairs_over_classes`; the weight of a triplet is the count of its
    anchor's class times that of its negative's class.

    Args:
        won: ``[n]``, 1 for a correct triplet, 0.5 for a tie, else 0.
        anchor: int ``[n]``, the class of anchor and positive.
        negative: int ``[n]``, the class of the negative, always another one.
        resamples: number of resamples of the classes. Those without triplets are dropped.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        `n` is C.

    Raises:
        ValueError: with fewer than three classes.
    """
    owners, multiplicity = _resampled([anchor, negative], resamples, seed)
    classes = multiplicity.shape[1]
    cell = owners[0] * classes + owners[1]
    counts, right = (
        np.bincount(cell, weights, classes**2).reshape(classes, classes) for weights in (None, won)
    )
    # Both sums of each resample over all pairs of classes.
    asked, answered = (((multiplicity @ table) * multiplicity).sum(axis=1) for table in (counts, right))
    draws = answered[asked > 0] / asked[asked > 0]
    return _interval(float(np.mean(won)), draws, len(won), classes)


def _resampled(labels: list[np.ndarray], resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels as positions in the list of classes, and the count of each class in each resample.

    Returns:
        positions ``[len(labels), n]`` and counts ``[resamples, C]``.
    """
    names, positions = np.unique(np.stack(labels), return_inverse=True)
    classes = len(names)
    if classes < FEWEST_CLASSES:
        raise ValueError(f"{classes} classes, at least {FEWEST_CLASSES} needed")
    rng = np.random.default_rng(seed)
    multiplicity = rng.multinomial(classes, np.full(classes, 1 / classes), size=resamples)
    return positions.reshape(len(labels), -1), multiplicity


def _interval(value: float, draws: np.ndarray, n: int, classes: int) -> Interval:
    """Interval of a metric of `n` pairs or triplets from its resamples, on the logit scale."""
    from scipy.special import expit, logit

    # Half an answer of each kind is added, so that 0 and 1 have a finite logit.
    middle, resampled = logit((value * n + 0.5) / (n + 1)), logit((draws * n + 0.5) / (n + 1))
    half = t_quantile(classes - 1) * math.sqrt(classes / (classes - 1)) * float(resampled.std())
    low, high = float(expit(middle - half)), float(expit(middle + half))
    return Interval(value, min(value, low), max(value, high), classes)
