"""Batches of tasks, each of triplets around one anchor class: what is in them, and that they come again."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from bench.data.normalisation import Normaliser
from bench.sampling.episodes import ClassPool
from bench.training.batches import TrainingBatches, check_fit
from methods.batches import AnchorTasks, TaskBatch

CPU = torch.device("cpu")


def test_a_task_holds_one_anchor_class_only(raw_batches, class_of):
    anchor_classes, negative_classes = Counter(), Counter()
    spec = AnchorTasks(tasks=2, batches=3, triplets=5)
    for batch in islice(raw_batches(spec), 200):
        assert isinstance(batch, TaskBatch)
        assert all(part.shape == (2, 3, 5, 3, 16, 16) for part in batch)
        for anchors, positives, negatives in zip(*batch, strict=True):
            own = set(class_of([*anchors.flatten(0, 1), *positives.flatten(0, 1)]))
            others = class_of(negatives.flatten(0, 1))
            assert len(own) == 1 and not own & set(others)
            for images in zip(anchors, positives, strict=True):
                assert len({image.numpy().tobytes() for image in torch.cat(images)}) == 10
            anchor_classes.update(own)
            negative_classes.update(others)
        assert not torch.equal(batch.anchors[0, 0], batch.anchors[0, 1])
    for seen in (anchor_classes, negative_classes):
        assert len(seen) == 8 and chisquare(list(seen.values())).pvalue > 0.001


def test_tasks_come_again_with_the_seed_and_are_augmented(raw_batches, tiny, tiny_split):
    spec = AnchorTasks(2, 2, 3)
    once, again, other = (list(islice(raw_batches(spec, seed), 2)) for seed in (5, 5, 6))
    for left, right, different in zip(once, again, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        assert not torch.equal(left.anchors, different.anchors)
    assert not torch.equal(once[0].anchors, once[1].anchors)
    normalise = Normaliser(tiny.images, tiny_split.train)
    (made,) = islice(TrainingBatches(tiny, tiny_split, spec, normalise, 5, CPU), 1)
    assert all(part.dtype == torch.float32 and part.shape == (2, 2, 3, 3, 16, 16) for part in made)
    assert spec.size == 36 == sum(part.numel() for part in made) // (3 * 16 * 16)
    assert not torch.equal(made.anchors, normalise(once[0].anchors.flatten(0, 2)).unflatten(0, (2, 2, 3)))


def test_what_the_base_classes_cannot_fill_is_refused():
    pool = ClassPool(np.repeat(np.arange(3), 10))
    assert check_fit(AnchorTasks(4, 30, 5), pool) == ""
    with pytest.raises(
        ValueError, match="needs 12 training images per class; the smallest base class has 10"
    ):
        check_fit(AnchorTasks(1, 1, 6), pool)
    with pytest.raises(ValueError, match="trains on 2 classes per batch; there are 1 base classes"):
        check_fit(AnchorTasks(1, 1, 2), ClassPool(np.zeros(10, int)))
