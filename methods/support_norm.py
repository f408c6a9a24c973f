"""Batch norm where a network learns from a support set: whose statistics normalise which images.

An answer must not depend on the other queries. So the support set is normalised by its own statistics, and
a query by those that the support set has in the adapted network, layer by layer: MetaBN of Bronskill et
al. 2020, TaskNorm: Rethinking Batch Normalization for Meta-Learning, section 3.2. Gradients flow through
the statistics. The backbone stays as it is: these are contexts that its calls of batch norm run in, timm's
included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

BatchNorm = Literal["support", "running", "transductive"]
Statistics = list[tuple[Tensor, Tensor]]  # mean and variance ``[channels]`` of each layer, in order
Running = tuple[Tensor | None, Tensor | None]  # a layer's running mean and variance
ONE_BY_ONE = {"cpu"}  # devices on which it is faster to learn one task after another


def one_by_one(device: torch.device) -> bool:
    """Whether tasks are learned one after another there, instead of all at once by `torch.func.vmap`.

    Where not, batch norm is written in elementary steps: under `vmap`, torch's own fails for channels-last
    images on a GPU, and its second derivative is off by some ten-thousandths.
    """
    return device.type in ONE_BY_ONE


def support_norm(kind: BatchNorm) -> AbstractContextManager:
    """What support images go through the network in: their own statistics, or the running ones."""
    return RunningStatistics() if kind == "running" else OwnStatistics()


def support_statistics(kind: BatchNorm, forward: Callable[[], object]) -> Statistics:
    """What `query_norm` needs to know of the support set; `forward` sends it through the adapted network."""
    if kind != "support":
        return []
    with TakenStatistics() as taken:
        forward()
    return taken.layers


def query_norm(kind: BatchNorm, layers: Statistics) -> AbstractContextManager:
    """What queries go through the network in, for one forward: statistics of the support set, or others.

    Args:
        kind: `support` statistics, `running` ones, or the queries' own (`transductive`).
        layers: of `support_statistics`.
    """
    return GivenStatistics(layers) if kind == "support" else support_norm(kind)


class _EveryBatchNorm(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        return self.normalise(input, (running_mean, running_var), weight, bias, eps)

    def normalise(
        self, images: Tensor, running: Running, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Batch norm of one layer's ``[N, channels, ...]``; the subclass knows whose statistics."""
        raise NotImplementedError


class RunningStatistics(_EveryBatchNorm):
    """As without a context in evaluation mode, but under `torch.func.vmap` too."""

    def normalise(
        self, images: Tensor, running: Running, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """By the layer's running statistics, if it has any."""
        mean, variance = running
        if one_by_one(images.device) or mean is None or variance is None:
            return F.batch_norm(images, mean, variance, weight, bias, training=mean is None, eps=eps)
        return normalised(images, mean, variance, weight, bias, eps)


class OwnStatistics(_EveryBatchNorm):
    """Each batch is normalised by its own statistics; running ones are neither used nor moved."""

    def normalise(
        self, images: Tensor, running: Running, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """As torch does in training."""
        if one_by_one(images.device):
            return F.batch_norm(images, None, None, weight, bias, training=True, eps=eps)
        return normalised(images, *statistics(images), weight, bias, eps)


class TakenStatistics(OwnStatistics):
    """As `OwnStatistics`, and keeps those of one forward in `layers`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Statistics = []

    def normalise(
        self, images: Tensor, running: Running, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Take the layer's statistics too."""
        self.layers.append(found := statistics(images))
        if one_by_one(images.device):
            return super().normalise(images, running, weight, bias, eps)
        return normalised(images, *found, weight, bias, eps)


class GivenStatistics(_EveryBatchNorm):
    """One forward is normalised by the statistics of an earlier one.

    Args:
        layers: as `TakenStatistics` left them, of the same network.
    """

    def __init__(self, layers: Statistics) -> None:
        super().__init__()
        self.layers = iter(layers)

    def normalise(
        self, images: Tensor, running: Running, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Use the next layer's statistics."""
        return normalised(images, *next(self.layers), weight, bias, eps)


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance ``[channels]`` of ``[N, channels, ...]``, in float32 at least."""
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=[0, *range(2, images.ndim)], correction=0)
    return mean, variance


def normalised(
    images: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, differentiable by all but eps."""
    # torch gives no gradient for given statistics, but for weight and bias: they go in there.
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    shift = -mean * scale if bias is None else bias - mean * scale
    if one_by_one(images.device):
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        # Not `F.batch_norm`, which in some versions refuses an epsilon of 0.
        return torch.batch_norm(images, scale, shift, zero, one, False, 0.0, 0.0, False)
    shape = [-1, *[1] * (images.ndim - 2)]
    return (images * scale.reshape(shape) + shift.reshape(shape)).to(images.dtype)
