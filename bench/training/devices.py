"""One training on several devices: each process embeds its part of every batch, and all know all features.

A loss may need the whole batch, as those of triplets and episodes do. So the processes share the backbone's
work instead of the batch: within `shared_forward`, each takes a part of the images through the backbone, with
batch norm over the images of all, and receives the features of the others. Every process then computes the
same loss. DDP averages the gradients, which are those of one process with the same batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from methods.method import Method


def is_first() -> bool:
    """Whether this process is the only one of its training, or the first of several."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def can_share(method: Method) -> bool:
    """Whether steps and validation are plain forwards of the backbone, and its batch norm is PyTorch's own."""
    norms = [module for module in method.backbone.modules() if isinstance(module, _BatchNorm)]
    plain = all(type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d) for norm in norms)
    return plain and method.fuses and method.automatic_optimization and method.fixed_embedding


@contextmanager
def shared_forward(backbone: nn.Module) -> Iterator[None]:
    """Within this, the processes of a distributed training share the backbone's forward passes."""
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    changed: list[Any] = [backbone, *norms]
    plain = backbone.forward
    backbone.forward = partial(_share, plain)  # type: ignore[method-assign]
    for norm in norms:
        norm.forward = partial(_norm, norm, norm.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _share(forward: Any, images: Tensor) -> Tensor:
    """Features of all images, of which this process has computed a part."""
    if not dist.is_initialized():  # before and after the distributed training
        return forward(images)
    from torch.distributed.nn.functional import all_gather

    parts = images.tensor_split(dist.get_world_size())
    if not len(parts[-1]):  # fewer images than processes
        raise RuntimeError(f"a batch of {len(images)} images cannot be shared by {len(parts)} devices")
    own = forward(parts[dist.get_rank()])
    padding = own.new_zeros(len(parts[0]) - len(own), *own.shape[1:])  # gathered tensors have one size
    gathered = all_gather(torch.cat([own, padding]).contiguous())
    return torch.cat([features[: len(part)] for features, part in zip(gathered, parts, strict=True)])


def _norm(norm: Any, forward: Any, x: Tensor) -> Tensor:
    """Batch norm over the images of all processes: PyTorch's own `SyncBatchNorm` needs a GPU."""
    if not (norm.training and dist.is_initialized()):
        return forward(x)
    from torch.distributed.nn.functional import all_reduce

    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
    dist.all_reduce(count)
    wide = x.float()
    mean = all_reduce(wide.sum(axes)) / count
    centred = wide - mean.reshape(shape)
    variance = all_reduce(centred.square().sum(axes)) / count
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scaled = centred * (variance + norm.eps).rsqrt().reshape(shape)
    return (scaled * norm.weight.reshape(shape) + norm.bias.reshape(shape)).to(x)
