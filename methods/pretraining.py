"""What a method may start from: a classifier of the base classes, which the harness trains once for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # torch takes a second to import, and `list methods` needs only the share
    from torch import Tensor, nn

PRETRAINED_SHARE = 0.75
"""Share of the images of a training with `init=pretrained` that the pretraining sees."""

PretrainingSchedule = Literal["one_cycle", "simpleshot", "rfs", "mtl", "constant"]


@dataclass(frozen=True)
class Pretraining:
    """Ask to start from a classifier of the base classes (`methods.base_classifier`).

    The harness trains it once for all runs that ask for the same on the same data, split and image size, with
    the same seed, backbone, starting weights and precision.

    Attributes:
        steps: of its training, one batch each. images: in a batch.
        head, scale: of the classifier; `scale` multiplies the cosines of a cosine head.
        schedule: of the learning rate, whose peak is `learning_rate` (see `configure_classifier`).
        weight_decay: of matrices and filters.
        pretrained, small_stem: see `base_classifier.prepare_backbone`.
    """

    steps: int
    images: int = 128
    head: Literal["linear", "cosine"] = "cosine"
    scale: float = 16.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: PretrainingSchedule = "one_cycle"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    pretrained: bool = False
    small_stem: bool = False


class PretrainedClassifier(Protocol):
    """The trained classifier (`methods.base_classifier`).

    Attributes:
        backbone: maps images ``[N, 3, H, W]`` to features ``[N, D]``.
        mean: of the features of all base training images, ``[D]``.
    """

    backbone: nn.Module
    mean: Tensor

    @property
    def head(self) -> nn.Module:
        """Maps features to logits."""
