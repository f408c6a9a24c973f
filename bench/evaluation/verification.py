"""Verification: are two images of one class? Balanced pairs, triplets, and unbalanced pairs as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.evaluation.answers import checked
from bench.sampling.episodes import ClassPool, EpisodeList
from bench.sampling.keys import pair_key, triplet_key
from bench.sampling.pairs import draw_pairs, draw_triplets
from bench.statistics import (
    Interval,
    best_threshold,
    pair_metrics,
    pairs_of_classes,
    proportion_interval,
    triplets_of_classes,
)
from methods.method import Method

ROWS_AT_ONCE = 20_000

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Positions ``[n]`` of first and second images in a pool -> their similarities, float64 ``[n]``."""


class Verified(NamedTuple):
    """Verification of one pool.

    Attributes:
        metrics: metric name -> interval.
        per_class: class position -> metric name -> interval.
        scores: float32 ``[count]``, similarity of each pair in the order of `draw_pairs`.
        won: uint8 ``[count]``, 2 per correct triplet of `draw_triplets`, 1 per tie, else 0.
    """

    metrics: dict[str, Interval]
    per_class: dict[int, dict[str, Interval]]
    scores: np.ndarray
    won: np.ndarray


@torch.inference_mode()
def scores(method: Method, embeddings: Tensor, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Similarity of the images at `a` and at `b`: float64 ``[n]``."""
    parts = []
    for first in range(0, len(a), ROWS_AT_ONCE):
        left, right = (
            embeddings.index_select(
                0, torch.from_numpy(i[first : first + ROWS_AT_ONCE]).to(embeddings.device)
            )
            for i in (a, b)
        )
        parts.append(checked(method.similarity(left, right), "similarity", (len(left),)).cpu().double())
    return torch.cat(parts).numpy()


def threshold(method: Method, embeddings: Tensor, pool: ClassPool, key: str, count: int) -> float:
    """The similarity from which two images are classified as the same class, chosen on validation pairs."""
    a, b, same = draw_pairs(pool, pair_key(key), count)
    return best_threshold(scores(method, embeddings, a, b), same)


def verified(
    score: Score, pool: ClassPool, key: str, threshold: float, count: int, by_first: bool = False
) -> Verified:
    """All pair and triplet metrics, over the pool and per class.

    A class's pair accuracy is balanced over the pairs that contain it; its triplet accuracy is over the
    triplets whose anchor is of the class.

    Args:
        score: called once, with all pairs and both pairs of each triplet.
        pool: at least two classes of at least two images.
        key: determines the pairs and triplets.
        threshold: from validation pairs.
        count: number of pairs and of triplets, even.
        by_first: whether a class's pairs are only those whose first image is of the class.
    """
    a, b, same = draw_pairs(pool, pair_key(key), count)
    anchor, positive, negative = draw_triplets(pool, triplet_key(key), count)
    found = score(np.concatenate([a, anchor, anchor]), np.concatenate([b, positive, negative]))
    pair_scores, to_positive, to_negative = np.split(found, [count, 2 * count])
    metrics = pair_metrics(pair_scores, same, threshold)
    won = (to_positive > to_negative) + 0.5 * (to_positive == to_negative)
    metrics["triplet_accuracy"] = proportion_interval(float(won.sum()), len(won))

    owner = pool.owner
    per_class: dict[int, dict[str, Interval]] = {}
    right = (pair_scores >= threshold) == same
    for name, intervals in (
        ("triplet_accuracy", triplets_of_classes(owner[anchor], won)),
        ("pair_accuracy", pairs_of_classes(owner[a], owner[b], right, same, by_first)),
    ):
        for c, interval in intervals.items():
            per_class.setdefault(c, {})[name] = interval
    return Verified(metrics, per_class, pair_scores.astype(np.float32), (2 * won).astype(np.uint8))


def unbalanced_pair_accuracy(
    method: Method, embeddings: Tensor, episodes: EpisodeList, threshold: float
) -> tuple[np.ndarray, float]:
    """The Siamese project's "mean few-shot accuracy": each query against one support image of every class.

    Only one of a query's pairs shows the same class, so the constant answer "different" is correct for
    (way - 1) / way of them.

    Args:
        method: computes the similarities.
        embeddings: float ``[N, D]`` of the pool's images.
        episodes: with one support image per class.
        threshold: from validation pairs.

    Returns:
        Accuracy per episode, float64 ``[E]``, and the accuracy of the constant answer.
    """
    way, queries = episodes.classes.shape[1], episodes.query.shape[1]
    accuracies = []
    for support, query, labels in zip(
        episodes.support[:, :, 0], episodes.query, episodes.labels, strict=True
    ):
        similar = scores(method, embeddings, np.repeat(query, way), np.tile(support, queries)) >= threshold
        same = (labels[:, None] == np.arange(way)).ravel()
        accuracies.append((similar == same).mean())
    return np.array(accuracies), (way - 1) / way
