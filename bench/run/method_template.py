"""OwnMethod: say in one sentence what it does differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.batches import EpisodeBatch, Episodes
from methods.distances import Cosine
from methods.method import Method, class_means


class OwnMethod(Method):
    """Learn an embedding in which each class is the mean of its support images; begin by changing this."""

    family = "metric"
    paper = "none"
    trains_on = "episodes"
    presets = {  # noqa: RUF012
        "smoke": {"backbone": "conv4", "steps": 12},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32", "steps": 4000},
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some. The comments become the help."""

        steps: int = 4000  # training steps
        way: int = 16  # classes in a training episode
        shot: int = 1  # support images of each class
        query: int = 7  # query images of each class
        scale: float = 10.0  # what cosines are multiplied by in training
        learning_rate: float = 0.001  # of Adam

    def batches(self) -> Episodes:
        """One training step is one episode of base classes."""
        return Episodes(min(self.hp.way, self.num_classes), self.hp.shot, self.hp.query)

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the queries' classes."""
        support, query = self.embed_episodes(batch)
        logits = self.hp.scale * self.episode_logits(support, query)
        return self.log_loss(F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))

    def configure_optimizers(self) -> Any:
        """Adam with a constant rate."""
        return torch.optim.Adam(self.parameters(), lr=self.hp.learning_rate)

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """``[E, way, shot, D], [E, Q, D] -> [E, Q, way]``: similarity of each query to each class's mean."""
        return Cosine().matrix(query, class_means(support))

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: larger means more alike."""
        return Cosine().rows(a, b)
