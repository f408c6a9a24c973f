"""Learning from a teacher: the classifier of the base classes, which a second network then imitates."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Method
from methods.pretraining import PretrainedClassifier

TEMPERATURE = 4.0  # of both networks' answers, as in the code of Tian et al. 2020


class Distillation(Method):
    """Base of the methods that may train two generations, a teacher and a student, in their number of steps.

    With `distillation` above 0, the pretraining of the first half is the teacher, and in the second half a
    student, from random weights, also matches the teacher's answers (a born-again network; Tian et al. 2020,
    section 3.3, eq. 5). Subclasses' hyperparameters have `steps` and `distillation`.
    """

    def __init__(self, backbone: nn.Module, hp: Any, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if hp.distillation > 1:
            raise ValueError("distillation must be at most 1: it shares the loss with the labels")
        if hp.distillation and hp.steps < 2:
            raise ValueError("distillation needs at least 2 steps: it trains two networks")
        self.teacher: list[nn.Module] = []  # unseen by torch: it is not trained, and no part of the weights

    @property
    def teacher_steps(self) -> int:
        """Steps of the teacher."""
        return self.hp.steps // 2 if self.hp.distillation else 0

    @property
    def starts_trained(self) -> bool:
        """Not a student."""
        return super().starts_trained and not self.hp.distillation

    def start_from(self, pretrained: PretrainedClassifier) -> None:
        """Answer with the classifier, or learn from it."""
        if not self.hp.distillation:
            return super().start_from(pretrained)
        teacher = nn.Sequential(pretrained.backbone, pretrained.head)
        self.teacher = [copy.deepcopy(teacher).eval().requires_grad_(False)]

    def on_fit_start(self) -> None:
        """The teacher follows the method to its device."""
        for teacher in self.teacher:
            teacher.to(self.device)

    def taught(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """The loss on labels, shared with what the teacher says of the images if there is one.

        Args:
            loss: on the labels. logits: the student's, ``[N, B]``. images: ``[N, 3, H, W]``.
        """
        if not self.teacher:
            return loss
        with torch.no_grad():
            known = self.teacher[0](images)
        weight = self.hp.distillation
        return (1 - weight) * loss + weight * distillation_loss(logits, known)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened answers, times T^2 (Hinton et al. 2015, section 2.1).

    Args:
        student: logits ``[N, B]``. teacher: logits ``[N, B]``.
    """
    answers, wanted = (F.log_softmax(logits / TEMPERATURE, dim=1) for logits in (student, teacher))
    return TEMPERATURE**2 * F.kl_div(answers, wanted, log_target=True, reduction="batchmean")
