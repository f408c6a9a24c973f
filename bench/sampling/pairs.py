"""Deterministic image pairs and triplets, drawn in bulk as index arrays."""

from __future__ import annotations

import numpy as np

from bench.sampling.episodes import ClassPool, below, bits_of


def draw_pairs(pool: ClassPool, key: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half of the pairs show one class (two distinct images), half two classes; classes are equally likely.

    Args:
        pool: at least two classes of at least two images.
        key: text that determines the list.
        count: number of pairs, even.

    Returns:
        a, b: int64 ``[count]`` indices into the pool; same: bool ``[count]``, alternating.
    """
    raw = bits_of(key).random_raw(count * 4).reshape(count, 4)
    same = np.arange(count) % 2 == 0
    first = below(raw[:, 0], len(pool.classes))
    other = _other(raw[:, 1], first, len(pool.classes))
    second = np.where(same, first, other)
    a = below(raw[:, 2], pool.counts[first])
    b = np.where(same, _other(raw[:, 3], a, pool.counts[first]), below(raw[:, 3], pool.counts[second]))
    return pool.starts[first] + a, pool.starts[second] + b, same


def draw_triplets(pool: ClassPool, key: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anchor and positive are distinct images of one class, the negative is of another class.

    Returns:
        anchor, positive, negative: int64 ``[count]`` indices into the pool.
    """
    raw = bits_of(key).random_raw(count * 5).reshape(count, 5)
    first = below(raw[:, 0], len(pool.classes))
    other = _other(raw[:, 1], first, len(pool.classes))
    anchor = below(raw[:, 2], pool.counts[first])
    positive = _other(raw[:, 3], anchor, pool.counts[first])
    negative = below(raw[:, 4], pool.counts[other])
    return pool.starts[first] + anchor, pool.starts[first] + positive, pool.starts[other] + negative


def _other(raw: np.ndarray, taken: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Random words mapped to integers in ``0..size-1`` except `taken`."""
    drawn = below(raw, np.asarray(size) - 1)
    return drawn + (drawn >= taken)
