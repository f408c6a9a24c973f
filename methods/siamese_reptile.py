"""Siamese network with triplet loss, trained by Reptile."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from methods.adaptation import with_gradient
from methods.batches import AnchorTasks, ClassTasks, TaskBatch, TripletBatch
from methods.distances import Cosine, Euclidean, full_precision
from methods.method import Method, class_means
from methods.optimizers import configure


class SiameseReptile(Method):
    """Siamese network with triplet loss, trained by Reptile.

    A task is one anchor class against the rest: anchors and positives show the class, negatives any
    other. The network is cloned, each clone learns one task in a few inner steps, and the network's own
    weights move towards the mean of what their clones have become: theta <- theta + meta-step x
    mean(theta_task - theta) (Nichol et al. 2018, algorithm 2). The running statistics of batch norm move
    in the same way. `mining=soft` weighs all negatives of a batch for every two images of the anchor class,
    as siamese_triplet does; `mining=random` takes the triplets as they are drawn, with a margin, as the
    original project did. Nothing is learned at the test: a query takes the class whose mean support
    embedding it is most similar to.

    With `adapt_to_class=true` the test follows the original project's instead (its loss is
    `mining=random`): before the pairs and triplets whose first image is of a class, novel or not, a copy
    of the network takes `adapt_steps` steps of Adam on that class's labelled training images, 500 on
    CIFAR-100, against those of the base classes. Batch norm keeps its statistics, and the threshold of
    pairs is given. This is not few-shot learning: such a row is marked, and has no few-shot numbers.

    Use it when you study what meta-learning does to a metric: it asks whether an embedding that is quick
    to specialise on one class is also good at telling unseen classes apart. For the best embedding take
    siamese_triplet, which trains on all classes of a batch at once.

    It costs one forward and backward pass for each of tasks x inner steps x 3 x triplets images in a
    step, and a copy of the backbone a task. As many images teach it less than they teach siamese_triplet,
    since a batch pulls together the images of one class only. Evaluation embeds each image once. Preset
    `original` takes 115 million images.
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
        tasks: int = 4  # tasks of a meta-step, each learned by a clone of its own
        inner_steps: int = 3  # steps in which a clone learns its task
        triplets: int = 8  # anchors, positives and negatives in the batch of an inner step, so many of each
        distance: Literal["cosine", "euclidean"] = "cosine"  # how two embeddings are compared
        mining: Literal["soft", "random"] = "soft"  # how triplets are chosen
        temperature: float = 0.1  # t of mining=soft, in units of similarity
        margin: float = 0.0  # of mining=random; 0 means 0.3 for cosine, 1.0 for euclidean
        optimizer: Literal["sgd", "adam"] = "sgd"  # of a clone: SGD with Nesterov momentum 0.9, or Adam
        learning_rate: float = 0.05  # of a clone
        weight_decay: float = 5e-4  # of a clone, on matrices and filters
        meta_step: float = 1.0  # how much of the way to their clones the weights go
        schedule: Literal["linear", "constant"] = "linear"  # of the meta-step; linear: down to 0
        adapt_to_class: bool = False  # first learn each tested class from its labelled training images
        adapt_steps: int = 30  # steps in which a class is learned
        adapt_triplets: int = 128  # anchors, positives and negatives in such a step, so many of each
        adapt_learning_rate: float = 0.001  # of Adam in such a step
        adapt_threshold: float = 0.7  # similarity from which two images are called the same then

    def __init__(self, backbone: nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.distance = Cosine() if hp.distance == "cosine" else Euclidean()
        self.margin = hp.margin or (0.3 if hp.distance == "cosine" else 1.0)

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

    def training_step(self, batch: TaskBatch, batch_idx: int) -> Tensor:
        """The clones' mean loss, with theta - mean(theta_task) for its gradient."""
        clones, losses = [], []
        for task in zip(*batch, strict=True):
            clones.append(copy.deepcopy(self.backbone))
            losses.append(self.learn(clones[-1], *task))
        weights = list(self.backbone.parameters())
        with torch.no_grad():
            learned = zip(*(clone.parameters() for clone in clones), strict=True)
            gradients = [w - torch.stack(own).mean(0) for w, own in zip(weights, learned, strict=True)]
            gathered = zip(*(clone.buffers() for clone in clones), strict=True)
            for buffer, own in zip(self.backbone.buffers(), gathered, strict=True):
                if buffer.is_floating_point():  # all but batch norm's count of batches
                    buffer.lerp_(torch.stack(own).mean(0), self.meta_step(self.global_step))
        return self.log_loss(with_gradient(torch.stack(losses).mean(), weights, gradients))

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
        """Plain gradient descent, whose learning rate is the meta-step."""
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.meta_step), "interval": "step"},
        }

    def meta_step(self, step: int) -> float:
        """How much of the way to their clones the weights go in this step, counted from 0."""
        left = 1 - step / self.hp.steps if self.hp.schedule == "linear" else 1.0
        return self.hp.meta_step * left

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, D]``, of length 1 where the distance is the cosine."""
        return self.embedding(self.backbone(images))

    def embedding(self, features: Tensor) -> Tensor:
        """What the distance compares, float32 ``[N, D]``, of a backbone's features."""
        features = features.float()
        return F.normalize(features, dim=1) if self.hp.distance == "cosine" else features

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Similarity of each query to each class's mean embedding: ``[E, Q, way]``."""
        return self.distance.matrix(query, class_means(support))

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Similarity of each query to each base class's and each new class's mean embedding."""
        return self.distance.matrix(query, torch.cat([base.float(), class_means(support[None])[0]]))

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: cosine, or negative Euclidean distance."""
        return self.distance.rows(a, b)
