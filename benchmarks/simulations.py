"""Worlds whose truth is known, to see how often an interval holds it.

Each simulation draws what its population draws anew in every repetition, measures it as the bench would, and
answers whether the interval held the truth. Effects have about the sizes that they have in the committed
CIFAR-100 runs: accuracies of classes spread by 15 to 25 points, those of episodes of the same classes by 9.
"""

from __future__ import annotations

import math

import numpy as np

from bench.sampling.episodes import ClassPool, Setting, draw
from bench.statistics import (
    Interval,
    class_difference,
    class_jackknife,
    closed_interval,
    crossed_seeds,
    disjoint_episodes,
    open_interval,
    over_seeds,
    pair_metrics,
    paired_difference,
    pairs_over_classes,
    proportion_interval,
    triplets_over_classes,
)

Covered = np.ndarray
"""bool ``[repetitions]`` or ``[repetitions, metrics]``: whether each interval held the truth."""


def holds(interval: Interval, truth: float) -> bool:
    """Whether the interval holds the truth."""
    return interval.low <= truth <= interval.high


def normal_cdf(x: np.ndarray | float) -> np.ndarray:
    """The standard normal distribution function."""
    from scipy.special import ndtr

    return ndtr(x)


# Episodes from images: whether a query is right depends on how easy it is, how well the support image shows
# its class, and how easy the class is.

CLASSES, IMAGES, WAY, QUERIES = 10, 60, 5, 15
CLASS_SD, SUPPORT_SD, QUERY_SD, MIDDLE = 0.6, 0.7, 1.0, 0.5


def episodes_of_these_images(rng: np.random.Generator, repetitions: int, episodes: int = 100) -> tuple:
    """Correct answers ``[repetitions, episodes]`` of 75, all from one set of images, and their true mean."""
    ease = MIDDLE + CLASS_SD * rng.normal(size=(CLASSES, 1)) + QUERY_SD * rng.normal(size=(CLASSES, IMAGES))
    support = SUPPORT_SD * rng.normal(size=(CLASSES, IMAGES))
    right = ease[:, None, :] + support[:, :, None] > 0
    right[:, range(IMAGES), range(IMAGES)] = False  # an image is no query of its own
    share = right.sum(axis=2) / (IMAGES - 1)  # of each support image
    classes = rng.random((repetitions, episodes, CLASSES)).argpartition(WAY, axis=2)[:, :, :WAY]
    chosen = share[classes, rng.integers(0, IMAGES, size=classes.shape)]
    return rng.binomial(QUERIES, chosen).sum(axis=2), share.mean()


def closed(rng: np.random.Generator, repetitions: int) -> Covered:
    """Episodes drawn again from the same images."""
    correct, truth = episodes_of_these_images(rng, repetitions)
    return np.array([holds(closed_interval(row / (WAY * QUERIES)), truth) for row in correct])


def pooled_queries(rng: np.random.Generator, repetitions: int) -> Covered:
    """The naive interval: all queries of all episodes, counted as if they were independent."""
    correct, truth = episodes_of_these_images(rng, repetitions)
    asked = WAY * QUERIES * correct.shape[1]
    return np.array([holds(proportion_interval(int(row.sum()), asked), truth) for row in correct])


def fresh_images(rng: np.random.Generator, repetitions: int, only_disjoint: bool) -> Covered:
    """Images of the same classes drawn again: 60 episodes with 4 queries a class from 60 images a class."""
    classes = CLASS_SD * rng.normal(size=CLASSES)
    truth = float(normal_cdf((MIDDLE + classes) / math.hypot(QUERY_SD, SUPPORT_SD)).mean())
    size, setting = 60, Setting(way=WAY, shot=1, query=4, count=60 * repetitions)
    everything = draw(ClassPool(np.repeat(np.arange(CLASSES), IMAGES)), str(rng.integers(2**32)), setting)
    covered = []
    for first in range(0, len(everything), size):
        part = slice(first, first + size)
        support, query, labels = (
            everything.support[part, :, 0],
            everything.query[part],
            everything.labels[part],
        )
        ease = MIDDLE + np.repeat(classes, IMAGES) + QUERY_SD * rng.normal(size=CLASSES * IMAGES)
        shown = SUPPORT_SD * rng.normal(size=CLASSES * IMAGES)
        accuracies = (ease[query] + np.take_along_axis(shown[support], labels, axis=1) > 0).mean(axis=1)
        images = np.concatenate([support, query], axis=1)
        chosen = disjoint_episodes(images)
        interval = (
            open_interval(accuracies[chosen], images[chosen])
            if only_disjoint
            else closed_interval(accuracies)
        )
        covered.append(holds(interval, truth))
    return np.array(covered)


