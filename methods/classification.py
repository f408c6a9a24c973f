"""Classifiers of the base classes, and how they are trained.

The heads map features ``[N, D]`` to logits ``[N, classes]``, in float32 inside autocast too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR

from methods.distances import Cosine, full_precision
from methods.optimizers import configure
from methods.pretraining import Pretraining

Head = Literal["linear", "cosine"]


class LinearHead(nn.Linear):
    """Logits ``W f + b``: the classifier of Chen et al. 2019's Baseline.

    Args:
        dim: number of features D.
        classes: number of classes.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__(dim, classes)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` -> ``[N, classes]``, float32."""
        with full_precision(features):
            return super().forward(features.float())


class CosineHead(nn.Module):
    """Logits ``scale * cos(W_c, f)``: no bias, and neither lengths of weights nor of features count.

    Sources: Gidaris and Komodakis 2018, eq. 4; Qi et al. 2018, eq. 5; Chen et al. 2019's Baseline++.

    Args:
        dim: number of features D.
        classes: number of classes.
        scale: what cosines are multiplied by; they span too small a range for a softmax without it.
        learn_scale: whether the scale is a parameter, which starts there.

    Attributes:
        weight: ``[classes, D]``, one direction per class; drawn uniformly over directions.
        scale: a scalar tensor.
    """

    scale: Tensor

    def __init__(self, dim: int, classes: int, scale: float, learn_scale: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, dim), dim=1))
        self.cosine = Cosine()
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))
        else:
            self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` -> ``[N, classes]``, float32, in [-scale, scale]."""
        return self.scale * self.cosine.matrix(features, self.weight)


def classifier(head: Head, dim: int, classes: int, scale: float) -> LinearHead | CosineHead:
    """The head of that name; `scale` is the cosine's, and fixed."""
    return LinearHead(dim, classes) if head == "linear" else CosineHead(dim, classes, scale)


DROPS: dict[str, tuple[float, tuple[float, ...]]] = {
    "simpleshot": (0.1, (45 / 90, 66 / 90)),
    "rfs": (0.1, (45 / 90, 60 / 90, 75 / 90)),
    "mtl": (0.2, (0.3, 0.6, 0.9)),
}
"""Schedules of papers: what the learning rate is multiplied by, and after which shares of the training."""


def configure_classifier(parameters: Iterable[nn.Parameter], hp: Pretraining) -> dict[str, Any]:
    """What `configure_optimizers` returns: as `optimizers.configure`, and the schedules of `DROPS`.

    SimpleShot's and RFS's learning rates fall to a tenth at epochs 45 and 66, and 45, 60 and 75, of 90; MTL's
    to a fifth every 30 epochs.
    """
    if hp.schedule == "one_cycle" or hp.schedule == "constant":
        return configure(parameters, hp.steps, hp.optimizer, hp.schedule, hp.learning_rate, hp.weight_decay)
    made = configure(parameters, hp.steps, hp.optimizer, "constant", hp.learning_rate, hp.weight_decay)
    factor, shares = DROPS[hp.schedule]
    scheduler = MultiStepLR(made["optimizer"], [round(hp.steps * share) for share in shares], gamma=factor)
    return made | {"lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
