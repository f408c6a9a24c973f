"""One training on several devices: each process embeds its part of every batch and receives all features.

A loss may need the whole batch, as those of triplets and episodes do. So the processes share the backbone's
work instead of the batch: within `shared_forward`, each takes a part of the images through the backbone, with
batch norm over the images of all, and receives the features of the others. Every process then computes the
same loss, and DDP's average of the gradients is the gradient of one process with the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from methods.method import Method

Forward = Callable[[Tensor], Tensor]


def obstacle(method: Method) -> str:
    """What trains on one device only; the empty string if the training can be shared.

    Steps and validation must be plain forwards of the backbone, and its batch norm PyTorch's own.
    """
    if not (method.fuses and method.automatic_optimization and method.fixed_embedding):
        return "the method"
    norms = [module for module in method.backbone.modules() if isinstance(module, _BatchNorm)]
    usual = (norm.affine and norm.track_running_stats and norm.momentum is not None for norm in norms)
    if all(usual) and all(type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d) for norm in norms):
        return ""
    return "the batch norm of the backbone"


@contextmanager
def shared_forward(backbone: nn.Module) -> Iterator[None]:
    """Within this, the processes of a distributed training share the backbone's forward passes."""
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    changed: list[Any] = [backbone, *norms]
    backbone.forward = partial(_share, backbone.forward)
    for norm in norms:
        norm.forward = partial(_norm, norm, norm.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _share(forward: Forward, images: Tensor) -> Tensor:
    """Features of all images, of which this process has computed a part."""
    # The group does not exist before the distributed training. The last few images of a validation need no
    # sharing; the gradients and statistics of equal batches are those of one.
    if not dist.is_initialized() or len(images) < dist.get_world_size():
        return forward(images)
    parts = images.tensor_split(dist.get_world_size())
    own = forward(parts[dist.get_rank()])
    padding = own.new_zeros(len(parts[0]) - len(own), *own.shape[1:])  # gathered tensors have one size
    gathered = _Gather.apply(torch.cat([own, padding]))
    return torch.cat([features[: len(part)] for features, part in zip(gathered, parts, strict=True)])


def _norm(norm: Any, forward: Forward, x: Tensor) -> Tensor:
    """Batch norm over the images of all processes: PyTorch's own `SyncBatchNorm` needs a GPU."""
    if not (norm.training and dist.is_initialized()):
        return forward(x)
    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    wide = x.float()
    count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
    total = _Sum.apply(torch.cat([wide.sum(axes), count]))
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = wide - mean.reshape(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scaled = centred * (variance + norm.eps).rsqrt().reshape(shape)
    return (scaled * norm.weight.reshape(shape) + norm.bias.reshape(shape)).to(x)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """The tensors ``[N, ...]`` of all processes: ``[processes, N, ...]``.

    All processes compute the same loss, so the sum of its gradients is a multiple of any of them.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        gathered = own.new_empty(dist.get_world_size(), *own.shape)
        dist.all_gather(list(gathered), own.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[dist.get_rank()] * dist.get_world_size()
