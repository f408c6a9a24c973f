"""Siamese network that classifies pairs of images as same or different."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.batches import Balanced, LabelledBatch, PairBatch, Pairs
from methods.distances import full_precision
from methods.method import Method
from methods.optimizers import configure_as_set


class PairClassifier(Method):
    """Siamese network that says whether two images show the same class.

    Both images go through the same network, which ends in a layer of sigmoid units h. The probability
    that they are of one class is p = sigmoid(sum_j alpha_j |h1_j - h2_j| + b), trained with binary
    cross-entropy on as many same as different pairs (Koch et al. 2015, section 3.1). A query takes the class
    whose support images it is most probably the same as: pair logits are averaged over shots.

    `pairs=batch` learns from all pairs within a batch of P classes x K images, each kind of pair with half
    of the weight; an image is embedded once for all the pairs that it takes part in. `pairs=random` draws
    separate pairs from the whole data set, as the paper does.

    Use it when a probability that two images show the same class is wanted, rather than a similarity
    without a unit.

    It costs one forward and backward pass per image. With `pairs=batch` an image is used in all pairs of its
    batch, with `pairs=random` in only one, so many more images are needed. At test time each image is
    embedded once, and a query is compared with every support image.
    """

    family = "metric learning"
    paper = "Koch et al. 2015, Siamese Neural Networks for One-shot Image Recognition"
    trains_on = "balanced"
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "classes": 8},
        "quick": {"backbone": "conv4", "steps": 3200, "learning_rate": 0.2},
        "standard": {"backbone": "resnet12-32"},
        # 200 epochs of its 150,000 pairs; the paper searches for its rates, and does not print them
        "paper": {
            "backbone": "conv4",
            "pairs": "random",
            "units": 4096,
            "steps": 234375,
            "random_pairs": 128,
            "learning_rate": 0.01,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps, one batch each
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        pairs: Literal["batch", "random"] = "batch"  # all pairs in a batch, or separate random ones
        classes: int = 32  # P, classes in a batch of pairs=batch
        images: int = 4  # K, images of each class in a batch of pairs=batch
        random_pairs: int = 64  # pairs in a batch of pairs=random
        units: int = 256  # sigmoid units, the features that two images are compared by
        optimizer: Literal["sgd", "adam"] = "sgd"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["one_cycle", "halving", "constant"] = "one_cycle"  # halving: every 2000 steps
        learning_rate: float = 0.1  # peak learning rate
        weight_decay: float = 5e-4  # on matrices and filters

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if num_classes < 2:
            raise ValueError("needs at least 2 base classes, for pairs of different ones")
        if hp.pairs == "batch" and min(hp.classes, hp.images) < 2:
            raise ValueError("classes and images must be at least 2: a batch needs both kinds of pair")
        self.units = nn.Linear(backbone.dim, hp.units)
        # From the start, the less alike two images are, the less probably they are of one class.
        self.alpha = nn.Parameter(torch.full((hp.units,), -2 / hp.units**0.5))
        self.bias = nn.Parameter(torch.tensor(2.0))

    def batches(self) -> Balanced | Pairs:
        """Classes x images, or random pairs."""
        if self.hp.pairs == "random":
            return Pairs(self.hp.random_pairs)
        return Balanced(min(self.hp.classes, self.num_classes), self.hp.images)

    @property
    def starts_trained(self) -> bool:
        """No: the sigmoid units are random, whatever the backbone has learned."""
        return False

    def training_step(self, batch: LabelledBatch | PairBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy of same against different, half of the weight each."""
        if isinstance(batch, PairBatch):
            a, b = self.embed(torch.cat([batch.a, batch.b])).chunk(2)
            return self.log_loss(F.binary_cross_entropy_with_logits(self.similarity(a, b), batch.same))
        embeddings = self.embed(batch.images)
        first, second = torch.triu_indices(
            len(embeddings), len(embeddings), offset=1, device=embeddings.device
        )
        logits = self.pair_logits(embeddings, embeddings)[first, second]
        same = batch.labels[first] == batch.labels[second]
        return self.log_loss((F.softplus(-logits[same]).mean() + F.softplus(logits[~same]).mean()) / 2)

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; the paper's is SGD with momentum."""
        return configure_as_set(self)

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, units]``, in (0, 1)."""
        features = self.backbone(images)
        with full_precision(features):
            return self.units(features.float()).sigmoid()

    def pair_logits(self, a: Tensor, b: Tensor) -> Tensor:
        """Logit of every row of `a` against every row of `b`: ``[..., N, D], [..., M, D] -> [..., N, M]``.

        alpha_j |a_j - b_j| is +-|alpha_j a_j - alpha_j b_j|: two L1 distances, of the features with positive
        and with negative alpha, and no ``[N, M, D]`` differences.
        """
        with full_precision(a):
            logits = self.bias.float()
            for sign in (1, -1):
                chosen = (sign * self.alpha > 0).nonzero().squeeze(1)
                alpha = self.alpha[chosen].float()
                scaled = [alpha * features.float().index_select(-1, chosen) for features in (a, b)]
                logits = logits + sign * torch.cdist(scaled[0], scaled[1], p=1)
        return logits

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Pair logit of each query with each class, mean over its support images: ``[E, Q, way]``."""
        logits = self.pair_logits(query, support.flatten(1, 2))
        return logits.unflatten(2, support.shape[1:3]).mean(dim=3)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the logit of p."""
        with full_precision(a):
            return (a.float() - b.float()).abs() @ self.alpha + self.bias
