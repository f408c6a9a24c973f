"""Logistic regression on the features of a classifier: RFS."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from methods.classification import classifier, configure_pretraining
from methods.distances import Cosine, full_precision
from methods.logistic_regression import fit
from methods.method import BatchSpec, LabelledBatch, Method, Shuffled, Stages, mirror_averaged

TENTH_AT = (45 / 90, 60 / 90, 75 / 90)  # of the paper's epochs
TEMPERATURE = 4.0  # of both networks' answers where one learns from the other, as in the paper's code


class LogisticHead(Method):
    """RFS: learn to classify the base classes; in an episode, fit a logistic regression to the features.

    The features are divided by their length. The regression is multinomial, with an L2 penalty, and fitted
    to convergence, so that it gives scikit-learn's answers (section 3.2).

    `distillation` trains two generations in the same number of steps: a teacher in the first half, and
    in the second a student, from the teacher's own initial weights, that also matches the teacher's
    answers (a born-again network; section 3.3, eq. 5). The teacher's weights are not kept.

    `mirror` represents an image by the mean of its features and its mirror image's; each image by itself,
    so that prediction stays inductive.

    Use it when there are several support images of a class: the regression uses how they spread, of which
    a mean keeps nothing.

    It costs a classifier's training, one forward and backward pass an image, with `distillation` and a
    forward pass of the teacher for half of them; and in each episode a convex fit on features that are
    computed once. With `mirror`, each image of the test is embedded twice.
    """

    family = "transfer"
    paper = "Tian et al. 2020, Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need?"
    trains_on = "shuffled"
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32},
        "quick": {"backbone": "conv4", "steps": 3000},
        "standard": {"backbone": "resnet12-32"},
        "paper": {
            "backbone": "resnet12",
            "steps": 108000,
            "images": 64,
            "head": "linear",
            "distillation": 0.5,
            "schedule": "tenths",
            "learning_rate": 0.05,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps, one batch each
        images: int = 128  # images in a batch
        head: Literal["linear", "cosine"] = "cosine"  # classifier of the base classes
        scale: float = 16.0  # what head=cosine multiplies cosines by
        distillation: float = 0.0  # weight of the teacher's answers against the labels'; 0: none
        mirror: bool = False  # at the test, average the features of an image and its mirror image
        normalise: bool = True  # divide features by their length
        c: float = 1.0  # inverse strength of the regression's penalty, scikit-learn's C
        schedule: Literal["one_cycle", "tenths", "constant"] = "one_cycle"  # tenths: at 1/2, 2/3, 5/6
        learning_rate: float = 0.1  # peak learning rate of SGD with Nesterov momentum 0.9
        weight_decay: float = 5e-4  # on matrices and filters

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if hp.c == 0:
            raise ValueError("c must be above 0: at 0 the penalty is infinite")
        if hp.distillation > 1:
            raise ValueError("distillation must be at most 1: it shares the loss with the labels")
        if hp.distillation and hp.steps < 2:
            raise ValueError("distillation needs at least 2 steps: it trains two networks")
        self.head = classifier(hp.head, backbone.dim, num_classes, hp.scale)
        self.teacher_steps = hp.steps // 2
        # Both in lists, unseen by torch: they are neither trained nor part of the method's weights.
        self.initial = [copy.deepcopy(self.network.state_dict())] if hp.distillation else []
        self.teacher: list[nn.Module] = []

    @property
    def network(self) -> nn.Module:
        """Images ``[N, 3, H, W]`` -> logits of the base classes ``[N, B]``."""
        return nn.Sequential(self.backbone, self.head)

    def batches(self) -> BatchSpec:
        """Images in random order, first for the teacher if there is one."""
        images = Shuffled(self.hp.images)
        return Stages(images, self.teacher_steps, images) if self.hp.distillation else images

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy over the base classes, shared with what the teacher says if there is one."""
        if self.hp.distillation and self.global_step == self.teacher_steps:
            self.start_student()
        logits = self.network(batch.images)
        loss = F.cross_entropy(logits, batch.labels)
        if self.teacher:
            with torch.no_grad():
                known = self.teacher[0](batch.images)
            weight = self.hp.distillation
            loss = (1 - weight) * loss + weight * distillation_loss(logits, known)
        return self.log_loss(loss)

    def start_student(self) -> None:
        """The network trained so far becomes the teacher, and training starts again."""
        self.teacher = [copy.deepcopy(self.network).eval().requires_grad_(False)]
        self.network.load_state_dict(self.initial[0])
        if self._trainer is not None:
            self._trainer.optimizers[0].state.clear()  # momentum of the teacher's training

    def on_fit_start(self) -> None:
        """A teacher from a checkpoint follows the method to its device."""
        for teacher in self.teacher:
            teacher.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the teacher to a training that goes on from here."""
        checkpoint["teacher"] = [teacher.state_dict() for teacher in self.teacher]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the teacher up again."""
        for state in checkpoint["teacher"]:
            self.teacher = [copy.deepcopy(self.network).eval().requires_grad_(False)]
            self.teacher[0].load_state_dict(state)

    def configure_optimizers(self) -> Any:
        """SGD, over one schedule for each generation; the paper's has tenths at epochs 45, 60, 75 of 90."""
        hp = self.hp
        peak = hp.learning_rate, hp.weight_decay
        if not hp.distillation:
            return configure_pretraining(self.parameters(), hp.steps, hp.schedule, *peak, TENTH_AT)
        shares, since = _shares_of_the_peak(hp.steps - self.teacher_steps, hp.schedule), self.teacher_steps
        optimizer = configure_pretraining(self.parameters(), hp.steps, "constant", *peak, ())["optimizer"]
        scheduler = LambdaLR(optimizer, lambda step: shares[step if step < since else step - since])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

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


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened answers, times T^2 (Hinton et al. 2015, section 2.1).

    Args:
        student: logits ``[N, B]``. teacher: logits ``[N, B]``.
    """
    answers, wanted = (F.log_softmax(logits / TEMPERATURE, dim=1) for logits in (student, teacher))
    return TEMPERATURE**2 * F.kl_div(answers, wanted, log_target=True, reduction="batchmean")


def _shares_of_the_peak(steps: int, schedule: Literal["one_cycle", "tenths", "constant"]) -> list[float]:
    """Learning rate before each of `steps` steps, and after the last, over the peak's."""
    made = configure_pretraining([nn.Parameter(torch.zeros(1))], steps, schedule, 1.0, 0.0, TENTH_AT)
    shares = []
    for _ in range(steps + 1):
        shares.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        if "lr_scheduler" in made and len(shares) <= steps:
            made["lr_scheduler"]["scheduler"].step()
    return shares
