"""Training batches: base training images, augmented on the device, in the form that a method requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from bench.data.augmentation import augmented, usual
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.sampling.anchor_tasks import anchor_task, generator_of
from bench.sampling.episodes import CHUNK, ClassPool, EpisodeList, Setting, stream
from bench.sampling.keys import training_key
from bench.sampling.pairs import draw_pairs, draw_triplets
from methods.batches import (
    AnchorTasks,
    Balanced,
    Batches,
    EpisodeBatch,
    Episodes,
    LabelledBatch,
    PairBatch,
    Pairs,
    Shuffled,
    TaskBatch,
    TripletBatch,
    Triplets,
)

DRAWN_AT_ONCE = 256  # batches whose indices are drawn together


Plan = Callable[[torch.Generator], Any]
"""The images of a batch; called with the generator for augmentation, it makes the batch."""


class TrainingBatches(IterableDataset):
    """A reproducible stream of the batches that a method requests.

    Holds only the base training images, so a method cannot get others. Each batch has its own random
    generator, so the stream can start at any step.

    Args:
        data: the image set.
        split: whose `train` images are used.
        spec: what the method trains on.
        normalise: applied after augmentation.
        seed: of the run.
        device: of the images and batches.
        request: returns the base classes ``[E, way]`` of the next step's episodes, or None for random ones.
        steps: number of batches of the whole training.
        start: number of batches to skip, because the interrupted training has used them.
        augment: names of augmentations; None for the data set's usual ones.
    """

    def __init__(
        self,
        data: ImageSet,
        split: Split,
        spec: Batches,
        normalise: Normaliser,
        seed: int,
        device: torch.device,
        request: Callable[[], Tensor | None] = lambda: None,
        steps: int = sys.maxsize,
        start: int = 0,
        augment: Sequence[str] | None = None,
    ) -> None:
        self.images = data.images[split.train].to(device)
        position = torch.full((len(data.class_names),), -1)
        position[torch.tensor(split.base)] = torch.arange(len(split.base))
        labels = position[data.labels[split.train]]
        self.pool = ClassPool(labels.numpy())
        self.labels = labels.to(device)
        self.spec, self.normalise, self.seed, self.request = spec, normalise, seed, request
        self.steps, self.start = steps, start
        self.augment = usual(data.name) if augment is None else augment

    def __len__(self) -> int:
        # Without a length Lightning fetches a batch too early, before `request` knows the classes.
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        plans = _PLANS[type(self.spec)](self, self.spec)
        for step, make in enumerate(islice(plans, self.start, self.steps), self.start):
            yield make(generator_of(training_key(self.seed, "step", step)))

    def _take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Images at `index` (any shape), augmented and normalised: ``[*index.shape, 3, H, W]``."""
        chosen = torch.from_numpy(np.ascontiguousarray(index)).to(self.images.device)
        images = self.images.index_select(0, chosen.flatten())  # ten times as fast as indexing
        images = self.normalise(augmented(images, generator, self.augment))
        return images if index.ndim == 1 else images.unflatten(0, index.shape)

    def _labelled(self, index: np.ndarray, generator: torch.Generator) -> LabelledBatch:
        where = torch.from_numpy(index).to(self.labels.device)
        return LabelledBatch(self._take(index, generator), self.labels[where])

    def _shuffled(self, spec: Shuffled) -> Iterator[Plan]:
        size = min(spec.images, len(self.labels))
        for epoch in count():
            generator = generator_of(training_key(self.seed, "epoch", epoch))
            order = torch.randperm(len(self.labels), generator=generator).numpy()
            for first in range(0, len(order) - size + 1, size):
                yield partial(self._labelled, order[first : first + size])

    def _balanced(self, spec: Balanced) -> Iterator[Plan]:
        setting = Setting(spec.classes, spec.images, 0, 2**40)
        for batches in stream(self.pool, training_key(self.seed), setting):
            for index in batches.support:
                yield partial(self._labelled, index.reshape(-1))

    def _pairs(self, spec: Pairs) -> Iterator[Plan]:
        for a, b, same in self._bulk(draw_pairs, spec.pairs):
            yield partial(self._pair_batch, a, b, same)

    def _pair_batch(
        self, a: np.ndarray, b: np.ndarray, same: np.ndarray, generator: torch.Generator
    ) -> PairBatch:
        same_on_device = torch.from_numpy(same).float().to(self.labels.device)
        return PairBatch(self._take(a, generator), self._take(b, generator), same_on_device)

    def _triplets(self, spec: Triplets) -> Iterator[Plan]:
        for index in self._bulk(draw_triplets, spec.triplets):
            yield partial(self._triplet_batch, index)

    def _triplet_batch(self, index: tuple[np.ndarray, ...], generator: torch.Generator) -> TripletBatch:
        return TripletBatch(*(self._take(i, generator) for i in index))

    def _bulk(
        self, draw: Callable[..., tuple[np.ndarray, ...]], size: int
    ) -> Iterator[tuple[np.ndarray, ...]]:
        for part in count():
            drawn = draw(self.pool, training_key(self.seed, part), size * DRAWN_AT_ONCE)
            for i in range(DRAWN_AT_ONCE):
                yield tuple(array[i * size : (i + 1) * size] for array in drawn)

    def _episodes(self, spec: Episodes) -> Iterator[Plan]:
        setting = Setting(spec.way, spec.shot, spec.query, 2**40)
        whole_steps = max(1, CHUNK // spec.episodes) * spec.episodes
        for drawn in stream(self.pool, training_key(self.seed), setting, whole_steps):
            for first in range(0, whole_steps, spec.episodes):
                yield partial(self._episode_batch, spec, drawn, slice(first, first + spec.episodes))

    def _episode_batch(
        self, spec: Episodes, drawn: EpisodeList, part: slice, generator: torch.Generator
    ) -> EpisodeBatch:
        classes, support, query, labels = (
            array[part] for array in (drawn.classes, drawn.support, drawn.query, drawn.labels)
        )
        if (wanted := self.request()) is not None:
            classes = wanted.cpu().numpy()
            support, query = self._of_classes(classes, spec, labels, generator)
        on_device = (torch.from_numpy(array).to(self.labels.device) for array in (labels, classes))
        return EpisodeBatch(self._take(support, generator), self._take(query, generator), *on_device)

    def _of_classes(
        self, classes: np.ndarray, spec: Episodes, labels: np.ndarray, generator: torch.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Support ``[E, way, shot]`` and query ``[E, Q]`` images of the chosen classes."""
        chosen = np.stack(
            [
                start + torch.randperm(images, generator=generator)[: spec.shot + spec.query].numpy()
                for start, images in zip(
                    self.pool.starts[classes].flat, self.pool.counts[classes].flat, strict=True
                )
            ]
        ).reshape(*classes.shape, -1)
        support, query = chosen[..., : spec.shot], chosen[..., spec.shot :]
        places = np.argsort(np.argsort(labels, axis=1, kind="stable"), axis=1)
        return support, np.take_along_axis(query.reshape(len(classes), -1), places, axis=1)

    def _anchor_tasks(self, spec: AnchorTasks) -> Iterator[Plan]:
        return repeat(partial(self._task_batch, spec))

    def _task_batch(self, spec: AnchorTasks, generator: torch.Generator) -> TaskBatch:
        tasks = []
        for _ in range(spec.tasks):
            own = int(torch.randint(len(self.pool.counts), (), generator=generator))
            tasks.append(anchor_task(self.pool, own, spec.batches, spec.triplets, generator))
        return TaskBatch(*(self._take(np.stack(part), generator) for part in zip(*tasks, strict=True)))


_PLANS: dict[type, Callable[..., Iterator[Plan]]] = {
    Shuffled: TrainingBatches._shuffled,
    Balanced: TrainingBatches._balanced,
    Pairs: TrainingBatches._pairs,
    Triplets: TrainingBatches._triplets,
    Episodes: TrainingBatches._episodes,
    AnchorTasks: TrainingBatches._anchor_tasks,
}


def check_fit(spec: Batches, pool: ClassPool) -> str:
    """Check that the base classes are enough and large enough for the training batches.

    Returns:
        The number of base classes that are too small for a batch, in words; the empty string if all fit.

    Raises:
        ValueError: they are not. Only batches that are drawn as episodes can do without some classes.
    """
    match spec:
        case Balanced(classes, images):
            way, needed = classes, images + 1
        case Episodes(classes, shot, query):
            way, needed = classes, shot + query
        case AnchorTasks(_, _, triplets):
            way, needed = 2, 2 * triplets
        case Pairs() | Triplets():
            way, needed = 2, 2
        case _:
            way, needed = 1, 1
    if way > len(pool.classes):
        raise ValueError(f"trains on {way} classes per batch; there are {len(pool.classes)} base classes")
    small = len(pool.classes) - len(pool.with_images(needed))
    if small and not (isinstance(spec, Balanced | Episodes) and len(pool.classes) - small >= way):
        raise ValueError(
            f"needs {needed} training images per class; the smallest base class has {pool.smallest}"
        )
    return f"training on {small} base classes with fewer than {needed} training images" if small else ""
