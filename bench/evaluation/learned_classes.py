"""Similarities of methods that first learn each tested class from its labelled training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.data.augmentation import augmented, usual
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation.answers import checked
from bench.evaluation.embedding import autocast, batch_size
from bench.sampling.anchor_tasks import anchor_task, generator_of
from bench.sampling.episodes import ClassPool
from methods.abilities import LearnsClasses
from methods.batches import ClassTasks, TripletBatch
from methods.method import Method


class LearnedClasses:
    """Scores pairs with what the method has learned about the first image's class.

    The method gets the labelled training images of that class (`split.novel_labelled` for a novel class) and
    those of the base classes. It never gets images of other novel classes, or tested images.

    Args:
        method: one with `class_tasks`, in evaluation mode.
        data, split: images and their parts; `split` is from `splits.with_labelled_novel`.
        normalise: the one that training used.
        precision: as Lightning names it.
        key: determines the tasks.
        progress: called with the number of newly learned classes.
        augment: names of augmentations; None for the data set's usual ones.
    """

    def __init__(
        self,
        method: Method,
        data: ImageSet,
        split: Split,
        normalise: Normaliser,
        precision: str,
        key: str,
        progress: Callable[[int], None] | None = None,
        augment: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(method, LearnsClasses) or method.class_tasks is None:
            raise ValueError("only a method with class_tasks gets labelled images of novel classes")
        if method.training:
            raise ValueError("methods are evaluated in evaluation mode")
        self.method, self.tasks, self.data, self.split = method, method.class_tasks, data, split
        self.normalise, self.precision, self.key, self.progress = normalise, precision, key, progress
        self.augment = usual(data.name) if augment is None else augment

    def scores(self, index: Tensor, pool: ClassPool, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Similarity of the images at `a` and at `b`: float64 ``[n]``.

        Args:
            index: int64, positions of the pool's images in the data set.
            pool: positions of each class's images in `index`.
            a, b: positions in the pool; the class of the image at `a` is learned.
        """
        owner = pool.owner[a]
        found = np.empty(len(a))
        for position, label in enumerate(pool.classes.tolist()):
            rows = np.flatnonzero(owner == position)
            if len(rows):
                shown, places = np.unique(np.concatenate([a[rows], b[rows]]), return_inverse=True)
                made = self._embeddings(label, index[torch.from_numpy(shown)])
                left, right = made[torch.from_numpy(places).to(made.device)].chunk(2)
                with torch.inference_mode():
                    similar = checked(self.method.similarity(left, right), "similarity", (len(rows),))
                found[rows] = similar.cpu().double().numpy()
            if self.progress:
                self.progress(1)
        return found

    def _embeddings(self, label: int, index: Tensor) -> Tensor:
        device = self.method.device
        with autocast(device, self.precision), torch.enable_grad():
            embed = self.method.learn_class(self.batches(label))
        parts = []
        first = self.normalise(self.data.images[:1].to(device))
        for part in index.split(batch_size(first, self.method.backbone)):
            images = self.normalise(self.data.images[part].to(device))
            with autocast(device, self.precision), torch.inference_mode():
                answer = embed(images)
            what = "the function that learn_class returns"
            parts.append(checked(answer, what, (len(part), -1)).float())
        return torch.cat(parts)

    def batches(self, label: int) -> Iterator[TripletBatch]:
        """Tasks of one class against the other base classes, prepared as in training.

        Args:
            label: index of the class in the data set.
        """
        data, split, device = self.data, self.split, self.method.device
        own = split.novel_labelled[data.labels[split.novel_labelled] == label]
        index = torch.cat([split.train, own])
        labels = torch.cat([data.labels[split.train], torch.full_like(own, len(data.class_names))])
        pool = ClassPool(labels.numpy())
        position = len(pool.classes) - 1 if len(own) else int(np.searchsorted(pool.classes, label))
        generator = generator_of(f"{self.key}/{data.class_names[label]}")
        drawn = anchor_task(pool, position, self.tasks.batches, self.tasks.triplets, generator)
        for rows in zip(*drawn, strict=True):
            images = data.images[index[torch.from_numpy(np.concatenate(rows))]].to(device)
            images = augmented(images, generator, self.augment)
            yield TripletBatch(*self.normalise(images).chunk(3))


def check_enough(tasks: ClassTasks, data: ImageSet, split: Split) -> None:
    """Check that every tested class has enough images for its tasks.

    Raises:
        ValueError: a class has too few.
    """
    labels = data.labels[torch.cat([split.train, split.novel_labelled])]
    found, needed = torch.bincount(labels, minlength=len(data.class_names)), 2 * tasks.triplets
    for c in (*split.base, *split.novel):
        if found[c] < needed:
            has = f"{data.class_names[c]!r} has {int(found[c])}"
            raise ValueError(f"learns each class from batches of {needed} labelled training images; {has}")