def new_classes(
    rng: np.random.Generator,
    repetitions: int,
    classes: int = 20,
    episodes: int = 1000,
    jackknife: bool = True,
    skewed: bool = False,
) -> Covered:
    """Classes drawn again; a pair of them may be hard to tell apart.

    Their accuracies are normal, or as skewed as an exponential distribution.
    """
    covered, truth = [], 0.6
    chosen = rng.random((episodes, classes)).argpartition(WAY, axis=1)[:, :WAY]
    for _ in range(repetitions):
        own = 0.2 * (1 - rng.exponential(size=classes) if skewed else rng.normal(size=classes))
        alike = 0.1 * rng.normal(size=(classes, classes))
        pairs = alike[chosen[:, :, None], chosen[:, None, :]].mean(axis=(1, 2))
        accuracies = truth + own[chosen].mean(axis=1) + pairs + 0.09 * rng.normal(size=episodes)
        interval = class_jackknife(accuracies, chosen) if jackknife else closed_interval(accuracies)
        covered.append(holds(interval, truth))
    return np.array(covered)


def difference_on_new_classes(
    rng: np.random.Generator,
    repetitions: int,
    classes: int = 20,
    episodes: int = 1000,
    jackknife: bool = True,
) -> Covered:
    """Classes drawn again: how much better one model is than another, which depends on the classes.

    Standard deviations: of classes 20 points for both models and 6 for their difference, of two classes
    that meet 3, of episodes 9 for both models and 4 for each.
    """
    covered, truth = [], 0.02
    chosen = rng.random((episodes, classes)).argpartition(WAY, axis=1)[:, :WAY]
    for _ in range(repetitions):
        hard, gain = 0.2 * rng.normal(size=classes), truth + 0.06 * rng.normal(size=classes)
        alike = 0.03 * rng.normal(size=(classes, classes))
        pairs = alike[chosen[:, :, None], chosen[:, None, :]].mean(axis=(1, 2))
        second = 0.6 + hard[chosen].mean(axis=1) + 0.09 * rng.normal(size=episodes)
        first = second + gain[chosen].mean(axis=1) + pairs
        first, second = (own + 0.04 * rng.normal(size=episodes) for own in (first, second))
        if jackknife:
            interval = class_difference(first, second, chosen)
            covered.append(interval.low <= truth <= interval.high)
        else:
            difference = paired_difference(first, second)
            covered.append(difference.low <= truth <= difference.high)
    return np.array(covered)


# Training seeds.


def tables(
    rng: np.random.Generator, repetitions: int, seeds: int, seed_sd: float, episodes: int = 100
) -> np.ndarray:
    """Accuracies ``[repetitions, seeds, episodes]`` around 0.6 of methods trained with several seeds."""
    return (
        0.6
        + seed_sd * rng.normal(size=(repetitions, seeds, 1))
        + 0.09 * rng.normal(size=(repetitions, 1, episodes))
        + 0.06 * rng.normal(size=(repetitions, seeds, episodes))
    )


def seeds_again(
    rng: np.random.Generator, repetitions: int, seeds: int, seed_sd: float, crossed: bool = True
) -> Covered:
    """Training and episodes drawn again."""
    rows = tables(rng, repetitions, seeds, seed_sd)
    return np.array(
        [holds(crossed_seeds(row) if crossed else closed_interval(row.mean(axis=0)), 0.6) for row in rows]
    )


def from_intervals(rng: np.random.Generator, repetitions: int, seed_sd: float) -> Covered:
    """Training and pairs drawn again, three seeds of which only the intervals are known."""
    luck, own = 0.01 * rng.normal(size=(repetitions, 1)), 0.005 * rng.normal(size=(repetitions, 3))
    values = 0.7 + seed_sd * rng.normal(size=(repetitions, 3)) + luck + own
    half = 1.96 * math.hypot(0.01, 0.005)
    return np.array(
        [holds(over_seeds([Interval(v, v - half, v + half, 9) for v in row]), 0.7) for row in values]
    )


def paired(
    rng: np.random.Generator, repetitions: int, seeds: tuple[int, int], sds: tuple[float, float]
) -> Covered:
    """Two equally good methods on the same episodes: whether the test finds no difference."""
    common = 0.07 * rng.normal(size=(repetitions, 1, 100))  # what makes an episode hard for both
    ours, theirs = (common + tables(rng, repetitions, r, sd) for r, sd in zip(seeds, sds, strict=True))
    return np.array([paired_difference(a, b).p > 0.05 for a, b in zip(ours, theirs, strict=True)])


