"""N-way K-shot accuracy of methods that adapt to the support images of every episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.normalisation import Normaliser
from bench.evaluation.answers import checked
from bench.evaluation.embedding import autocast
from bench.evaluation.fewshot import FewShotResult
from bench.sampling.episodes import ClassPool, EpisodeList
from methods.method import Method

QUERIES_AT_ONCE = 512
EPISODES_AT_ONCE = {"cpu": 1}  # more does not help on a CPU, but on other devices
EPISODES_ON_DEVICE = 16


def evaluate(
    method: Method,
    images: Tensor,
    index: Tensor,
    normalise: Normaliser,
    precision: str,
    pool: ClassPool,
    episodes: EpisodeList,
    progress: Callable[[int], None] | None = None,
) -> FewShotResult:
    """Adapt to the support set of every episode, and classify its queries.

    Args:
        method: one without a fixed embedding, in evaluation mode.
        images: uint8 ``[N, 3, H, W]``.
        index: int64, positions of the pool's images in `images`.
        normalise: the one that training used.
        precision: as Lightning names it, e.g. ``bf16-mixed``.
        pool: positions of each class's images in `index`.
        episodes: indices into the pool.
        progress: called with the number of newly evaluated episodes.
    """
    hits, queries = np.zeros_like(episodes.classes), np.zeros_like(episodes.classes)
    where = (images, index, normalise, precision)
    for rows, logits, labels in logits_of(method, *where, pool, episodes):
        correct = logits.argmax(dim=2).numpy() == labels
        for row, own, right in zip(range(rows.start, rows.stop), labels, correct, strict=True):
            hits[row] = np.bincount(own[right], minlength=hits.shape[1])
            queries[row] = np.bincount(own, minlength=hits.shape[1])
        if progress:
            progress(rows.stop - rows.start)
    return FewShotResult(hits, queries, episodes.classes)


def logits_of(
    method: Method,
    images: Tensor,
    index: Tensor,
    normalise: Normaliser,
    precision: str,
    pool: ClassPool,
    episodes: EpisodeList,
) -> Iterator[tuple[slice, Tensor, np.ndarray]]:
    """Which episodes, the scores ``[e, Q, way]`` of their queries on the CPU, and their labels ``[e, Q]``.

    Arguments as for `evaluate`.
    """
    if method.training:
        raise ValueError("methods are evaluated in evaluation mode")
    device = method.device

    def take(chosen: np.ndarray) -> Tensor:
        flat = index[torch.from_numpy(chosen.reshape(-1))]
        return normalise(images[flat].to(device)).unflatten(0, chosen.shape)

    for rows, support, query, labels in _parts(pool, episodes, device.type):
        yield rows, scores(method, support, query, take, precision), labels


def scores(method: Method, support: Any, query: Any, take: Callable[[Any], Tensor], precision: str) -> Tensor:
    """Scores ``[E, Q, way]`` on the CPU of queries ``[E, Q, ...]`` after adapting to ``[E, way, shot, ...]``.

    `take` makes normalised images of support and queries, few at a time.
    """
    with autocast(method.device, precision), torch.enable_grad():
        answer = method.adapt(take(support))
    size = max(1, query.shape[1]) if method.transductive else QUERIES_AT_ONCE
    parts = []
    for first in range(0, max(1, query.shape[1]), size):
        part = query[:, first : first + size]
        with autocast(method.device, precision), torch.no_grad():
            logits = answer(take(part))
        checked(logits, "the function that adapt returns", (*part.shape[:2], support.shape[1]))
        parts.append(logits.cpu())
    return torch.cat(parts, dim=1)


def _parts(
    pool: ClassPool, episodes: EpisodeList, device: str
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Episode numbers, support ``[E, way, shot]``, queries ``[E, Q]`` and labels ``[E, Q]``, in parts."""
    if episodes.query.shape[1]:
        size = EPISODES_AT_ONCE.get(device, EPISODES_ON_DEVICE)
        for first in range(0, len(episodes), size):
            rows = slice(first, min(first + size, len(episodes)))
            yield rows, episodes.support[rows], episodes.query[rows], episodes.labels[rows]
        return
    owner = pool.owner
    for row, (classes, support) in enumerate(zip(episodes.classes, episodes.support, strict=True)):
        query = np.setdiff1d(np.arange(len(owner)), support)
        labels = np.argsort(classes)[owner[query]]
        yield slice(row, row + 1), support[None], query[None], labels[None]
