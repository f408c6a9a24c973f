"""The optimizer and schedule that the embedding methods share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def one_cycle_sgd(
    parameters: Iterable[nn.Parameter], steps: int, learning_rate: float, weight_decay: float
) -> dict[str, Any]:
    """SGD with Nesterov momentum 0.9 under the one-cycle schedule (Smith and Topin 2018), per step.

    Matrices and filters decay; biases and batch-norm scales do not.
    """
    parameters = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=max(steps, 2), pct_start=0.2, cycle_momentum=False
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
