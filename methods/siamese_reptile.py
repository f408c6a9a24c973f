"""Siamese network with triplet loss, trained by Reptile."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.abilities import LearnsClasses
from methods.batches import AnchorTasks, ClassTasks, TaskBatch, TripletBatch
from methods.distances import full_precision
from methods.optimizers import configure, scheduled
from methods.outer_loop import OuterLoop, TowardsLearned
from methods.siamese import Siamese


class SiameseReptile(LearnsClasses, OuterLoop, Siamese):
    """Siamese network with triplet loss, trained by Reptile.

    A task is one anchor class against the rest: anchors and positives show the class, negatives any
    other. Each clone of the network learns one task in a few inner steps, and the network's own weights
    and batch-norm statistics move towards the mean of the clones': phi <- phi + meta-step x (W - phi)
    (Nichol et al. 2018, algorithm 2). `mining=soft` weighs all negatives of a batch for every two images
    of the anchor class, as siamese_triplet does; `mining=random` takes the triplets as they are drawn,
    with a margin, as the original project did. Nothing is learned at test time: a query takes the class
    whose mean support embedding it is most similar to.

    With `adapt_to_class=true` the test follows the original project's (its loss is `mining=random`):
    before the pairs and triplets whose first image is of a class, novel or not, a copy of the network
    takes `adapt_steps` steps of Adam on that class's labelled training images, 500 on CIFAR-100, against
    those of the base classes. Batch norm keeps its statistics, and the threshold of pairs is given. This
    is not few-shot learning: such a row is marked, and has no few-shot numbers.

    Use it when you study what meta-learning does to a metric: is an embedding that specialises quickly on
    one class also good at separating unseen classes? For the best embedding take siamese_triplet, which
    trains on all classes of a batch at once.

    It costs one forward and backward pass for each of tasks x inner steps x 3 x triplets images per step,
    and a copy of the backbone per task. It learns less from an image than siamese_triplet does, since a
    batch pulls together the images of one class only. Evaluation embeds each image once. Preset
    `original` takes 115 million images; its source keeps one Adam for all tasks, where each task has its own
    here.
    """

    family = "meta-learning"
    paper = "Nichol et al. 2018, On First-Order Meta-Learning Algorithms"
    trains_on = "tasks"
    marked_when = {"labelled novel images": "adapt_to_class=true"}
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "tasks": 2, "inner_steps": 2},
        "quick": {"backbone": "conv4", "steps": 1422},
        "standard": {"backbone": "resnet12-32"},
        "original": {
            "backbone": "resnet56",
            "steps": 10000,
            "tasks": 1,
            "inner_steps": 30,
            "triplets": 128,
            "mining": "random",
            "optimizer": "adam",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "meta_step": 0.01,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 1778  # meta-steps, one batch of tasks each
        tasks: int = 4  # tasks per meta-step, each learned by its own clone
        inner_steps: int = 3  # steps in which a clone learns its task
        triplets: int = 8  # anchors in the batch of an inner step; as many positives and negatives
        distance: Literal["cosine", "euclidean"] = "cosine"  # how two embeddings are compared
        mining: Literal["soft", "random"] = "soft"  # how triplets are chosen
        temperature: float = 0.1  # t of mining=soft, in units of similarity
        margin: float = 0.0  # for mining=random; 0 means 0.3 for cosine, 1.0 for euclidean
        optimizer: Literal["sgd", "adam"] = "sgd"  # a clone's: SGD with Nesterov momentum 0.9, or Adam
        learning_rate: float = 0.05  # learning rate of a clone
        weight_decay: float = 5e-4  # weight decay of a clone, on matrices and filters
        meta_step: float = 1.0  # share of the way to the clones that the weights move
        schedule: Literal["linear", "constant"] = "linear"  # schedule of the meta-step; linear: down to 0
        adapt_to_class: bool = False  # first learn each tested class from its labelled training images
        adapt_steps: int = 30  # steps in which a class is learned
        adapt_triplets: int = 128  # anchors per step that learns a class; as many positives and negatives
        adapt_learning_rate: float = 0.001  # Adam's learning rate while a class is learned
        adapt_threshold: float = 0.7  # similarity from which two images are of one class, with adapt_to_class

    def batches(self) -> AnchorTasks:
        """Tasks of one anchor class against the rest."""
        return AnchorTasks(self.hp.tasks, self.hp.inner_steps, self.hp.triplets)

    @property
    def class_tasks(self) -> ClassTasks | None:
        """With `adapt_to_class`, the labelled training images of each tested class."""
        hp = self.hp
        if not hp.adapt_to_class:
            return None
        return ClassTasks(hp.adapt_steps, hp.adapt_triplets, hp.adapt_threshold)

    def outer_step(self, batch: TaskBatch, optimizer: Any) -> Tensor:
        """Move towards what the clones have become; returns their mean loss."""
        learned, losses = [], []
        for task in zip(*batch, strict=True):
            clone = copy.deepcopy(self.backbone)
            losses.append(self.learn(clone, *task))
            learned.append(dict(zip(moving(self.backbone), moving(clone), strict=True)))
        optimizer.step(learned=learned)
        return torch.stack(losses).mean()

    def learn(self, clone: nn.Module, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Train a copy of the backbone on one task.

        Args:
            clone: is changed.
            anchors: ``[inner steps, triplets, 3, H, W]``, and so are `positives` and `negatives`.

        Returns:
            The mean loss of the steps.
        """
        hp = self.hp
        optimizer = configure(
            clone.parameters(), hp.inner_steps, hp.optimizer, "constant", hp.learning_rate, hp.weight_decay
        )["optimizer"]
        batches = map(TripletBatch, anchors, positives, negatives)
        return torch.stack([self.inner_step(clone, optimizer, batch) for batch in batches]).mean()

    def learn_class(self, batches: Iterable[TripletBatch]) -> Callable[[Tensor], Tensor]:
        """Train a copy of the backbone on one class, in evaluation mode as the source does."""
        clone = copy.deepcopy(self.backbone)
        optimizer = torch.optim.Adam(clone.parameters(), self.hp.adapt_learning_rate)
        for batch in batches:
            self.inner_step(clone, optimizer, batch)
        return lambda images: self.embedding(clone(images))

    def inner_step(self, clone: nn.Module, optimizer: torch.optim.Optimizer, batch: TripletBatch) -> Tensor:
        """Change a copy of the backbone by one step, and return the loss before it."""
        torch.clear_autocast_cache()  # it holds the weights as they were before the last step
        loss = self.triplet_loss(*clone(torch.cat(batch)).float().chunk(3))
        optimizer.zero_grad()
        with full_precision(loss):  # autocast would also cast what the loss kept in float32
            loss.backward()
        optimizer.step()
        return loss.detach()

    def triplet_loss(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Mean over pairs of the anchor class of softplus(logsumexp_n(s_an / t) - s_ap / t).

        With `mining=random`, mean over rows of relu(s_an - s_ap + margin).

        Args:
            anchors: embeddings ``[triplets, D]``, and so are `positives` and `negatives`.
        """
        if self.hp.mining == "random":
            near, far = (self.distance.rows(anchors, other) for other in (positives, negatives))
            return F.relu(far - near + self.margin).mean()
        own = torch.cat([anchors, positives])
        near = self.distance.matrix(own, own) / self.hp.temperature
        far = (self.distance.matrix(own, negatives) / self.hp.temperature).logsumexp(dim=1, keepdim=True)
        with_itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
        return F.softplus(far - near)[~with_itself].mean()

    def configure_optimizers(self) -> Any:
        """The meta-step, by default linear down to 0."""
        optimizer = TowardsLearned(moving(self.backbone), self.hp.meta_step)
        return scheduled(optimizer, self.hp.schedule, self.hp.steps)


def moving(backbone: nn.Module) -> list[Tensor]:
    """What a meta-step moves: weights and running statistics, not batch norm's count of batches."""
    return [*backbone.parameters(), *(b for b in backbone.buffers() if b.is_floating_point())]
