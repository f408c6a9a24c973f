"""Logistic regression on the features of a classifier: RFS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from methods.batches import LabelledBatch, Shuffled
from methods.classification import classifier, configure_classifier
from methods.distances import Cosine, full_precision
from methods.distillation import Distillation
from methods.logistic_regression import fit
from methods.method import mirror_averaged
from methods.pretraining import Pretraining
from methods.transfer import Transfer


class LogisticHead(Distillation, Transfer):
    """RFS: learn to classify the base classes; in an episode, fit a logistic regression to the features.

    The features are divided by their length. The regression is multinomial, with an L2 penalty, and fitted
    to convergence, so that it gives scikit-learn's answers (section 3.2).

    `distillation` trains two generations in the same number of steps: the classifier in the first half is
    the teacher, and in the second half a student, from random weights, also matches the teacher's answers
    (a born-again network; section 3.3, eq. 5).

    `mirror` represents an image by the mean of its features and its mirror image's; each image by itself,
    so that prediction stays inductive.

    Use it when there are several support images per class: the regression uses the spread of the images,
    which a mean discards.

    It costs the pretraining, one forward and backward pass per image, which it shares with the other
    transfer methods (with `distillation` half of it is its own, and takes a forward pass of the teacher
    too); and in each episode a convex fit on features that are computed once. With `mirror`, each image of
    the test is embedded twice.
    """

    family = "transfer"
    paper = "Tian et al. 2020, Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need?"
    trains_on = "pretraining"
    test_only = ("mirror", "normalise", "c")
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32"},
        "paper": {
            "backbone": "resnet12",
            "steps": 108000,
            "images": 64,
            "head": "linear",
            "distillation": 0.5,
            "schedule": "rfs",
            "learning_rate": 0.05,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps of the classifier, one batch each; the student's included
        images: int = 128  # images in a batch
        head: Literal["linear", "cosine"] = "cosine"  # classifier of the base classes
        scale: float = 16.0  # what head=cosine multiplies cosines by
        distillation: float = 0.0  # weight of the teacher's answers against the labels'; 0: none
        mirror: bool = False  # at test time, average the features of an image and its mirror image
        normalise: bool = True  # divide features by their length
        c: float = 1.0  # inverse strength of the regression's penalty, scikit-learn's C
        schedule: Literal["one_cycle", "rfs", "constant"] = "one_cycle"  # rfs: as in the paper
        learning_rate: float = 0.1  # peak learning rate of SGD with Nesterov momentum 0.9
        weight_decay: float = 5e-4  # on matrices and filters

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if hp.c == 0:
            raise ValueError("c must be above 0: at 0 the penalty is infinite")
        if hp.distillation:
            self.head = classifier(hp.head, backbone.dim, num_classes, hp.scale)

    @property
    def training_steps(self) -> int:
        """Those of the student."""
        return self.hp.steps - self.teacher_steps if self.hp.distillation else 0

    @property
    def pretraining(self) -> Pretraining:
        """The classifier that answers, or the teacher."""
        return replace(super().pretraining, steps=self.hp.steps - self.training_steps)

    def batches(self) -> Shuffled:
        """Images in random order, for the student."""
        return Shuffled(self.hp.images)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy over the base classes, shared with what the teacher says."""
        logits = self.head(self.backbone(batch.images))
        loss = F.cross_entropy(logits, batch.labels)
        return self.log_loss(self.taught(loss, logits, batch.images))

    def configure_optimizers(self) -> Any:
        """As for the teacher."""
        return configure_classifier(self.parameters(), replace(self.pretraining, steps=self.training_steps))

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, D]``, of length 1 with `normalise`."""
        features = mirror_averaged(self.backbone, images) if self.hp.mirror else self.backbone(images).float()
        return F.normalize(features, dim=1) if self.hp.normalise else features

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits of the regression fitted to each support set: ``[E, Q, way]``."""
        weight, bias = fit(support, self.hp.c)
        with full_precision(query):
            return query.float() @ weight.float().mT + bias.float()[:, None]

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the cosine."""
        return Cosine().rows(a, b)
