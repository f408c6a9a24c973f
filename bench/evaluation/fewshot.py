"""N-way K-shot accuracy from cached embeddings, for many episodes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.evaluation.answers import checked
from bench.sampling.episodes import ClassPool, EpisodeList
from bench.statistics import Interval, closed_interval
from methods.method import Method

FLOATS_AT_ONCE = 6_000_000  # embedding values gathered at a time, so that they fit in the processor's cache


@dataclass(frozen=True)
class FewShotResult:
    """Correct answers per episode.

    Attributes:
        hits: int64 ``[E, way]``, number of correct queries per class of the episode.
        queries: int64 ``[E, way]``, number of queries per class.
        classes: int64 ``[E, way]``, positions in the pool's class list.
    """

    hits: np.ndarray
    queries: np.ndarray
    classes: np.ndarray

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy of each episode: float64 ``[E]``."""
        return self.hits.sum(1) / self.queries.sum(1)

    def interval(self) -> Interval:
        """Mean accuracy with its closed interval."""
        return closed_interval(self.accuracies)

    def per_class(self) -> dict[int, Interval]:
        """Class (position in the pool) -> its recall over the episodes that contain it."""
        shares = self.hits / self.queries
        found = {c: shares[self.classes == c] for c in np.unique(self.classes).tolist()}
        return {c: closed_interval(values) for c, values in found.items()}


@torch.inference_mode()
def evaluate(method: Method, embeddings: Tensor, pool: ClassPool, episodes: EpisodeList) -> FewShotResult:
    """Evaluate all episodes of the list from embeddings.

    Args:
        method: one with a fixed embedding.
        embeddings: float ``[N, D]`` of the pool's images.
        pool: positions of each class's images in `embeddings`.
        episodes: indices into the pool.
    """
    if episodes.query.shape[1] == 0:
        hits, queries = _against_everything(method, embeddings, pool, episodes)
    else:
        hits, queries = _in_chunks(method, embeddings, episodes)
    return FewShotResult(hits, queries, episodes.classes)


def _in_chunks(method: Method, embeddings: Tensor, episodes: EpisodeList) -> tuple[np.ndarray, np.ndarray]:
    hits, queries = _empty_counts(episodes, embeddings.device)
    for part, logits in logits_of(method, embeddings, episodes):
        labels = torch.from_numpy(episodes.labels[part]).to(embeddings.device)
        correct = (logits.argmax(dim=2) == labels).long()
        hits[part].scatter_add_(1, labels, correct)
        queries[part].scatter_add_(1, labels, torch.ones_like(correct))
    return hits.cpu().numpy(), queries.cpu().numpy()


def logits_of(method: Method, embeddings: Tensor, episodes: EpisodeList) -> Iterator[tuple[slice, Tensor]]:
    """Scores ``[e, Q, way]`` of the queries of some episodes at a time, and which episodes these are."""
    per_episode = (episodes.support[0].size + episodes.query[0].size) * embeddings.shape[1]
    size = max(1, FLOATS_AT_ONCE // per_episode)
    for first in range(0, len(episodes), size):
        part = slice(first, first + size)
        support, query = (
            torch.from_numpy(array[part]).to(embeddings.device)
            for array in (episodes.support, episodes.query)
        )
        logits = method.episode_logits(_gather(embeddings, support), _gather(embeddings, query))
        yield part, checked(logits, "episode_logits", (*query.shape, support.shape[1]))


def _empty_counts(episodes: EpisodeList, device: torch.device) -> tuple[Tensor, Tensor]:
    # Allocated before the loop: a small tensor kept from each round would occupy memory between the large
    # ones, and the process would grow by their size in every round.
    hits = torch.zeros(episodes.classes.shape, dtype=torch.long, device=device)
    return hits, torch.zeros_like(hits)


def _gather(embeddings: Tensor, index: Tensor) -> Tensor:
    # index_select is several times faster than fancy indexing on the CPU.
    return embeddings.index_select(0, index.flatten()).unflatten(0, index.shape)


def _against_everything(
    method: Method, embeddings: Tensor, pool: ClassPool, episodes: EpisodeList
) -> tuple[np.ndarray, np.ndarray]:
    """Score all images against the support set, and leave out the support images.

    This avoids a copy of nearly the whole pool per draw. It does not change the result of inductive methods,
    whose answer to a query does not depend on other queries.
    """
    sizes = torch.from_numpy(pool.counts).to(embeddings.device)
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=embeddings.device), sizes)
    hits, queries = _empty_counts(episodes, embeddings.device)
    for row, (classes, support) in enumerate(zip(episodes.classes, episodes.support, strict=True)):
        chosen = torch.from_numpy(support).to(embeddings.device)
        order = torch.from_numpy(classes).to(embeddings.device)
        logits = method.episode_logits(_gather(embeddings, chosen)[None], embeddings[None])
        checked(logits, "episode_logits", (1, len(embeddings), len(classes)))
        correct = order[logits[0].argmax(dim=1)] == owner
        correct[chosen.flatten()] = False
        hits[row] = torch.bincount(owner[correct], minlength=len(sizes))[order]
        queries[row] = sizes[order] - support.shape[1]
    return hits.cpu().numpy(), queries.cpu().numpy()
