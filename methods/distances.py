"""Distances between embeddings as small objects: pairs of rows, and all pairs of two batches.

They are larger the more alike two embeddings are, and computed in float32 inside autocast too: bfloat16
keeps three digits, and cosines of an embedding's neighbours differ in the third.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import functional as F


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """A context without autocast on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


class Cosine:
    """Cosine similarity, in [-1, 1]."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity of row i of `a` and row i of `b`: ``[N, D], [N, D] -> [N]``."""
        return F.cosine_similarity(a.float(), b.float(), dim=-1)

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity of every row of `a` to every row of `b`: ``[..., N, D], [..., M, D] -> [..., N, M]``."""
        with full_precision(a):
            return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).mT


class Euclidean:
    """Negative Euclidean distance."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``."""
        return -(a.float() - b.float()).norm(dim=-1)

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """``[..., N, D], [..., M, D] -> [..., N, M]``."""
        with full_precision(a):
            return -torch.cdist(a.float(), b.float())


class SquaredEuclidean:
    """Negative squared Euclidean distance, the Bregman divergence of Snell et al. 2017, section 2.4."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``."""
        return -(a.float() - b.float()).square().sum(dim=-1)

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """``[..., N, D], [..., M, D] -> [..., N, M]``, as 2ab - a^2 - b^2: one matrix product."""
        a, b = a.float(), b.float()
        with full_precision(a):
            return 2 * a @ b.mT - a.square().sum(-1)[..., :, None] - b.square().sum(-1)[..., None, :]


class Dot:
    """Inner product."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``."""
        return (a.float() * b.float()).sum(dim=-1)

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """``[..., N, D], [..., M, D] -> [..., N, M]``."""
        with full_precision(a):
            return a.float() @ b.float().mT
