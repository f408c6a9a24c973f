"""Tasks of one class against the rest, drawn with torch's random generators."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from bench.sampling.episodes import ClassPool


def generator_of(key: str) -> torch.Generator:
    """A generator whose numbers the key determines."""
    word = hashlib.sha256(key.encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(word, "little") >> 1)


def anchor_task(
    pool: ClassPool, own: int, batches: int, triplets: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One class against the rest: anchors and positives of the class, negatives of the others.

    Args:
        pool: of training images.
        own: position of the class in the pool.
        batches, triplets: number of batches and of triplets per batch; a batch has no image of the class
            twice.
        generator: of the random numbers.

    Returns:
        Indices into the pool, int64 ``[batches, triplets]`` each; the other classes are equally likely.
    """
    starts, counts = pool.starts, pool.counts
    alike = [torch.randperm(counts[own], generator=generator)[: 2 * triplets] for _ in range(batches)]
    anchors, positives = np.split(starts[own] + torch.stack(alike).numpy(), 2, axis=1)
    shape = (batches, triplets)
    other = torch.randint(len(counts) - 1, shape, generator=generator).numpy()
    other += other >= own
    which = torch.rand(shape, dtype=torch.float64, generator=generator).numpy() * counts[other]
    return anchors, positives, starts[other] + which.astype(np.int64)
