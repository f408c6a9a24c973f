"""Deterministic N-way K-shot episodes, drawn in bulk as index tensors.

The list of episodes depends only on a key (data, split, way, shot, query, seed). It is the same on every
machine and for every method, and a shorter list is the beginning of a longer one. Only a bit generator's raw
64-bit words are used, because numpy guarantees that they are stable across versions, unlike the `Generator`
methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 256  # episodes drawn at a time, so that the shuffled rows fit in the processor's cache
QUERIES = 15  # query images per class of the standard settings


@dataclass(frozen=True)
class Setting:
    """An N-way K-shot setting.

    Attributes:
        way: classes per episode; 0 means all classes of the pool.
        shot: support images per class.
        query: query images per class; 0 means all images of the class except support images.
        count: number of episodes.
        others: further classes of an episode, which have queries but no support images (open set).
    """

    way: int
    shot: int
    query: int
    count: int
    others: int = 0

    @property
    def images(self) -> int:
        """Images that a class needs."""
        return self.shot + max(self.query, 1)

    @property
    def name(self) -> str:
        """The name in metric keys: ``5w1s``, ``allw1s`` for all classes, ``5w1s5q`` for 5 queries per class,
        ``open5w1s`` with further classes.

        The standard number of queries is omitted: 15, or all other images if all classes take part.
        """
        usual = QUERIES if self.way else 0
        query = "" if self.query == usual else f"{self.query or 'all'}q"
        return f"{'open' if self.others else ''}{self.way or 'all'}w{self.shot}s{query}"


class ClassPool:
    """Positions of the images of each class in a pool with ascending labels.

    Args:
        labels: int ``[N]``, ascending.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.classes, self.starts, self.counts = np.unique(labels, return_index=True, return_counts=True)

    @classmethod
    def of_counts(cls, counts: Sequence[int]) -> ClassPool:
        """A pool of classes 0, 1, ... with so many images each."""
        return cls(np.repeat(np.arange(len(counts)), counts))

    @property
    def owner(self) -> np.ndarray:
        """Position of the class of each image: int64 ``[N]``."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def smallest(self) -> int:
        """Number of images of the smallest class; 0 for an empty pool."""
        return int(self.counts.min()) if len(self.counts) else 0

    def with_images(self, images: int) -> np.ndarray:
        """Positions of the classes that have at least so many images: int64 ``[C]``."""
        return np.flatnonzero(self.counts >= images)


@dataclass(frozen=True)
class EpisodeList:
    """Episodes as indices into the pool.

    Attributes:
        classes: int64 ``[E, way]``, positions in the pool's class list, in random order; `Setting.others` are
            the last ones.
        support: int64 ``[E, way, shot]``, indices into the pool.
        query: int64 ``[E, way * query]`` in random order; ``[E, 0]`` if all other images are queries.
        labels: int64 ``[E, way * query]``, position in the episode's class order.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def sha256(self) -> str:
        """SHA-256 (hex) of the episode list; equal hashes mean the same episodes."""
        total = hashlib.sha256()
        for array in (self.classes, self.support, self.query, self.labels):
            total.update(np.ascontiguousarray(array, dtype="<i4").tobytes())
        return total.hexdigest()


def draw(pool: ClassPool, key: str, setting: Setting) -> EpisodeList:
    """The first `setting.count` episodes of the list of `key`, from the classes that have enough images.

    Raises:
        ValueError: too few classes have enough images.
    """
    chunks = list(stream(pool, key, setting))
    return EpisodeList(*(np.concatenate([getattr(c, name) for c in chunks]) for name in _FIELDS))


_FIELDS = ("classes", "support", "query", "labels")


def stream(pool: ClassPool, key: str, setting: Setting, chunk: int = CHUNK) -> Iterator[EpisodeList]:
    """`draw` in chunks of at most `chunk` episodes, for long trainings."""
    shot, query = setting.shot, setting.query
    for classes, for_images, for_order in _chunks(pool, key, setting, chunk):
        episodes, way = classes.shape
        per_class, queries = shot + query, way * query
        images = _without_replacement(
            for_images.reshape(episodes * way, per_class), pool.counts[classes].reshape(-1)
        )
        images = images.reshape(episodes, way, per_class) + pool.starts[classes][:, :, None]
        # Queries are shuffled, so that their order does not reveal their class.
        order = _without_replacement(for_order, np.full(episodes, queries))
        labels = order // max(query, 1)
        shuffled = np.take_along_axis(images[:, :, shot:].reshape(episodes, queries), order, axis=1)
        yield EpisodeList(classes, images[:, :, :shot], shuffled, labels)


def draw_classes(pool: ClassPool, key: str, setting: Setting) -> np.ndarray:
    """`draw(...).classes` in a twentieth of the time; the same errors."""
    return np.concatenate([classes for classes, _, _ in _chunks(pool, key, setting)])


def _chunks(
    pool: ClassPool, key: str, setting: Setting, chunk: int = CHUNK
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The classes of some episodes, and the random words for their images and for the order of queries."""
    large = pool.with_images(setting.images)
    way = setting.way + setting.others or len(large)
    if not 0 < way <= len(large):
        available = f"{len(large)} of {len(pool.classes)} have {setting.images} images each"
        raise ValueError(f"{way or 'all'} classes requested; {available}")
    bits = bits_of(key)
    of_images = way * (setting.shot + setting.query)
    words = way + of_images + way * setting.query
    for first in range(0, setting.count, chunk):
        episodes = min(chunk, setting.count - first)
        raw = bits.random_raw(episodes * words).reshape(episodes, words)
        for_classes, for_images, for_order = np.split(raw, [way, way + of_images], axis=1)
        yield large[_without_replacement(for_classes, np.full(episodes, len(large)))], for_images, for_order


def bits_of(key: str) -> np.random.Philox:
    """Random words that the key determines."""
    return np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))


def below(raw: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Random words mapped to integers in ``0..size-1``; the bias is below size / 2^32."""
    return (((raw >> np.uint64(32)) * np.asarray(size, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)


def _without_replacement(raw: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Row i: k different numbers below ``sizes[i]``, by the first k steps of a Fisher-Yates shuffle.

    Args:
        raw: uint64 ``[M, k]`` random words.
        sizes: ``[M]``, each at least k.
    """
    rows, k = raw.shape
    if k == 0:
        return np.empty((rows, 0), dtype=np.int64)
    deck = np.tile(np.arange(sizes.max(), dtype=np.int32), (rows, 1))
    row = np.arange(rows)
    for j in range(k):
        pick = j + below(raw[:, j], sizes - j)
        deck[row, j], deck[row, pick] = deck[row, pick], deck[row, j].copy()
    return deck[:, :k].astype(np.int64)
