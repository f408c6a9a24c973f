"""What methods that learn an episode by gradient descent share: hyperparameters, heads, adapted answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from methods.batches import Episodes
from methods.distances import Cosine, full_precision
from methods.method import Method
from methods.optimizers import configure_as_set
from methods.support_norm import BatchNorm, Statistics, one_by_one, query_norm, support_statistics

Weights = dict[str, Tensor]  # by name in a `Network`


class MetaLearner(Method):
    """Base of the methods whose training prepares weights for a few steps of gradient descent.

    A new episode's head starts at zero, which treats its classes alike (Kao et al. 2022, MAML is a Noisy
    Contrastive Learner, section 3), or where training has put it. Starting from a classifier of the base
    classes gives good features much sooner than training on episodes (Ye and Chao 2021, How to Train Your
    MAML to Excel in Few-Shot Learning).
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "backbone": "conv4",
            "steps": 12,
            "episodes": 2,
            "train_query": 5,
            "test_steps": 2,
        },
        "quick": {"backbone": "conv4", "steps": 1280},
        "standard": {"backbone": "resnet12-32", "steps": 1600},
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Those of `maml` and `anil`; `reptile` has others."""

        steps: int = 60000  # training steps
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        episodes: int = 4  # tasks per step (meta-batch)
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images per class in a training episode
        train_query: int = 15  # query images per class in a training episode
        inner_steps: int = 5  # steps on the support set in training
        test_steps: int = 10  # steps on the support set in evaluation
        inner_learning_rate: float = 0.01  # learning rate of the inner loop
        first_order: bool = False  # take inner gradients as constants (FOMAML)
        head: Literal["zero", "learned"] = "zero"  # where the head of an episode starts
        feature_length: float = 0.0  # length to which features are scaled before the head; 0: not scaled
        optimizer: Literal["sgd", "adam"] = "adam"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["linear", "constant"] = "constant"  # of the meta learning rate; linear: down to 0
        learning_rate: float = 0.001  # meta learning rate
        weight_decay: float = 0.0  # on matrices and filters

    def __init__(self, backbone: Any, hp: Any, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.dim: int = backbone.dim
        self.train_way = min(hp.train_way, num_classes)
        if hp.head == "learned":
            self.order_dependent = True  # each place in an episode has weights of its own
            self.head = nn.Linear(self.dim, self.train_way)

    def batches(self) -> Episodes:
        """Episodes that look like the test."""
        hp = self.hp
        return Episodes(self.train_way, hp.train_shot, hp.train_query, hp.episodes)

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; the papers' is Adam at a constant rate."""
        return configure_as_set(self)

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

    def under(self, weights: Weights, images: Tensor) -> Tensor:
        """`forward` with other weights."""
        return functional_call(self, weights, (images,))

    def loss(self, weights: Weights, images: Tensor, labels: Tensor, norm: AbstractContextManager) -> Tensor:
        """Cross-entropy of support images ``[N, 3, H, W]`` with labels ``[N]``, run in the context `norm`."""
        with norm:
            return F.cross_entropy(self.under(weights, images), labels)


def adapted(
    network: Network, kind: BatchNorm, learn: Callable[[Tensor], Weights], support: Tensor
) -> Callable[[Tensor], Tensor]:
    """Learn tasks; a function from their queries ``[E, Q, 3, H, W]`` to logits ``[E, Q, way]``.

    A CPU learns one task after another, other devices all at once, by `vmap` of the same functions. Then it
    is in float32.

    Args:
        network: whose forward it is.
        kind: whose batch-norm statistics.
        learn: support images of one task ``[way, shot, 3, H, W]`` -> its weights.
        support: ``[E, way, shot, 3, H, W]``.
    """

    def learned(images: Tensor) -> tuple[Weights, Statistics]:
        weights = learn(images)
        return weights, support_statistics(kind, lambda: network.under(weights, images.flatten(0, 1)))

    def answer(task: tuple[Weights, Statistics], query: Tensor) -> Tensor:
        weights, layers = task
        with query_norm(kind, layers):
            return network.under(weights, query)

    if one_by_one(support.device):
        each = [learned(images) for images in support]
        return lambda query: torch.stack([answer(*own) for own in zip(each, query, strict=True)])
    with full_precision(support):
        together = vmap(learned)(support)

    def answer_together(query: Tensor) -> Tensor:
        with full_precision(query):
            return vmap(answer)(together, query)

    return answer_together


def of_length(features: Tensor, length: float) -> Tensor:
    """Features ``[..., D]`` with that Euclidean length; 0 leaves each its own."""
    return length * F.normalize(features, dim=-1) if length else features


def class_of_each(support: Tensor) -> Tensor:
    """Labels ``[way * shot]`` of a flattened support set ``[way, shot, 3, H, W]``."""
    way, shot = support.shape[:2]
    return torch.arange(way, device=support.device).repeat_interleave(shot)
