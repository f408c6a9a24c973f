"""Siamese network with triplet loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.batches import Balanced, LabelledBatch, TripletBatch, Triplets
from methods.distances import full_precision
from methods.optimizers import configure_as_set
from methods.siamese import Siamese


class SiameseTriplet(Siamese):
    """Siamese network with triplet loss: embed each image once, compare embeddings.

    Images of one class are pulled together and images of different classes pushed apart. The triplets
    (anchor, positive, negative) are mined within each batch of P classes x K images. `mining=soft`
    weighs all negatives of an anchor-positive pair by how badly they violate it, a smooth hardest
    negative: softplus(logsumexp(s_an / t) - s_ap / t), the (N+1)-tuplet loss (Sohn 2016, eq. 4), with a
    temperature and on cosines.
    `mining=random` draws the triplets at random from the whole data set, as the original project did.
    A query takes the class whose mean support embedding it is most similar to.

    Use it when the question is whether two images show the same class, or when classes come and go after
    training: training optimises the similarity directly, and it needs a threshold instead of a closed
    list of classes.

    It costs one forward and backward pass per image, however many triplets the image takes part in, and
    one similarity matrix per batch; `mining=random` uses each image in one triplet only and needs many
    times the steps. Nothing is learned at test time: each image is embedded once, a new class is one mean.
    """

    family = "metric learning"
    paper = (
        "Schroff et al. 2015, FaceNet: A Unified Embedding for Face Recognition and Clustering; mining=soft:"
        " Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective"
    )
    trains_on = "balanced"
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "classes": 8},
        "quick": {"backbone": "conv4", "steps": 3200, "learning_rate": 0.05},
        "standard": {"backbone": "resnet12-32"},
        # 1,800 images in a batch, 40 of a class; its margin of 0.2 is of squared distances, twice a cosine's.
        # It trains on 200 million faces with AdaGrad for weeks; the length and optimizer here are our own.
        "paper": {
            "backbone": "resnet12",
            "mining": "semihard",
            "margin": 0.1,
            "classes": 45,
            "images": 40,
            "steps": 4000,
            "schedule": "constant",
            "learning_rate": 0.05,
        },
        "original": {
            "backbone": "resnet56",
            "mining": "random",
            "steps": 52800,
            "triplets": 128,
            "optimizer": "adam",
            "schedule": "constant",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps, one batch each
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        classes: int = 32  # P, classes in a batch
        images: int = 4  # K, images of each class in a batch
        distance: Literal["cosine", "euclidean"] = "cosine"  # how two embeddings are compared
        mining: Literal["soft", "all", "semihard", "hard", "random"] = "soft"  # how triplets are chosen
        temperature: float = 0.1  # t of mining=soft, in units of similarity
        margin: float = 0.0  # for mining other than soft; 0 means 0.3 for cosine, 1.0 for euclidean
        triplets: int = 128  # triplets in a batch of mining=random
        optimizer: Literal["sgd", "adam"] = "sgd"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["one_cycle", "halving", "constant"] = "one_cycle"  # halving: every 2000 steps
        learning_rate: float = 0.1  # peak learning rate
        weight_decay: float = 5e-4  # on matrices and filters

    def __init__(self, backbone: torch.nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if hp.mining != "random" and min(hp.classes, hp.images) < 2:
            raise ValueError(
                "classes and images must be at least 2: a triplet takes two images and two classes"
            )
        self.miner: Any = None
        if hp.mining in ("all", "semihard", "hard"):
            from pytorch_metric_learning.miners import TripletMarginMiner

            self.miner = TripletMarginMiner(self.margin, hp.mining, distance=_metric(hp.distance))

    def batches(self) -> Balanced | Triplets:
        """Classes x images, or random triplets."""
        if self.hp.mining == "random":
            return Triplets(self.hp.triplets)
        return Balanced(min(self.hp.classes, self.num_classes), self.hp.images)

    def training_step(self, batch: LabelledBatch | TripletBatch, batch_idx: int) -> Tensor:
        """One forward per image, whatever the number of triplets it takes part in."""
        if isinstance(batch, TripletBatch):
            a, p, n = self.embed(torch.cat(batch)).chunk(3)
            violation = self.distance.rows(a, n) - self.distance.rows(a, p) + self.margin
            return self.log_loss(F.relu(violation).mean())
        embeddings = self.embed(batch.images)
        if self.miner is None:
            return self.log_loss(self.soft_triplet_loss(embeddings, batch.labels))
        with full_precision(embeddings):
            a, p, n = self.miner(embeddings, batch.labels)
        violation = (
            self.distance.rows(embeddings[a], embeddings[n])
            - self.distance.rows(embeddings[a], embeddings[p])
            + self.margin
        )
        # A batch without a violated triplet has loss 0, still attached to the graph.
        return self.log_loss(F.relu(violation).sum() / max(len(violation), 1) + 0 * embeddings.sum())

    def soft_triplet_loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean over anchor-positive pairs of softplus(logsumexp_n(s_an / t) - s_ap / t).

        Args:
            embeddings: ``[N, D]``.
            labels: int64 ``[N]``; each class at least twice.
        """
        similarity = self.distance.matrix(embeddings, embeddings) / self.hp.temperature
        same = labels[:, None] == labels[None, :]
        negatives = similarity.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
        positives = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        return F.softplus(negatives - similarity)[positives].mean()

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; the original project's is Adam at a constant rate."""
        return configure_as_set(self)


def _metric(name: str) -> Any:
    from pytorch_metric_learning import distances

    return (
        distances.CosineSimilarity() if name == "cosine" else distances.LpDistance(normalize_embeddings=False)
    )
