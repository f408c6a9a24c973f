"""A classifier with rotations and mixup, and averaged views at test time: EASY."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from methods.base_classifier import MOMENTUM
from methods.batches import LabelledBatch, Shuffled
from methods.class_means import ClassMeans
from methods.classification import classifier
from methods.distances import Cosine
from methods.distillation import Distillation
from methods.optimizers import Schedule, configure
from methods.pretraining import Pretraining

CYCLES, CYCLE_DECAY = 5, 0.9  # of schedule=cycles, as in the paper's code
TURNS = 4  # by 0, 90, 180 and 270 degrees
OFFSETS = {
    1: [(0, 0)],
    5: [(0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)],
    9: [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)],
}


class Easy(ClassMeans, Distillation):
    """EASY: a strong classifier of the base classes, many views of each image, class means.

    The images of half of each batch are mixed in pairs, and so are their labels (`mixup`). The other half is
    rotated by 0, 90, 180 or 270 degrees, and a second head predicts the rotation (`rotations`); the loss of
    these images is the mean of both heads'. Without one of the two, its half of the batch stays plain. With
    `distillation`, a plain classifier is trained in the first half of the steps and teaches the second (see
    `logistic_head`).

    At test time, an image is embedded as the mean over `crops` shifted crops and, with `mirror`, their mirror
    images. The mean feature of the training images is subtracted (`centre`), the features are divided by
    their length, and a query takes the class with the nearest mean. Each image is embedded by itself, so the
    method is inductive.

    These differ from the paper's code: images are mixed as pixels, not inside the network; mixing and
    rotating take half of a batch each, not all of it, so that a step costs as much as a plain one; crops are
    shifted, not 30 random resized ones; the mean feature is that of the last training batches, as they were
    cropped and flipped; and it is one network, not an ensemble.

    Use it when accuracy counts more than time: with a long training, and many views of each test image.

    It costs one forward and backward pass per image. At test time, each image is embedded `crops` times,
    twice as often with `mirror`; validation in training embeds it once.
    """

    family = "transfer"
    paper = "Bendou et al. 2022, EASY: Ensemble Augmented-Shot Y-shaped Learning"
    trains_on = "shuffled"
    test_only = ("crops", "mirror", "centre")
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32, "crops": 1},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32"},
        # 500 epochs of 38,400 images, the base classes of CIFAR-FS.
        "paper": {"backbone": "resnet12", "steps": 150000, "schedule": "cycles"},
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps, one batch each; the teacher's included
        images: int = 128  # images in a batch
        head: Literal["linear", "cosine"] = "linear"  # classifier of the base classes
        scale: float = 16.0  # what head=cosine multiplies cosines by
        rotations: bool = True  # turn images, and learn by how much
        mixup: float = 2.0  # both parameters of the beta distribution of the shares; 0: images are not mixed
        distillation: float = 0.0  # weight of the teacher's answers against the labels'; 0: none
        crops: Literal[1, 5, 9] = 9  # number of shifted crops of an image to average over at test time
        mirror: bool = True  # at test time, average over mirror images too
        centre: bool = True  # subtract the mean feature of the training images
        schedule: Literal["one_cycle", "cycles", "constant"] = "one_cycle"  # cycles: 5 cosine cycles
        learning_rate: float = 0.1  # peak learning rate of SGD with Nesterov momentum 0.9
        weight_decay: float = 5e-4  # on matrices and filters

    mean: Tensor

    def __init__(self, backbone: nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if hp.rotations and hp.images < 2 * TURNS:
            raise ValueError(
                f"images must be at least {2 * TURNS} with rotations: they are turned {TURNS} ways"
            )
        dim: Any = backbone.dim
        self.distance = Cosine()
        self.head = classifier(hp.head, dim, num_classes, hp.scale)
        self.turn_head = nn.Linear(dim, TURNS) if hp.rotations else None
        self.register_buffer("mean", torch.zeros(dim))
        self.fitting = False

    @property
    def training_steps(self) -> int:
        """Those of the student, if there is a teacher."""
        return self.hp.steps - self.teacher_steps

    @property
    def pretraining(self) -> Pretraining | None:
        """The teacher."""
        return Pretraining(self.teacher_steps, self.hp.images) if self.teacher_steps else None

    def batches(self) -> Shuffled:
        """Images in random order."""
        return Shuffled(self.hp.images)

    def on_fit_start(self) -> None:
        """From here on validation embeds one view: all views would take as long as the training."""
        super().on_fit_start()
        self.fitting = True

    def on_fit_end(self) -> None:
        """From here on images are embedded as at test time."""
        self.fitting = False

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of classes over mixed and rotated images, plus that of the rotations."""
        count, labels = len(batch.images), batch.labels
        half = count // 2
        mixed = half if self.hp.mixup else 0
        blended, partner, share = self._mix(batch.images[:mixed], labels[:mixed])
        rest, turns = self._turn(batch.images[half:])
        images = torch.cat([blended, batch.images[mixed:half], rest])
        features = self.backbone(images).float()
        upright = torch.cat([features[mixed:half], features[half:][turns == 0]])
        self.mean.lerp_(upright.detach().mean(0), MOMENTUM)
        logits = self.head(features)
        losses = F.cross_entropy(logits, labels, reduction="none")
        others = F.cross_entropy(logits[:mixed], partner, reduction="none")
        losses[:mixed] = share * losses[:mixed] + (1 - share) * others
        if self.turn_head is not None:
            turned = F.cross_entropy(self.turn_head(features[half:]), turns, reduction="none")
            losses[half:] = (losses[half:] + turned) / 2
        loss = losses.mean()
        return self.log_loss(self.taught(loss, logits, images))

    def _mix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, float]:
        """Each image with another one, the labels of the others, and the share of the images themselves."""
        if not len(images):
            return images, labels, 1.0
        share = float(torch.distributions.Beta(self.hp.mixup, self.hp.mixup).sample())
        return images.lerp(images.roll(1, 0), 1 - share), labels.roll(1), share  # batches are shuffled

    def _turn(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Quarters of the images rotated by 0, 90, 180 and 270 degrees, and by how many right angles."""
        parts = images.tensor_split(TURNS if self.hp.rotations else 1)
        turned = [part.rot90(k, (-2, -1)) for k, part in enumerate(parts)]
        turns = [torch.full((len(part),), k, device=images.device) for k, part in enumerate(parts)]
        return torch.cat(turned), torch.cat(turns)

    def configure_optimizers(self) -> Any:
        """SGD with Nesterov momentum 0.9."""
        hp, steps = self.hp, self.training_steps
        schedule: Schedule = "constant" if hp.schedule == "cycles" else hp.schedule
        made = configure(self.parameters(), steps, "sgd", schedule, hp.learning_rate, hp.weight_decay)
        if hp.schedule != "cycles":
            return made
        scheduler = LambdaLR(made["optimizer"], lambda step: cyclic(step, steps))
        return made | {"lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def embed(self, images: Tensor) -> Tensor:
        """Mean over the views, ``[N, 3, H, W]`` -> ``[N, D]``, less the mean feature, of length 1."""
        views = [images] if self.fitting else self.views(images)
        features = torch.stack([self.backbone(view).float() for view in views]).mean(0)
        return F.normalize(features - self.mean if self.hp.centre else features, dim=1)

    def views(self, images: Tensor) -> list[Tensor]:
        """Crops shifted by a sixteenth of the size, edges repeated; with `mirror`, mirror images too."""
        height, width = images.shape[-2:]
        by = max(1, height // 16)
        padded = F.pad(images, (by, by, by, by), mode="replicate")
        shifts = [(by * (1 + y), by * (1 + x)) for y, x in OFFSETS[self.hp.crops]]
        crops = [padded[..., top : top + height, left : left + width] for top, left in shifts]
        return crops + [crop.flip(-1) for crop in crops] if self.hp.mirror else crops


def cyclic(step: int, steps: int) -> float:
    """Factor of the learning rate: five cosine cycles from a peak to 0, each peak 0.9 times the last."""
    cycle, place = divmod(min(step, steps - 1) * CYCLES / steps, 1)
    return CYCLE_DECAY**cycle * (1 + math.cos(math.pi * place)) / 2
