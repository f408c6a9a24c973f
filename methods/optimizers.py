"""The optimizers and learning-rate schedules that methods share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, StepLR

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["one_cycle", "halving", "linear", "constant"]
HALVE_EVERY = 2000  # steps, as Snell et al. 2017 do


def configure(
    parameters: Iterable[nn.Parameter],
    steps: int,
    optimizer: Optimizer,
    schedule: Schedule,
    learning_rate: float,
    weight_decay: float,
) -> dict[str, Any]:
    """What `configure_optimizers` returns: SGD with Nesterov momentum 0.9, or Adam, stepped each batch.

    Args:
        parameters: those that need a gradient are trained; matrices and filters decay, biases and
            batch-norm scales do not.
        steps: of the whole training.
        optimizer: by name.
        schedule: `one_cycle` (Smith and Topin 2018), `halving` every 2,000 steps, `linear`
            down to 0, or `constant`.
        learning_rate: the peak.
        weight_decay: of the decaying parameters.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    made: torch.optim.Optimizer
    if optimizer == "adam":
        made = torch.optim.Adam(groups, lr=learning_rate)
    else:
        made = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    return scheduled(made, schedule, steps)


def scheduled(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int) -> dict[str, Any]:
    """What `configure_optimizers` returns: an optimizer, whose rate follows a schedule of `configure`."""
    if schedule == "constant":
        return {"optimizer": optimizer}
    scheduler: LRScheduler = StepLR(optimizer, step_size=HALVE_EVERY, gamma=0.5)
    if schedule == "linear":
        scheduler = LambdaLR(optimizer, lambda step: 1 - step / steps)
    if schedule == "one_cycle":
        peak, total = optimizer.defaults["lr"], max(steps, 2)
        rise = max(0.2, 1.5 / total)  # of a few steps: torch divides by the rising ones less one
        scheduler = OneCycleLR(optimizer, peak, total_steps=total, pct_start=rise, cycle_momentum=False)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def configure_as_set(method: Any) -> dict[str, Any]:
    """`configure` for all parameters of a method, as its hyperparameters of the same names say."""
    hp = method.hp
    return configure(
        method.parameters(),
        method.training_steps,
        hp.optimizer,
        hp.schedule,
        hp.learning_rate,
        hp.weight_decay,
    )
