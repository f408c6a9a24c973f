"""Prototypical networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.batches import EpisodeBatch
from methods.class_means import ClassMeans
from methods.distances import Cosine, Dot, SquaredEuclidean
from methods.episodic import Episodic
from methods.method import mirror_averaged

DISTANCES: dict[str, type[SquaredEuclidean | Cosine | Dot]] = {
    "l2": SquaredEuclidean,
    "cosine": Cosine,
    "dot": Dot,
}


class ProtoNet(ClassMeans, Episodic):
    """Prototypical networks: a class is the mean of its support embeddings.

    Trained on episodes that look like the test: softmax over negative distances from each query to the
    prototypes, cross-entropy on the true class (Snell et al. 2017, eq. 2). More classes in a training
    episode than in a test episode make the task harder and the embedding better (section 3.2). `mirror`
    embeds an image of the test as the mean of its embedding and its mirror image's.

    Use it when each new class comes with one to a few labelled images and the answer is one of these
    classes: training matches this task exactly, and nothing is left to tune at test time.

    It costs one forward and backward pass per image of a training episode (by default 30 classes of 5
    images), and needs enough base classes for episodes wider than the test's. Nothing is learned at
    test time: each image is embedded once (twice with `mirror`), a new class is one mean.
    """

    family = "metric learning"
    paper = "Snell et al. 2017, Prototypical Networks for Few-shot Learning"
    test_only: ClassVar[tuple[str, ...]] = ("mirror",)
    presets = {
        "smoke": Episodic.presets["smoke"],
        "quick": {**Episodic.presets["quick"], "distance": "cosine", "scale": 10.0},
        "standard": {**Episodic.presets["standard"], "distance": "cosine", "scale": 10.0},
        "paper": {**Episodic.snell, "train_way": 20, "train_shot": 5},
    }

    @dataclass(frozen=True)
    class Hyperparameters(Episodic.Hyperparameters):
        """Defaults; the presets change some."""

        distance: Literal["l2", "cosine", "dot"] = "l2"  # squared Euclidean, cosine or inner product
        scale: float = 1.0  # logits are multiplied by this (TADAM's alpha); use about 10 with cosine
        mirror: bool = False  # at test time, average the embeddings of an image and its mirror image

    def __init__(self, backbone: torch.nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.distance = DISTANCES[hp.distance]()

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Support and query go through the backbone in one forward."""
        logits = self.episode_logits(*self.embed_episodes(batch))
        return self.log_loss(F.cross_entropy(self.hp.scale * logits.flatten(0, 1), batch.labels.flatten()))

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, D]``; the mean over mirror images is for the test alone."""
        averaged = self.hp.mirror and not self.training
        return mirror_averaged(self.backbone, images) if averaged else self.backbone(images)
