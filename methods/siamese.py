"""What siamese networks share: how two embeddings are compared."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from methods.class_means import ClassMeans
from methods.distances import Cosine, Euclidean


class Siamese(ClassMeans):
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
