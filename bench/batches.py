"""Training batches: base training images, augmented on the device, in the form a method asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from bench.data.images import ImageSet
from bench.data.splits import Split
from bench.episodes import CHUNK, ClassPool, Setting, stream
from bench.pairs import draw_pairs, draw_triplets
from methods.method import (
    Balanced,
    Batches,
    BatchSpec,
    EpisodeBatch,
    Episodes,
    LabelledBatch,
    PairBatch,
    Pairs,
    Shuffled,
    Stages,
    TripletBatch,
    Triplets,
)

DRAWN_AT_ONCE = 256  # batches whose indices are drawn in one go


class Normaliser:
    """Channel means and standard deviations of the base training images, and no others.

    Args:
        images: uint8 ``[N, 3, H, W]`` of the whole data set.
        train: indices of the base training images.
    """

    def __init__(self, images: Tensor, train: Tensor) -> None:
        counts = torch.zeros(3, 256, dtype=torch.float64)
        for part in train.split(4096):  # a histogram is exact, and needs no float copy of the images
            chunk = images[part]
            counts += torch.stack([torch.bincount(chunk[:, c].flatten(), minlength=256) for c in range(3)])
        values = torch.arange(256, dtype=torch.float64)
        mean = (counts * values).sum(1) / counts.sum(1)
        variance = (counts * (values - mean[:, None]).square()).sum(1) / counts.sum(1)
        self.mean = mean.float().view(3, 1, 1)
        self.std = variance.sqrt().clamp(min=1.0).float().view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 ``[N, 3, H, W]`` -> float32 in channels-last layout, on the images' device."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return images.contiguous(memory_format=torch.channels_last).float().sub_(mean).div_(std)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Zero-pad by an eighth, crop back at a random place, flip half of the images left to right.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        generator: on the CPU, so that every device sees the same augmentations.
    """
    n, _, height, width = images.shape
    pad = height // 8
    draws = torch.randint(2 * pad + 1, (2, n), generator=generator).to(images.device)
    flip = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(n, device=images.device), :, draws[0], draws[1]]
    return torch.where(flip[:, None, None, None], cropped.flip(-1), cropped)


