"""What only some methods can do: bases beside `Method`. The harness asks with `isinstance`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from methods.batches import ClassTasks, LabelledBatch, TripletBatch


class ChoosesClasses:
    """Says which classes its training episodes are made of."""

    def next_classes(self) -> Tensor | None:
        """Base classes ``[E, way]`` of the next step's `Episodes`; None for random ones.

        Asked just before the batch is handed over.
        """
        raise NotImplementedError


class JoinsAsNetwork:
    """Gives a network that new classes have joined; with `joins_with` ``training`` it answers with that."""

    def join(self, support: Tensor, base: Callable[[int], LabelledBatch]) -> nn.Module:
        """A network that classifies all base classes and some new ones; the method stays as it was.

        The harness calls it in evaluation mode, with gradients enabled, and saves those weights of the
        network that are not the method's own.

        Args:
            support: ``[new, shot, 3, H, W]`` images of the new classes; `new` may be 0.
            base: hands over so many base training images, drawn at random, and prepared like `support`:
                not cropped, not flipped.

        Returns:
            A network in evaluation mode from images ``[Q, 3, H, W]`` to logits ``[Q, B + new]``.
        """
        raise NotImplementedError


class LearnsClasses:
    """Learns each tested class from its labelled training images, novel classes too.

    This is not few-shot learning: a row has pairs and triplets only, and is marked ``labelled novel images``.
    """

    @property
    def class_tasks(self) -> ClassTasks | None:
        """What it learns a class from; None if its hyperparameters say that it learns none."""
        raise NotImplementedError

    def learn_class(self, batches: Iterable[TripletBatch]) -> Callable[[Tensor], Tensor]:
        """Learn one class; the method stays as it was.

        The harness calls it in evaluation mode, with gradients enabled.

        Args:
            batches: anchors and positives are of the class, negatives of other base classes.

        Returns:
            A function from images ``[N, 3, H, W]`` to embeddings ``[N, D]``, which `similarity` compares
            where the first image is of the class.
        """
        raise NotImplementedError


def class_tasks(method: object) -> ClassTasks | None:
    """What a method learns each tested class from; None, as for every few-shot method, for nothing."""
    return method.class_tasks if isinstance(method, LearnsClasses) else None
