"""The outer loop of meta-learning, for methods whose step does not follow from one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.method import Method


class OuterLoop(Method):
    """Base of methods that take the optimizer's step themselves: Lightning's manual optimization.

    So the gradient can be added up task by task, each task's graph freed before the next is built, or weights
    can move with no gradient at all.
    """

    automatic_optimization: ClassVar[bool] = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step of the outer loop, and of the learning-rate schedule."""
        loss = self.outer_step(batch, self.optimizers())
        if schedule := self.lr_schedulers():
            schedule.step()  # type: ignore[union-attr]
        return self.log_loss(loss)

    def outer_step(self, batch: Any, optimizer: Any) -> Tensor:
        """Learn the tasks of a batch, and take one step of the optimizer; returns the mean loss."""
        raise NotImplementedError


class TowardsLearned(torch.optim.Optimizer):
    """Reptile's outer loop: weights go a share of the way to what tasks made of them.

    Nichol et al. 2018, algorithm 2. It uses no gradients.

    Args:
        tensors: what moves: weights, and running statistics too if the tasks change them.
        rate: the share of the way, epsilon.
    """

    def __init__(self, tensors: Iterable[Tensor], rate: float) -> None:
        super().__init__(tensors, {"lr": rate})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Any] | None = None, *, learned: Sequence[Mapping[Tensor, Tensor]]
    ) -> None:
        """Take one step.

        Args:
            closure: called first, as by every optimizer.
            learned: for each task, tensor that moves -> what the task made of it.
        """
        if closure:
            closure()
        for group in self.param_groups:
            for phi in group["params"]:
                w = torch.stack([task[phi] for task in learned]).mean(0)
                phi.add_(w - phi, alpha=group["lr"])  # phi <- phi + epsilon (W - phi)
