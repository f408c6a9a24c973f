"""Prototypical networks that add generated features to each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.distances import full_precision
from methods.episodic import Episodic
from methods.protonet import ProtoNet


class ProtoNetHallucination(ProtoNet):
    """Prototypical networks with hallucinated data: a class is the mean of real and generated features.

    A generator, trained end to end through the episodes' loss, makes `generated` more features per class
    from those of its support images and noise (Wang et al. 2018, section 4). It starts by copying its input.
    In evaluation the noise is the same for every class of every episode: an answer depends on the support
    set and the query alone. `test_generated` is their number at test time; 0 leaves the prototypical network
    that was trained along with the generator.

    Use it when there are one or two support images per class, too few for a good mean, and how images vary
    within a class can be learned from the base classes. Compare it with protonet, which is the same without
    a generator.

    It costs what protonet costs, and in each episode of training and test `generated` passes per class
    through a small network.
    """

    paper = "Wang et al. 2018, Low-Shot Learning from Imaginary Data"
    test_only = (*ProtoNet.test_only, "test_generated")
    presets = {
        **Episodic.presets,
        # A student project's generator and distance; its training length is unknown, so Snell et al. 2017's.
        "original": {
            **Episodic.snell,
            "generated": 100,
            "hidden": 2400,
            "dropout": 0.5,
            "distance": "l2",
            "scale": 1.0,
            "train_way": 5,
            "train_shot": 5,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters(ProtoNet.Hyperparameters):
        """Defaults; the presets change some."""

        distance: Literal["l2", "cosine", "dot"] = "cosine"  # squared Euclidean, cosine or inner product
        scale: float = 10.0  # logits are multiplied by this (TADAM's alpha); use about 1 with l2
        generated: int = 10  # M, generated features per class
        test_generated: int | Literal[0] | None = None  # M at test time; none: as in training
        hidden: int | None = None  # width of the generator's two hidden layers; none: the embedding's
        dropout: float = 0.0  # share of the generator's hidden units dropped in training

    def __init__(self, backbone: Any, hp: Any, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        hidden = hp.hidden or backbone.dim
        if hidden < backbone.dim:
            raise ValueError(f"hidden must be at least {backbone.dim}, the number of features to copy")
        if hp.dropout >= 1:
            raise ValueError("dropout must be below 1")
        self.generator = Generator(backbone.dim, hidden, hp.dropout)
        count = hp.generated if hp.test_generated is None else hp.test_generated
        noise = torch.randn(count, backbone.dim, generator=torch.Generator().manual_seed(0))
        # Not among the weights, whose shapes would depend on a test-only number; older models hold it.
        self.register_buffer("noise", noise, persistent=False)
        self.register_load_state_dict_pre_hook(_without_noise)

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Negative distance of each query to each prototype: ``[E, Q, way]``."""
        return self.distance.matrix(query, self.prototypes(support))

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Negative distance of each query to the prototypes of base classes and of new ones.

        A base class gets generated features too, from its mean, which counts as many real ones as a new class
        has; so both kinds of prototype are moved alike.
        """
        means = base.float()[:, None].expand(-1, support.shape[1], -1)
        both = torch.cat([means, support.float()])
        return self.distance.matrix(query, self.prototypes(both[None])[0])

    def prototypes(self, support: Tensor) -> Tensor:
        """Mean of real and generated features: ``[E, way, shot, D]`` -> float32 ``[E, way, D]``."""
        made = self.hallucinate(support)
        return (support.float().sum(dim=2) + made.sum(dim=2)) / (support.shape[2] + made.shape[2])

    def hallucinate(self, support: Tensor) -> Tensor:
        """Generate M features of each class, in training mode `generated` from fresh noise.

        Args:
            support: ``[E, way, shot, D]`` embeddings.

        Returns:
            float32 ``[E, way, M, D]``.
        """
        noise: Any = self.noise
        if self.training:
            shape = (*support.shape[:2], self.hp.generated, support.shape[3])
            noise = torch.randn(shape).to(support.device)  # the same on every device
        with full_precision(support):
            return self.generator(support.float(), noise)


def _without_noise(method: nn.Module, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    weights.pop(f"{prefix}noise", None)


class Generator(nn.Module):
    """MLP of three layers: a class's features and noise -> generated features.

    The layers are those of Wang et al. 2018: ReLU after each, the last included, since the
    features of most backbones are not negative; initialised as identities, which copy the features. The
    first, of features and noise appended, is written as a sum, for the two are repeated differently.

    Args:
        dim: number of features D, real, generated and noise.
        hidden: width of both hidden layers, at least `dim`.
        dropout: share of hidden units dropped in training.
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.of_features = nn.Linear(dim, hidden)
        self.of_noise = nn.Linear(dim, hidden, bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.of_features, self.middle, self.last):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.of_noise.weight, std=0.1 * dim**-0.5)

    def forward(self, support: Tensor, noise: Tensor) -> Tensor:
        """Generated feature m comes from noise m and from one support image, each taking its turn.

        Args:
            support: ``[E, way, shot, D]``. Its order does not matter: images take turns by mean feature.
            noise: ``[M, D]``, or ``[E, way, M, D]``.

        Returns:
            ``[E, way, M, D]``.
        """
        made, shots = noise.shape[-2], support.shape[2]
        order = support.mean(dim=3).argsort(dim=2, stable=True)[..., None]
        first = self.of_features(support)
        first = first.gather(2, order.expand_as(first))
        # Not by index: its gradient would add in any order on a GPU.
        first = first.repeat(1, 1, -(-made // shots), 1)[:, :, :made] + self.of_noise(noise)
        return F.relu(self.last(self._activated(self.middle(self._activated(first)))))

    def _activated(self, hidden: Tensor) -> Tensor:
        return self.dropout(F.relu(hidden))
