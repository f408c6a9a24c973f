"""ANIL: almost no inner loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.adaptation import MetaLearner, of_length
from methods.batches import EpisodeBatch
from methods.distances import full_precision


class ANIL(MetaLearner):
    """MAML whose inner loop adapts the head alone, on features that no episode changes.

    Inner loop: steps of gradient descent on the cross-entropy of a linear head over the support features.
    Outer loop: the cross-entropy of the queries under the adapted head, through the inner steps into the
    backbone (Raghu et al. 2020, section 4.1), or with the inner gradients taken as constants
    (`first_order`). The inner gradient of a linear head is written out, so any number of episodes is learned
    at once from cached features.

    Use it when you would use MAML, unless the features themselves must adapt: it is about as accurate (as
    the paper finds), and far faster in training and test.

    It costs one forward and backward pass per image of a training episode; the inner steps cost next to
    nothing. At test time each image is embedded once, and thousands of episodes are learned per second.
    """

    family = "meta-learning"
    paper = (
        "Raghu et al. 2020, Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML"
    )
    trains_on = "episodes"
    test_only = ("test_steps",)
    presets = {**MetaLearner.presets, "paper": {"backbone": "conv4-32", "head": "learned"}}
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
    class Hyperparameters(MetaLearner.Hyperparameters):
        """Defaults; the presets change some."""

        steps: int = 30000  # training steps
        inner_learning_rate: float = 0.1  # learning rate of the inner loop

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

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits ``[E, Q, way]`` of heads adapted to ``[E, way, shot, D]``, all episodes at once."""
        return self.answer(support, query, self.hp.test_steps, first_order=True)
