"""Intervals that apply to new classes: a jackknife for episodes, a bootstrap for pairs and triplets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.statistics.intervals import Interval, clipped
from bench.statistics.pairs import PAIR_METRICS, checked, roc_metrics
from bench.statistics.student import t_quantile

FEWEST_CLASSES = 3


def class_jackknife(accuracies: np.ndarray, classes: np.ndarray, level: float = 0.95) -> Interval:
    """Mean accuracy over episodes, as if their C classes had been drawn too: delete-one-class jackknife.

    Population: episodes of *new classes* from where these came from, with images and class sets
    redrawn, answered by *this trained model*. It says nothing about training again.  Not valid where every
    episode holds every class (`allw1s`), nor for classes picked by hand.

    ``SE^2 = (C-1)/C sum (a_(-c) - mean)^2``, where a_(-c) is the mean over the episodes without class c, and
    the interval is ± t(C-1) SE.  Because there are only T episodes, a_(-c) differs from the mean over all
    episodes even where the classes are alike, by a variance of ``(n_c/T)^2 (s_c^2/n_c + s_(-c)^2/n_(-c))``
    with n_c and s_c^2 of the episodes that hold the class. Summed over classes that is taken off the sum of
    squares, and the closed variance s^2/T added to SE^2: without this correction the interval of 20 classes
    and 1,000 episodes covers 98% where classes differ little, that of 90 classes nearly always.

    What depends on two classes meeting (they look alike) enters SE^2 twice, as in every jackknife of an
    average over sets; so the interval is a little wide where a class is hard only beside certain others.
    With 10 classes it covers 95% if their accuracies spread like a normal distribution, 91% if they are as
    skewed as an exponential one.

    Source: Efron & Stein (1981), The Jackknife Estimate of Variance; Arvesen (1969) for averages over sets.

    Args:
        accuracies: ``[T]`` fractions, one an episode.
        classes: int ``[T, way]``, the classes of each episode, all different.
        level: the share of intervals that should hold the truth.

    Returns:
        `n` is C.

    Raises:
        ValueError: with fewer than three classes, or one that is in fewer than two episodes or missing in
            fewer than two.
    """
    accuracies = np.asarray(accuracies, dtype=np.float64)
    if classes.ndim != 2 or accuracies.shape != classes.shape[:1]:
        raise ValueError(f"accuracies {accuracies.shape} and classes {classes.shape} are not of one list")
    members = _members(classes)
    [value], [half] = _jackknife(accuracies[None], members, level)
    return clipped(float(value), float(half), members.shape[1])


def class_difference(
    first: np.ndarray, second: np.ndarray, classes: np.ndarray, level: float = 0.95
) -> Interval:
    """Difference of two models' mean accuracies on identical episodes, as if their C classes were drawn too.

    Population: episodes of *new classes* from where these came from, answered by *these two trained models*.
    It says nothing about training again, nor about models trained on other base classes.  Method and
    validity: `class_jackknife` of the differences episode by episode, so what makes a class hard for both
    models drops out.

    Args:
        first: ``[T]`` fractions, one per episode; of several seeds their mean.
        second: ``[T]``, on the same episodes.
        classes: int ``[T, way]``, the classes of each episode, all different.
        level: the share of intervals that should hold the truth.

    Returns:
        Ends between -1 and 1; `n` is C.

    Raises:
        ValueError: as `class_jackknife`, or if the numbers of episodes differ.
    """
    if not len(first) == len(second) == len(classes):
        raise ValueError(f"{len(first)}, {len(second)} and {len(classes)} episodes are not of one list")
    values, halves = class_differences([first, second], classes, level)
    value, half = float(values[0, 1]), float(halves[0, 1])
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), len(np.unique(classes)))


def class_differences(
    accuracies: Sequence[np.ndarray], classes: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """`class_difference` of every two of M models.

    Args:
        accuracies: for each model ``[T]`` fractions. Where two differ in T, the shorter's episodes are the
            first of the longer's, and the two are compared on those.
        classes: int ``[T, way]`` of the longest.
        level: the share of intervals that should hold the truth.

    Returns:
        ``[M, M]`` differences, row less column, and the half-widths of their intervals.

    Raises:
        ValueError: as `class_jackknife`.
    """
    tables = [np.asarray(own, dtype=np.float64) for own in accuracies]
    values, halves = np.zeros((2, len(tables), len(tables)))
    for count in sorted({len(own) for own in tables}):
        if count > len(classes):
            raise ValueError(f"{count} accuracies and classes {classes.shape} are not of one list")
        members = _members(classes[:count])
        for i, own in enumerate(tables):
            others = [j for j in range(i) if min(len(own), len(tables[j])) == count]
            if not others:
                continue
            differences = own[:count] - np.stack([tables[j][:count] for j in others])
            value, half = _jackknife(differences, members, level)
            values[i, others], values[others, i] = value, -value
            halves[i, others] = halves[others, i] = half
    return values, halves


def _members(classes: np.ndarray) -> np.ndarray:
    """``[T, C]``: 1 where the episode holds the class."""
    names, positions = np.unique(classes, return_inverse=True)
    members = np.zeros((len(classes), len(names)))
    np.put_along_axis(members, positions.reshape(classes.shape), 1.0, axis=1)
    return members


def _jackknife(values: np.ndarray, members: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``[M, T]`` values and the half-widths of their intervals, as `class_jackknife` describes."""
    episodes, count = members.shape
    inside = members.sum(axis=0)
    outside = episodes - inside
    if count < FEWEST_CLASSES or min(inside.min(), outside.min()) < 2:
        raise ValueError(
            f"{count} classes: each of at least {FEWEST_CLASSES} must be in two episodes and missing in two"
        )
    means = values.mean(axis=1)
    centred = values - means[:, None]
    sums, squares = centred @ members, centred**2 @ members
    total = (centred**2).sum(axis=1, keepdims=True)
    without = -sums / outside  # a_(-c) less the mean over all episodes; the sum of all deviations is 0
    spread_inside = (squares - sums**2 / inside) / (inside - 1)
    spread_outside = (total - squares - sums**2 / outside) / (outside - 1)
    noise = (inside / episodes) ** 2 * (spread_inside / inside + spread_outside / outside)
    spread = (without - without.mean(axis=1, keepdims=True)) ** 2
    of_classes = np.maximum(0.0, (spread - noise).sum(axis=1))
    variance = (count - 1) / count * of_classes + total[:, 0] / (episodes - 1) / episodes
    return means, t_quantile(count - 1, level) * np.sqrt(variance)