class TrainingBatches(IterableDataset):
    """An endless, reproducible stream of the batches that a method asks for.

    Holds the base training images only: a method cannot be handed anything else.

    Args:
        data: the image set.
        split: whose `train` images are used.
        spec: what the method trains on.
        normalise: applied after augmentation.
        seed: of the run.
        device: where the images are kept and the batches made.
        request: gives the base classes ``[E, way]`` of the next step's episodes, or None for random ones.
    """

    def __init__(
        self,
        data: ImageSet,
        split: Split,
        spec: BatchSpec,
        normalise: Normaliser,
        seed: int,
        device: torch.device,
        request: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        self.images = data.images[split.train].to(device)
        position = torch.full((len(data.class_names),), -1)
        position[torch.tensor(split.base)] = torch.arange(len(split.base))
        labels = position[data.labels[split.train]]
        self.pool = ClassPool(labels.numpy())
        self.labels = labels.to(device)
        self.spec, self.normalise, self.seed, self.request = spec, normalise, seed, request

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed)
        if isinstance(self.spec, Stages):
            yield from islice(self._made(self.spec.first, generator), self.spec.steps)
            yield from self._made(self.spec.then, generator)
        else:
            yield from self._made(self.spec, generator)

    def _made(self, spec: Batches, generator: torch.Generator) -> Iterator[Any]:
        return _MAKERS[type(spec)](self, spec, generator)

    def _take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Images of any-shaped `index`, augmented and normalised: ``[*index.shape, 3, H, W]``."""
        chosen = torch.from_numpy(np.ascontiguousarray(index)).to(self.images.device)
        images = self.images[chosen.flatten()]
        images = self.normalise(crop_and_flip(images, generator))
        return images if index.ndim == 1 else images.unflatten(0, index.shape)

    def _labelled(self, index: np.ndarray, generator: torch.Generator) -> LabelledBatch:
        where = torch.from_numpy(index).to(self.labels.device)
        return LabelledBatch(self._take(index, generator), self.labels[where])

    def _shuffled(self, spec: Shuffled, generator: torch.Generator) -> Iterator[LabelledBatch]:
        size = min(spec.images, len(self.labels))
        while True:
            order = torch.randperm(len(self.labels), generator=generator).numpy()
            for first in range(0, len(order) - size + 1, size):
                yield self._labelled(order[first : first + size], generator)

    def _balanced(self, spec: Balanced, generator: torch.Generator) -> Iterator[LabelledBatch]:
        setting = Setting(spec.classes, spec.images, 0, 2**40)
        for batches in stream(self.pool, f"training/{self.seed}", setting):
            for index in batches.support:
                yield self._labelled(index.reshape(-1), generator)

    def _pairs(self, spec: Pairs, generator: torch.Generator) -> Iterator[PairBatch]:
        for a, b, same in self._bulk(draw_pairs, spec.pairs):
            same_on_device = torch.from_numpy(same).float().to(self.labels.device)
            yield PairBatch(self._take(a, generator), self._take(b, generator), same_on_device)

    def _triplets(self, spec: Triplets, generator: torch.Generator) -> Iterator[TripletBatch]:
        for index in self._bulk(draw_triplets, spec.triplets):
            yield TripletBatch(*(self._take(i, generator) for i in index))

    def _bulk(
        self, draw: Callable[..., tuple[np.ndarray, ...]], size: int
    ) -> Iterator[tuple[np.ndarray, ...]]:
        part = 0
        while True:
            drawn = draw(self.pool, f"training/{self.seed}/{part}", size * DRAWN_AT_ONCE)
            for i in range(DRAWN_AT_ONCE):
                yield tuple(array[i * size : (i + 1) * size] for array in drawn)
            part += 1

    def _episodes(self, spec: Episodes, generator: torch.Generator) -> Iterator[EpisodeBatch]:
        setting = Setting(spec.way, spec.shot, spec.query, 2**40)
        whole_steps = max(1, CHUNK // spec.episodes) * spec.episodes
        for drawn in stream(self.pool, f"training/{self.seed}", setting, whole_steps):
            for first in range(0, whole_steps, spec.episodes):
                part = slice(first, first + spec.episodes)
                classes, support, query = drawn.classes[part], drawn.support[part], drawn.query[part]
                if (wanted := self.request()) is not None:
                    classes = wanted.cpu().numpy()
                    support, query = self._of_classes(classes, spec, drawn.labels[part], generator)
                on_device = (
                    torch.from_numpy(array).to(self.labels.device) for array in (drawn.labels[part], classes)
                )
                yield EpisodeBatch(self._take(support, generator), self._take(query, generator), *on_device)

    def _of_classes(
        self, classes: np.ndarray, spec: Episodes, labels: np.ndarray, generator: torch.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Support ``[E, way, shot]`` and query ``[E, Q]`` of chosen classes, queries as labels say."""
        chosen = np.stack(
            [
                start + torch.randperm(count, generator=generator)[: spec.shot + spec.query].numpy()
                for start, count in zip(
                    self.pool.starts[classes].flat, self.pool.counts[classes].flat, strict=True
                )
            ]
        ).reshape(*classes.shape, -1)
        support, query = chosen[..., : spec.shot], chosen[..., spec.shot :]
        places = np.argsort(np.argsort(labels, axis=1, kind="stable"), axis=1)
        return support, np.take_along_axis(query.reshape(len(classes), -1), places, axis=1)


_MAKERS: dict[type, Callable[..., Iterator[Any]]] = {
    Shuffled: TrainingBatches._shuffled,
    Balanced: TrainingBatches._balanced,
    Pairs: TrainingBatches._pairs,
    Triplets: TrainingBatches._triplets,
    Episodes: TrainingBatches._episodes,
}
