"""ANIL: almost no inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.adaptation import MetaLearner, of_length
from methods.batches import EpisodeBatch, Episodes
from methods.distances import full_precision
from methods.optimizers import configure_as_set


class ANIL(MetaLearner):
    """MAML whose inner loop adapts the head alone, on features that no episode changes.

    Inner loop: steps of gradient descent on the cross-entropy of a linear head over the support features.
    Outer loop: the cross-entropy of the queries under the adapted head, through the inner steps into the
    backbone (Raghu et al. 2020, section 4.1), or with the inner gradients taken as constants
    (`first_order`). The inner gradient of a linear head is written out, so any number of episodes is learned
    at once from cached features.

    Use it when you would use MAML, unless the features themselves must adapt: it is about as accurate (as
    the paper finds), and far faster in training and test.

    It costs one forward and backward pass an image of a training episode; the inner steps cost next to
    nothing. At the test each image is embedded once, and thousands of episodes a second are learned.
    """

    family = "meta-learning"
    paper = (
        "Raghu et al. 2020, Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML"
    )
    trains_on = "episodes"
    test_only = ("test_steps",)
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
        "paper": {"backbone": "conv4", "head": "learned"},
    }
    starts = {
        "pretrained": {
            "feature_length": 10.0,
            "optimizer": "sgd",
            "schedule": "linear",
            "learning_rate": 0.01,
            "weight_decay": 5e-4,
        }
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 30000  # training steps
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        episodes: int = 4  # tasks a step (meta-batch)
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images per class in a training episode
        train_query: int = 15  # query images per class in a training episode
        inner_steps: int = 5  # steps on the support set in training
        test_steps: int = 10  # steps on the support set in evaluation
        inner_learning_rate: float = 0.1  # of those steps
        first_order: bool = False  # take inner gradients as constants
        head: Literal["zero", "learned"] = "zero"  # where the head of an episode starts
        feature_length: float = 0.0  # features get this length before the head; 0 leaves each its own
        optimizer: Literal["sgd", "adam"] = "adam"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["linear", "constant"] = "constant"  # of the meta learning rate, down to 0
        learning_rate: float = 0.001  # meta learning rate
        weight_decay: float = 0.0  # on matrices and filters

    def batches(self) -> Episodes:
        """Episodes that look like the test."""
        hp = self.hp
        return Episodes(self.train_way, hp.train_shot, hp.train_query, hp.episodes)

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """All images of the step go through the backbone in one forward."""
        self.backbone.train()
        logits = self.answer(*self.embed_episodes(batch), self.hp.inner_steps, self.hp.first_order)
        return self.log_loss(F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))

    def answer(self, support: Tensor, query: Tensor, steps: int, first_order: bool) -> Tensor:
        """Adapt a head to each support set ``[E, way, shot, D]``; logits ``[E, Q, way]`` of ``[E, Q, D]``."""
        way, shot = support.shape[1:3]
        with full_precision(support):
            weight, bias = (w.float() for w in self.start(way, support.shape[3]))
            weight, bias = weight.expand(len(support), -1, -1), bias.expand(len(support), 1, -1)
            images = of_length(support.flatten(1, 2).float(), self.hp.feature_length)
            labels = torch.eye(way, device=support.device).repeat_interleave(shot, dim=0)
            for _ in range(steps):
                # The gradient of the mean cross-entropy with respect to the logits.
                error = ((images @ weight.mT + bias).softmax(dim=2) - labels) / (way * shot)
                gradients = error.mT @ images, error.sum(dim=1, keepdim=True)
                if first_order:
                    gradients = gradients[0].detach(), gradients[1].detach()
                weight = weight - self.hp.inner_learning_rate * gradients[0]
                bias = bias - self.hp.inner_learning_rate * gradients[1]
            return of_length(query.float(), self.hp.feature_length) @ weight.mT + bias

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; the paper's is Adam at a constant rate."""
        return configure_as_set(self)

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits ``[E, Q, way]`` of heads adapted to ``[E, way, shot, D]``, all episodes at once."""
        return self.answer(support, query, self.hp.test_steps, first_order=True)
