"""MAML: model-agnostic meta-learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import learn2learn as l2l
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from methods.adaptation import (
    MetaLearner,
    answer_one,
    answer_together,
    class_of_each,
    support_loss,
    with_gradient,
)
from methods.batches import EpisodeBatch, Episodes
from methods.distances import full_precision
from methods.optimizers import configure_as_set
from methods.support_norm import support_norm


class MAML(MetaLearner):
    """Learn weights from which a few steps of gradient descent on a support set go far.

    Inner loop: some steps on the cross-entropy of the support set, all weights at one fixed rate. Outer loop:
    the cross-entropy of the queries under the adapted weights, differentiated through the inner steps
    (Finn et al. 2017, algorithm 2), or with the inner gradients taken as constants (`first_order`, section
    5.2). Queries are normalised by statistics of the support set; `batch_norm=transductive` normalises them
    together, as published.

    Use it when new classes look unlike the training classes, so that features which no episode changes
    would not tell them apart, and a second or so a new task is no matter.

    It costs a forward and a twice differentiated backward pass of the support set for each inner step,
    then one of the queries; `first_order` saves about a third of the time and most of the memory. Each
    episode of the evaluation takes `test_steps` forward and backward passes, whose answers cannot be
    cached. On a CPU tasks go through learn2learn's MAML one after another, which is faster there;
    elsewhere all tasks of a step are learned at once, by the same arithmetic.
    """

    family = "meta-learning"
    paper = "Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks"
    fuses = False
    trains_on = "episodes"
    test_only = ("test_steps",)
    fixed_embedding = False
    marked_when = {"transductive": "batch_norm=transductive"}
    presets = {
        "smoke": {
            "backbone": "conv4",
            "steps": 12,
            "episodes": 2,
            "train_query": 5,
            "test_steps": 2,
        },
        "quick": {"backbone": "conv4", "steps": 1280},
        "standard": {"backbone": "resnet12-32", "steps": 1600},
        # Mini-ImageNet (appendix A.1): 60,000 steps of 4 tasks, 5 inner steps of 0.01, and 10 at the test.
        "paper": {"backbone": "conv4", "head": "learned", "inner_steps": 5, "test_steps": 10},
    }
    starts = {
        "pretrained": {
            "batch_norm": "running",
            "test_steps": 5,
            "feature_length": 10.0,
            "optimizer": "sgd",
            "schedule": "linear",
            "weight_decay": 5e-4,
        }
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 60000  # training steps
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        episodes: int = 4  # tasks a step (meta-batch)
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images per class in a training episode
        train_query: int = 15  # query images per class in a training episode
        inner_steps: int = 5  # steps on the support set in training
        test_steps: int = 10  # steps on the support set in evaluation
        inner_learning_rate: float = 0.01  # of those steps
        first_order: bool = False  # take inner gradients as constants (FOMAML)
        head: Literal["zero", "learned"] = "zero"  # where the head of an episode starts
        feature_length: float = 0.0  # features get this length before the head; 0 leaves each its own
        batch_norm: Literal["support", "running", "transductive"] = "support"  # whose statistics normalise
        optimizer: Literal["sgd", "adam"] = "adam"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["linear", "constant"] = "constant"  # of the meta learning rate, down to 0
        learning_rate: float = 0.001  # meta learning rate
        weight_decay: float = 0.0  # on matrices and filters

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.transductive = hp.batch_norm == "transductive"  # type: ignore[misc]

    def batches(self) -> Episodes:
        """Episodes that look like the test."""
        hp = self.hp
        return Episodes(self.train_way, hp.train_shot, hp.train_query, hp.episodes)

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Mean over tasks of the query loss after adaptation."""
        self.move_running_statistics(batch.support)
        if batch.support.device.type == "cpu":
            return self.log_loss(self.task_by_task(batch))
        answer = self.learn_together(batch.support, self.hp.inner_steps, self.hp.first_order)
        return self.log_loss(F.cross_entropy(answer(batch.query).flatten(0, 1), batch.labels.flatten()))

    def task_by_task(self, batch: EpisodeBatch) -> Tensor:
        """The mean query loss, with its gradient; each task's graph is gone before the next begins."""
        weights = list(self.parameters())
        loss, gradients = batch.support.new_zeros(()), [torch.zeros_like(w) for w in weights]
        for support, query, labels in zip(batch.support, batch.query, batch.labels, strict=True):
            answer = self.learn(support, self.hp.inner_steps, self.hp.first_order)
            own = F.cross_entropy(answer(query), labels) / len(batch.support)
            loss = loss + own.detach()
            gradients = [a + b for a, b in zip(gradients, torch.autograd.grad(own, weights), strict=True)]
        return with_gradient(loss, weights, gradients)

    def learn(self, support: Tensor, steps: int, first_order: bool) -> Callable[[Tensor], Tensor]:
        """Adapt to one support set ``[way, shot, 3, H, W]``: answers queries ``[Q, 3, H, W]``."""
        images, labels = support.flatten(0, 1), class_of_each(support)
        network = self.network(len(support))
        learner = l2l.algorithms.MAML(network, self.hp.inner_learning_rate, first_order).clone()
        for _ in range(steps):
            with support_norm(self.hp.batch_norm):
                loss = F.cross_entropy(learner(images), labels)
            learner.adapt(loss)
        return answer_one(learner, self.hp.batch_norm, images)

    def learn_together(self, support: Tensor, steps: int, first_order: bool) -> Callable[[Tensor], Tensor]:
        """Adapt to support sets ``[E, way, shot, 3, H, W]`` at once: answers ``[E, Q, 3, H, W]``."""
        images, labels = support.flatten(1, 2), class_of_each(support)
        network = self.network(support.shape[1])
        gradient = grad(partial(support_loss, network, support_norm(self.hp.batch_norm, batched=True)))
        weights = {name: w.expand(len(support), *w.shape) for name, w in network.named_parameters()}
        with full_precision(support):
            for _ in range(steps):
                with torch.set_grad_enabled(not first_order):
                    gradients = vmap(gradient, in_dims=(0, 0, None))(weights, images, labels)
                rate = self.hp.inner_learning_rate
                weights = {name: w - rate * gradients[name] for name, w in weights.items()}
        return answer_together(network, self.hp.batch_norm, weights, images)

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; the paper's is Adam at a constant rate."""
        return configure_as_set(self)

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """``[E, way, shot, 3, H, W]`` -> answers to ``[E, Q, 3, H, W]``: as in training, first order."""
        if support.device.type != "cpu":
            return self.learn_together(support, self.hp.test_steps, first_order=True)
        answers = [self.learn(own, self.hp.test_steps, first_order=True) for own in support]
        return lambda query: torch.stack([answer(q) for answer, q in zip(answers, query, strict=True)])
