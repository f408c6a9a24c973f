"""What siamese networks share: how two embeddings are compared, and the answers that follow from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.distances import Cosine, Euclidean
from methods.method import Method, class_means


class Siamese(Method):
    """Base of the methods that train a distance by triplets.

    A query takes the class whose mean support embedding it is most similar to. Subclasses' hyperparameters
    have `distance` and `margin`.
    """

    def __init__(self, backbone: nn.Module, hp: Any, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.distance = Cosine() if hp.distance == "cosine" else Euclidean()
        self.margin = hp.margin or (0.3 if hp.distance == "cosine" else 1.0)

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