def pairs_over_classes(
    scores: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    threshold: float,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Verification metrics of scored pairs, as if the C classes in them had been drawn too: bootstrap.

    Population: pairs of images of *new classes* from where these came from, scored by *this trained
    model*, with this threshold.  It says nothing about training again.  Not valid for classes picked by
    hand; rough with fewer than 10 classes.

    A resample draws C classes with replacement: a same-class pair then counts as often as its class was
    drawn, a different-class pair as often as the one class times as often as the other. Nothing is drawn
    pair by pair.  The percentiles of so few classes lie too close together, because their spread lacks the
    factor sqrt(C/(C-1)) and Student's t: with 10 classes they cover 88 to 91%.  So the interval is
    ``logit(value) ± t(C-1) sqrt(C/(C-1)) sd`` with sd the standard deviation of the resamples' logits; on the
    scale of the logit an AUC near 1 may lie farther below than above. Simulated with 10 classes and effects
    like those of CIFAR-100 it covers 94 to 96%.  What is peculiar to two classes is counted up to three
    times: where that, or the small number of pairs, matters as much as the classes do, it covers 97%.

    Source: Efron & Tibshirani (1993), ch. 13; Hesterberg (2015), What Teachers Should Know About the
    Bootstrap, 5.2, on the percentiles of small samples.

    Args:
        scores: ``[n]`` finite; larger means more alike.
        first: int ``[n]``, the class of each pair's one image.
        second: int ``[n]``, that of the other.
        threshold: found on other (validation) pairs.
        resamples: of the classes. Those left without pairs of one kind are dropped.
        seed: of the resampling; the same seed gives the same interval.
        level: the share of intervals that should hold the truth.

    Returns:
        One interval for each of `PAIR_METRICS` but the oracle; `n` is C.

    Raises:
        ValueError: on scores that are not finite, without pairs of both kinds, or with fewer than three
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
    # How many pairs have each score: of each class with itself, and of each two classes that meet.
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

    rows = max(1, 2**16 // len(values))  # as many resamples at once as stay in the processor's cache
    draws = np.concatenate([metrics(multiplicity[i : i + rows]) for i in range(0, resamples, rows)])
    point = metrics(np.ones((1, classes), dtype=np.int64))[0]
    return {
        name: _interval(float(point[i]), draws[:, i], len(scores), classes, level)
        for i, name in enumerate(PAIR_METRICS)
        if name != "pair_accuracy_oracle"
    }


def triplets_over_classes(
    won: np.ndarray,
    anchor: np.ndarray,
    negative: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Share of triplets won, as if the C classes in them had been drawn too: bootstrap.

    Population, method and validity: as `pairs_over_classes`; a triplet counts as often as its anchor's class
    was drawn times as often as its negative's.

    Args:
        won: ``[n]``, 1 for a triplet that is right, 0.5 for a tie, else 0.
        anchor: int ``[n]``, the class of anchor and positive.
        negative: int ``[n]``, the class of the negative, always another.
        resamples: of the classes. Those left without triplets are dropped.
        seed: of the resampling; the same seed gives the same interval.
        level: the share of intervals that should hold the truth.

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
    return _interval(float(np.mean(won)), draws, len(won), classes, level)


def _resampled(labels: list[np.ndarray], resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels as positions in the list of classes, and how often each resample draws each class.

    Returns:
        positions ``[len(labels), n]`` and multiplicities ``[resamples, C]``.
    """
    names, positions = np.unique(np.stack(labels), return_inverse=True)
    classes = len(names)
    if classes < FEWEST_CLASSES:
        raise ValueError(f"{classes} classes, at least {FEWEST_CLASSES} are needed")
    rng = np.random.default_rng(seed)
    multiplicity = rng.multinomial(classes, np.full(classes, 1 / classes), size=resamples)
    return positions.reshape(len(labels), -1), multiplicity


def _interval(value: float, draws: np.ndarray, n: int, classes: int, level: float) -> Interval:
    """From a metric of `n` pairs or triplets and its resamples, on the scale of the logit."""
    from scipy.special import expit, logit

    # Half an answer of each kind is added, so that 0 and 1 have a logit.
    middle, resampled = logit((value * n + 0.5) / (n + 1)), logit((draws * n + 0.5) / (n + 1))
    half = t_quantile(classes - 1, level) * math.sqrt(classes / (classes - 1)) * float(resampled.std())
    low, high = float(expit(middle - half)), float(expit(middle + half))
    return Interval(value, min(value, low), max(value, high), classes)
