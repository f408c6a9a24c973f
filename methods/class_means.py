"""What methods share whose classes are means of embeddings: the answers that follow from a distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from methods.method import Method, class_means


class ClassMeans(Method):
    """Base of the methods whose classes are means of embeddings.

    Attributes:
        distance: how two embeddings are compared (`methods.distances`); larger means more alike.
    """

    distance: Any

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Each query against each class's mean embedding: ``[E, Q, way]``."""
        return self.distance.matrix(query, class_means(support))

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Each query against the means of base and new classes: ``[Q, B + new]``."""
        return self.distance.matrix(query, torch.cat([base.float(), class_means(support[None])[0]]))

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: what queries and class means are compared by."""
        return self.distance.rows(a, b)
