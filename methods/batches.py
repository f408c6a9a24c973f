"""What a method may train on: the batches that it asks for, and the tensors that it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Shuffled:
    """Ask for batches of `images` base training images drawn without replacement, epoch by epoch."""

    images: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.images


@dataclass(frozen=True)
class Balanced:
    """Ask for batches of `classes` x `images` base training images, grouped by class."""

    classes: int
    images: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.classes * self.images


@dataclass(frozen=True)
class Pairs:
    """Ask for `pairs` image pairs, half of one class and half of two."""

    pairs: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return 2 * self.pairs


@dataclass(frozen=True)
class Triplets:
    """Ask for `triplets` random (anchor, positive, negative) triples."""

    triplets: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return 3 * self.triplets


@dataclass(frozen=True)
class Episodes:
    """Ask for `episodes` N-way K-shot episodes per step, drawn from the base classes."""

    way: int
    shot: int
    query: int
    episodes: int = 1

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.episodes * self.way * (self.shot + self.query)


@dataclass(frozen=True)
class AnchorTasks:
    """Ask for `tasks` tasks per step, each one anchor class against the rest.

    A task comes as `batches` batches to learn it from, each of `triplets` triples of two images of the
    anchor class and one of another class; no image of the anchor class is in a batch twice.
    """

    tasks: int
    batches: int
    triplets: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.tasks * self.batches * 3 * self.triplets


@dataclass(frozen=True)
class ClassTasks:
    """Ask to learn each tested class first, from all of its labelled training images, novel or not.

    The task is like one of `AnchorTasks`: two images of the class and one of another base class. It comes as
    `batches` batches of `triplets` triples.

    Attributes:
        threshold: similarity from which two images are called the same; validation knows of no network that
            has learned a class.
    """

    batches: int
    triplets: int
    threshold: float


Batches = Shuffled | Balanced | Pairs | Triplets | Episodes | AnchorTasks


class LabelledBatch(NamedTuple):
    """A batch of `Shuffled` or `Balanced` images.

    Attributes:
        images: float ``[N, 3, H, W]``, augmented and normalised.
        labels: int64 ``[N]``, base class indices ``0..B-1``.
    """

    images: Tensor
    labels: Tensor


class PairBatch(NamedTuple):
    """A batch of `Pairs`: images ``a`` and ``b`` ``[N, 3, H, W]``; ``same`` float ``[N]`` of 0 and 1."""

    a: Tensor
    b: Tensor
    same: Tensor


class TripletBatch(NamedTuple):
    """A batch of `Triplets` or `ClassTasks`: three float ``[N, 3, H, W]`` tensors."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class EpisodeBatch(NamedTuple):
    """A batch of `Episodes`.

    Attributes:
        support: float ``[E, way, shot, 3, H, W]``.
        query: float ``[E, Q, 3, H, W]`` in random class order.
        labels: int64 ``[E, Q]`` in ``0..way-1``.
        classes: int64 ``[E, way]``, base class indices ``0..B-1`` in the episode's order.
    """

    support: Tensor
    query: Tensor
    labels: Tensor
    classes: Tensor


class TaskBatch(NamedTuple):
    """A batch of `AnchorTasks`: three float ``[tasks, batches, triplets, 3, H, W]`` tensors."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor
