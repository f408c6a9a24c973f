"""Multinomial logistic regression on the support sets of many episodes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.distances import full_precision

NEWTON_STEPS = 200
HALVINGS = 50
LEFT = 1e-4  # of the squared residual, where conjugate gradients stop
SMALLER = 1e-4  # share of the decrease foretold by the gradient that a step must bring (Armijo)


def fit(support: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Fit one classifier to each episode, as scikit-learn's `LogisticRegression(C=c)` fits one.

    Minimises ``c * sum of cross-entropies + |W|^2 / 2`` over weights W and unpenalised biases, as far as
    the arithmetic goes. The best weights are combinations of the n support images, so the search is in n
    dimensions: along the principal axes of the images.

    Args:
        support: ``[E, way, shot, D]`` embeddings.
        c: inverse strength of the penalty.

    Returns:
        Weights ``[E, way, D]`` and biases ``[E, way]``, float64 where the device has it.
    """
    way, shot = support.shape[1:3]
    with full_precision(support):
        images = support.to(torch.float32 if support.device.type == "mps" else torch.float64).flatten(1, 2)
        # Centring the images moves the biases only, and makes them nearly independent of the weights.
        mean = images.mean(1, keepdim=True)
        images = images - mean
        targets = torch.eye(way, dtype=images.dtype, device=images.device).repeat_interleave(shot, 0)
        problem = _Problem(images @ images.mT, targets, c)
        theta = problem.solve()
        weight = theta[:, :-1].mT @ (problem.axes.mT @ images)
        return weight, theta[:, -1] - (weight @ mean.mT)[..., 0]


class _Problem:
    """The search for ``theta``, ``[E, n + 1, way]``: weights along n axes, and biases.

    `axes` ``[E, n, n]`` makes the axes, in its columns, of the images: orthogonal directions of length 1.

    Args:
        kernel: ``[E, n, n]``, inner products of the n centred images.
        targets: ``[n, way]``, one-hot.
        c: inverse strength of the penalty.
    """

    def __init__(self, kernel: Tensor, targets: Tensor, c: float) -> None:
        variances, axes = torch.linalg.eigh(kernel)
        variances = variances.clamp(min=0)
        n, way = targets.shape
        ones = torch.ones_like(axes[..., :1])
        self.points = torch.cat([axes * variances.sqrt()[:, None], ones], dim=2)
        some = variances > variances.amax(1, keepdim=True) * n * torch.finfo(axes.dtype).eps
        self.axes = axes * torch.where(some, variances.rsqrt(), 0)[:, None]
        self.targets, self.c = targets, c
        self.penalty = torch.cat([torch.ones_like(targets[:, :1]), torch.zeros_like(targets[:1, :1])])
        # The inverse of the Hessian where all classes are equally likely: a diagonal.
        squares = torch.cat([variances[..., None], n * ones[:, :1]], dim=1)
        self.scale = 1 / (c / way * squares + self.penalty)

    def logits(self, theta: Tensor) -> Tensor:
        """Of the support images: ``[E, n, way]``."""
        return self.points @ theta

    def objective(self, theta: Tensor, logits: Tensor) -> Tensor:
        """What is minimised: ``[E]``."""
        entropies = -(logits.log_softmax(2) * self.targets).sum((1, 2))
        return self.c * entropies + (self.penalty * theta * theta).sum((1, 2)) / 2

    def solve(self) -> Tensor:
        """Newton's method; each step is halved until it brings what the gradient promises."""
        theta = torch.zeros_like(self.scale * self.targets[0])
        logits = self.logits(theta)
        value = self.objective(theta, logits)
        enough = self.c * self.points.abs().amax((1, 2)) * torch.finfo(theta.dtype).eps ** 0.65
        for _ in range(NEWTON_STEPS):
            p = logits.softmax(2)
            slope = self.c * self.points.mT @ (p - self.targets) + self.penalty * theta
            # An episode that has arrived stays there, however long the others take.
            slope = slope * (slope.abs().amax((1, 2)) > enough)[:, None, None]
            if not slope.any():
                break
            step = self.newton_step(p, slope)
            along = self.logits(step)
            promised = SMALLER * (slope * step).sum((1, 2)) + 1e-13 * value
            length = torch.ones_like(value)
            for _ in range(HALVINGS):
                moved = theta + length[:, None, None] * step, logits + length[:, None, None] * along
                found = self.objective(*moved)
                worse = found > value + length * promised
                if not worse.any():
                    break
                length = torch.where(worse, length / 2, length)
            (theta, logits), value = moved, found
        return theta

    def newton_step(self, p: Tensor, slope: Tensor) -> Tensor:
        """Solve ``Hessian step = -slope`` by preconditioned conjugate gradients."""
        step, residual = torch.zeros_like(slope), -slope
        direction = self.scale * residual
        size = first = (residual * direction).sum((1, 2), keepdim=True)
        for _ in range(slope[0].numel()):
            along = p * self.logits(direction)
            curved = self.c * self.points.mT @ (along - p * along.sum(2, keepdim=True))
            curved += self.penalty * direction
            curvature = (direction * curved).sum((1, 2), keepdim=True)
            going = (size > LEFT * first) & (curvature > 0)
            length = torch.where(going, size / curvature, 0)
            step = step + length * direction
            residual = residual - length * curved
            scaled = self.scale * residual
            before, size = size, (residual * scaled).sum((1, 2), keepdim=True)
            if not (size > LEFT * first).any():
                break
            direction = scaled + torch.where(going, size / before, 0) * direction
        return step
