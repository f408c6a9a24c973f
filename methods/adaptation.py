"""What methods that learn an episode by gradient descent share: heads and adapted answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from methods.distances import Cosine, full_precision
from methods.method import Method
from methods.support_norm import (
    BatchNorm,
    GivenStatistics,
    Statistics,
    TakenStatistics,
    query_norm,
    support_norm,
)

Weights = dict[str, Tensor]  # by name in a `Network`


class MetaLearner(Method):
    """Base of the methods whose training prepares weights for a few steps of gradient descent.

    A new episode's head starts at zero, which treats its classes alike (Kao et al. 2022, MAML is a Noisy
    Contrastive Learner, section 3), or where training has put it. To start from a classifier of the base
    classes comes to good features much sooner than episodes do (Ye and Chao 2021, How to Train Your MAML to
    Excel in Few-Shot Learning).

    Subclasses' hyperparameters have `train_way`, `head` and `feature_length`.
    """

    def __init__(self, backbone: Any, hp: Any, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.dim: int = backbone.dim
        self.train_way = min(hp.train_way, num_classes)
        if hp.head == "learned":
            self.order_dependent = True  # each place in an episode has weights of its own
            self.head = nn.Linear(self.dim, self.train_way)

    def move_running_statistics(self, support: Tensor) -> None:
        """Before a step on episodes: those of `embed` follow the support images, for which nobody adapts.

        Batch norm runs in evaluation mode in an episode, so nothing else moves them.
        """
        if self.hp.batch_norm != "running":
            with torch.no_grad():
                self.backbone.train()(support.flatten(0, 2))
        self.backbone.eval()

    def start(self, way: int, dim: int) -> tuple[Tensor, Tensor]:
        """Where an episode's head starts: weight ``[way, dim]`` and bias ``[way]``.

        The learned head of another number of classes is its mean, for each class the same.
        """
        if self.hp.head == "zero":
            weight = next(self.backbone.parameters()).new_zeros(way, dim)
            return weight, weight.new_zeros(way)
        weight, bias = self.head.weight, self.head.bias
        if way == len(weight):
            return weight, bias
        return weight.mean(0).expand(way, -1), bias.mean().expand(way)

    def network(self, way: int) -> Network:
        """The weights that every episode of so many classes starts from."""
        return Network(self.backbone, *self.start(way, self.dim), self.hp.feature_length)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: cosine of the features before adaptation."""
        return Cosine().rows(a, b)


class Network(nn.Module):
    """A backbone and a linear head: the parameters that one episode adapts.

    Args:
        backbone: images ``[N, 3, H, W]`` -> features ``[N, D]``.
        weight, bias: of the head, ``[way, D]`` and ``[way]``; copied unless they are parameters.
        length: see `of_length`.
    """

    def __init__(self, backbone: nn.Module, weight: Tensor, bias: Tensor, length: float) -> None:
        super().__init__()
        self.backbone, self.length = backbone, length
        self.weight, self.bias = (
            p if isinstance(p, nn.Parameter) else nn.Parameter(p.detach().clone()) for p in (weight, bias)
        )

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, way]``, the head in full precision inside autocast too."""
        features = self.backbone(images)
        with full_precision(images):
            features = of_length(features.to(self.weight.dtype), self.length)
            return F.linear(features, self.weight, self.bias)


def of_length(features: Tensor, length: float) -> Tensor:
    """Features ``[..., D]`` with that Euclidean length; 0 leaves each its own."""
    return length * F.normalize(features, dim=-1) if length else features


def class_of_each(support: Tensor) -> Tensor:
    """Labels ``[way * shot]`` of a flattened support set ``[..., way, shot, 3, H, W]``."""
    way, shot = support.shape[-5:-3]
    return torch.arange(way, device=support.device).repeat_interleave(shot)


def support_loss(
    network: Network, norm: AbstractContextManager, weights: Weights, images: Tensor, labels: Tensor
) -> Tensor:
    """Cross-entropy of one support set under weights of its own.

    Args:
        network: whose forward it is.
        norm: what the forward runs in.
        weights: in place of the network's.
        images: ``[N, 3, H, W]``.
        labels: ``[N]``.
    """
    with norm:
        return F.cross_entropy(functional_call(network, weights, (images,)), labels)


def answer_one(
    forward: Callable[[Tensor], Tensor], kind: BatchNorm, support: Tensor
) -> Callable[[Tensor], Tensor]:
    """An adapted network as a function from queries ``[Q, 3, H, W]`` to logits ``[Q, way]``.

    Args:
        forward: the network.
        kind: whose batch-norm statistics.
        support: ``[N, 3, H, W]``, all support images of the episode.
    """
    norm = query_norm(kind, lambda: forward(support))

    def answer(query: Tensor) -> Tensor:
        with norm():
            return forward(query)

    return answer


def answer_together(
    network: Network, kind: BatchNorm, weights: Weights, support: Tensor
) -> Callable[[Tensor], Tensor]:
    """`answer_one` for E episodes at once: queries ``[E, Q, 3, H, W]`` -> logits ``[E, Q, way]``.

    In float32, as all that is batched over tasks: torch's batch norm does not take bfloat16 images with
    float32 weights there.

    Args:
        network: whose forward it is.
        kind: whose batch-norm statistics.
        weights: ``[E, ...]`` by name, in place of the network's.
        support: ``[E, N, 3, H, W]``.
    """

    def statistics(own: Weights, images: Tensor) -> Statistics:
        with TakenStatistics() as taken:
            functional_call(network, own, (images,))
        return taken.layers

    def answer_of_one(own: Weights, layers: Statistics, query: Tensor) -> Tensor:
        with GivenStatistics(layers) if kind == "support" else support_norm(kind):
            return functional_call(network, own, (query,))

    with full_precision(support):
        layers = vmap(statistics)(weights, support) if kind == "support" else []

    def answer(query: Tensor) -> Tensor:
        with full_precision(query):
            return vmap(answer_of_one)(weights, layers, query)

    return answer


def with_gradient(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A loss with that value, and with gradients that were computed before.

    So gradients can be added up task by task, each task's graph freed before the next is built, or come
    from no loss at all, and the trainer's usual backward and step still apply.
    """
    pull = torch.stack([(p * g).sum() for p, g in zip(parameters, gradients, strict=True)]).sum()
    return value.detach() + pull - pull.detach()
