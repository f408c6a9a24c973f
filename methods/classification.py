"""What methods need that pretrain their backbone as a classifier of the base classes, with cross-entropy.

The classifiers map features ``[N, D]`` to logits ``[N, classes]``, in float32 inside autocast too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR

from methods.distances import Cosine, full_precision
from methods.optimizers import configure

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
        weight: ``[classes, D]``, one direction a class; drawn uniformly over directions.
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


def configure_pretraining(
    parameters: Iterable[nn.Parameter],
    steps: int,
    schedule: Literal["one_cycle", "tenths", "constant"],
    learning_rate: float,
    weight_decay: float,
    tenth_at: Sequence[float],
) -> dict[str, Any]:
    """What `configure_optimizers` returns: SGD with Nesterov momentum 0.9, stepped each batch.

    Args:
        parameters: see `optimizers.configure`.
        steps: of the whole training.
        schedule: `tenths` divides the learning rate by 10 at some points; others as in `configure`.
        learning_rate: the peak.
        weight_decay: of matrices and filters.
        tenth_at: these points, as shares of the training.
    """
    if schedule != "tenths":
        return configure(parameters, steps, "sgd", schedule, learning_rate, weight_decay)
    made = configure(parameters, steps, "sgd", "constant", learning_rate, weight_decay)
    scheduler = MultiStepLR(made["optimizer"], [round(steps * share) for share in tenth_at], gamma=0.1)
    return made | {"lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