def paired_seeds(
    rng: np.random.Generator, repetitions: int, seeds: int, network_sd: float, own_sd: float
) -> Covered:
    """Two equally good answers of the same networks: whether the test finds no difference."""
    common = 0.07 * rng.normal(size=(repetitions, 1, 100))
    network = network_sd * rng.normal(size=(repetitions, seeds, 1))
    ours, theirs = (common + network + tables(rng, repetitions, seeds, own_sd) for _ in range(2))
    return np.array(
        [paired_difference(a, b, paired_seeds=True).p > 0.05 for a, b in zip(ours, theirs, strict=True)]
    )


# Pairs and triplets. Same-class scores are normal around 1, others around 0, so every metric has a formula.

METRICS = ("pair_accuracy", "pair_auc", "pair_eer", "pair_tar@0.1")
FINENESS = 10  # steps between 0 and 1: fewer distinct scores make a shorter ROC curve


def true_metrics(same_sd: float, different_sd: float) -> np.ndarray:
    """`METRICS` at the threshold 0.5 of scores with these standard deviations."""
    at_far = 1.2815515655446004 * different_sd
    return normal_cdf(
        np.array(
            [
                [0.5 / same_sd, 0.5 / different_sd],
                [1 / math.hypot(same_sd, different_sd)] * 2,
                [-1 / (same_sd + different_sd)] * 2,
                [(1 - at_far) / same_sd] * 2,
            ]
        )
    ).mean(axis=1)


def held(found: dict[str, Interval], truths: np.ndarray) -> list[bool]:
    """Whether each of `METRICS` holds its truth."""
    return [holds(found[name], truth) for name, truth in zip(METRICS, truths, strict=True)]


def pairs(rng: np.random.Generator, repetitions: int, count: int = 600, resamples: int = 300) -> Covered:
    """Pairs drawn again from the same images."""
    # The percentiles of B resamples hold about 2/B less than their level, which matters with 300.
    level = 1 - 2 * (0.025 * (resamples + 1) - 1) / (resamples - 1)
    same, truths = np.arange(count) % 2 == 0, true_metrics(1, 1)
    scores = np.floor(FINENESS * (rng.normal(size=(repetitions, count)) + same))
    return np.array(
        [held(pair_metrics(row, same, FINENESS / 2, resamples, level=level), truths) for row in scores]
    )


def triplets(rng: np.random.Generator, repetitions: int, count: int = 2000, share: float = 0.83) -> Covered:
    """Triplets drawn again from the same images."""
    won = rng.binomial(count, share, size=repetitions)
    return np.array([holds(proportion_interval(int(row), count), share) for row in won])


def pairs_of_new_classes(
    rng: np.random.Generator, repetitions: int, classes: int, bootstrap: bool = True, count: int = 10_000
) -> Covered:
    """Classes drawn again that differ in how alike their own images are, and in how like others they look."""
    noise, own_sd, like_sd, met_sd = 0.5, 0.3, 0.15, 0.15
    truths = true_metrics(math.hypot(noise, own_sd), math.sqrt(noise**2 + 2 * like_sd**2 + met_sd**2))
    covered = []
    for _ in range(repetitions):
        own, like = own_sd * rng.normal(size=classes), like_sd * rng.normal(size=classes)
        met = met_sd * rng.normal(size=(classes, classes))
        first, second = two_classes(rng, classes, count)
        second[::2] = first[::2]
        alike = like[first] + like[second] + met[np.minimum(first, second), np.maximum(first, second)]
        scores = np.where(first == second, 1 + own[first], alike) + noise * rng.normal(size=count)
        scores = np.floor(FINENESS * scores)
        if bootstrap:
            found = pairs_over_classes(scores, first, second, FINENESS / 2, resamples=100)
        else:
            found = pair_metrics(scores, first == second, FINENESS / 2, resamples=100)
        covered.append(held(found, truths))
    return np.array(covered)


def triplets_of_new_classes(
    rng: np.random.Generator, repetitions: int, classes: int, count: int = 5000
) -> Covered:
    """Classes drawn again that differ in how easy they are, and in how like others they look."""
    own_sd, met_sd = 0.5, 0.3
    truth = float(normal_cdf(1 / math.sqrt(1 + own_sd**2 + met_sd**2)))
    covered = []
    for _ in range(repetitions):
        anchor, negative = two_classes(rng, classes, count)
        ease = 1 + own_sd * rng.normal(size=(classes, 1)) + met_sd * rng.normal(size=(classes, classes))
        won = rng.random(count) < normal_cdf(ease)[anchor, negative]
        covered.append(holds(triplets_over_classes(won, anchor, negative, resamples=500), truth))
    return np.array(covered)


def two_classes(rng: np.random.Generator, classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two different classes, `count` times."""
    first = rng.integers(0, classes, count)
    return first, (first + rng.integers(1, classes, count)) % classes
