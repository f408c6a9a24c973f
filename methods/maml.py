"""MAML: model-agnostic meta-learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional as F

from methods.adaptation import MetaLearner, Weights, adapted, class_of_each
from methods.batches import EpisodeBatch
from methods.outer_loop import OuterLoop
from methods.support_norm import one_by_one, support_norm


class MAML(OuterLoop, MetaLearner):
    """Learn initial weights from which a few gradient steps on a support set suffice.

    Inner loop: some steps on the cross-entropy of the support set, all weights at one fixed rate. Outer loop:
    the cross-entropy of the queries under the adapted weights, differentiated through the inner steps
    (Finn et al. 2017, algorithm 2), or with the inner gradients taken as constants (`first_order`, section
    5.2). Queries are normalised by statistics of the support set; `batch_norm=transductive` normalises them
    together, as published.

    Use it when new classes look unlike the training classes, so that fixed features would not separate
    them, and a second per task is acceptable.

    It costs a forward and a twice differentiated backward pass of the support set per inner step, then
    one of the queries; `first_order` saves about a third of the time and most of the memory. Each episode
    of the evaluation takes `test_steps` forward and backward passes, which cannot be cached. A CPU learns
    one task after another, which is faster there; other devices learn all tasks of a step at once.
    """

    family = "meta-learning"
    paper = "Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks"
    fuses = False
    trains_on = "episodes"
    test_only = ("test_steps",)
    fixed_embedding = False
    marked_when = {"transductive": "batch_norm=transductive"}
    presets = {
        **MetaLearner.presets,
        # Mini-ImageNet (appendix A.1): 60,000 steps of 4 tasks, 5 inner steps of 0.01, and 10 at test time.
        "paper": {"backbone": "conv4-32", "head": "learned", "inner_steps": 5, "test_steps": 10},
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
    class Hyperparameters(MetaLearner.Hyperparameters):
        """Defaults; the presets change some."""

        batch_norm: Literal["support", "running", "transductive"] = "support"  # whose statistics normalise

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.transductive = hp.batch_norm == "transductive"  # type: ignore[misc]

    def outer_step(self, batch: EpisodeBatch, optimizer: Any) -> Tensor:
        """A step along the gradient of the query loss after adaptation, mean over tasks."""
        self.move_running_statistics(batch.support)
        optimizer.zero_grad()
        loss = self.meta_gradient(batch)
        optimizer.step()
        return loss

    def meta_gradient(self, batch: EpisodeBatch) -> Tensor:
        """Add the gradient of the mean query loss to the weights' own; returns that loss."""
        at_once = 1 if one_by_one(batch.support.device) else len(batch.support)
        parts = list(zip(*(tensor.split(at_once) for tensor in batch[:3]), strict=True))
        losses = []
        for support, query, labels in parts:
            answer = self.learn(support, self.hp.inner_steps, self.hp.first_order)
            loss = F.cross_entropy(answer(query).flatten(0, 1), labels.flatten()) / len(parts)
            self.manual_backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def learn(self, support: Tensor, steps: int, first_order: bool) -> Callable[[Tensor], Tensor]:
        """Adapt to each support set ``[E, way, shot, 3, H, W]``: answers queries ``[E, Q, 3, H, W]``."""
        network = self.network(support.shape[1])
        kind, rate = self.hp.batch_norm, self.hp.inner_learning_rate
        norm = support_norm(kind)

        def inner_loop(support: Tensor) -> Weights:
            images, labels = support.flatten(0, 1), class_of_each(support)
            weights: Weights = dict(network.named_parameters())
            for _ in range(steps):
                with torch.set_grad_enabled(not first_order):
                    gradient = grad(network.loss)(weights, images, labels, norm)
                weights = {name: w - rate * gradient[name] for name, w in weights.items()}
            return weights

        return adapted(network, kind, inner_loop, support)

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """``[E, way, shot, 3, H, W]`` -> answers to ``[E, Q, 3, H, W]``: as in training, first order."""
        return self.learn(support, self.hp.test_steps, first_order=True)
