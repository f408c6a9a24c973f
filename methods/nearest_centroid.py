"""Nearest centroid on the features of a classifier: SimpleShot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.class_means import ClassMeans
from methods.distances import Cosine, Euclidean
from methods.pretraining import PretrainedClassifier
from methods.transfer import Transfer


class NearestCentroid(ClassMeans, Transfer):
    """SimpleShot: learn to classify the base classes, then take the nearest class mean of the features.

    Features may be scaled to length 1 (L2N), optionally after subtracting the mean feature of the base
    training images (CL2N; section 3). Each query gets the class whose mean feature is nearest. It learns
    nothing from episodes: it is the baseline that episodic methods must beat.

    The mean feature is that of the last training batches (see `BaseClassifier`).

    Use it when you begin: it is the simplest method here, and the right choice unless another one beats it
    on your images.

    It costs the pretraining, one forward and backward pass per image, which it shares with the other
    transfer methods. Testing is as cheap as possible: each image is embedded once, a new class is one mean.
    """

    family = "transfer"
    paper = "Wang et al. 2019, SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning"
    trains_on = "pretraining"
    test_only = ("transform", "distance")
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32"},
        "paper": {
            "backbone": "resnet12",
            "steps": 13500,
            "images": 256,
            "head": "linear",
            "transform": "centre_l2",
            "distance": "euclidean",
            "schedule": "simpleshot",
            "weight_decay": 1e-4,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps of the classifier, one batch each
        images: int = 128  # images in a batch
        head: Literal["linear", "cosine"] = "cosine"  # classifier of the base classes
        scale: float = 16.0  # what head=cosine multiplies cosines by
        transform: Literal["none", "l2", "centre_l2"] = "l2"  # of the features: the paper's UN, L2N, CL2N
        distance: Literal["euclidean", "cosine"] = "cosine"  # from a query to a class mean
        schedule: Literal["one_cycle", "simpleshot", "constant"] = "one_cycle"  # simpleshot: as in the paper
        learning_rate: float = 0.1  # peak learning rate of SGD with Nesterov momentum 0.9
        weight_decay: float = 5e-4  # on matrices and filters

    mean: Tensor

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.distance = Cosine() if hp.distance == "cosine" else Euclidean()
        self.register_buffer("mean", torch.zeros(backbone.dim))

    def start_from(self, pretrained: PretrainedClassifier) -> None:
        """With the mean feature."""
        super().start_from(pretrained)
        self.mean.copy_(pretrained.mean)

    def embed(self, images: Tensor) -> Tensor:
        """Transformed features: ``[N, 3, H, W]`` -> ``[N, D]``."""
        features = self.backbone(images).float()
        if self.hp.transform == "centre_l2":
            features = features - self.mean
        return features if self.hp.transform == "none" else F.normalize(features, dim=1)
