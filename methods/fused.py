"""Batch norm, 2x2 max-pooling and activation as single operations, for training on the CPU.

A convolution's output is large, and each of the usual operations after it reads and writes all of it, forward
and backward. Here the gradients are written out, so that `torch.compile` makes one loop of each direction that
touches the large tensors as few times as possible: `norm_pool` reads its input three times forward and once
backward, and keeps nothing else of that size. Pooling comes before the activation, which is the same function
because the activation never decreases.

Statistics are taken in float32 (or float64), within each image and then over images, because an image's pixels
fit into a processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Tensors = tuple[Tensor, ...]
# Inductor would write what is read more often to memory instead of computing it within the loop.
OPTIONS: dict[str, Any] = {"realize_reads_threshold": 64}


@contextmanager
def fused_training(backbone: nn.Module) -> Iterator[None]:
    """Within this, blocks of the backbone that can train on the fused operations do so."""
    blocks = [block for block in backbone.modules() if hasattr(block, "fused")]
    for block in blocks:
        block.fused = True
    try:
        yield
    finally:
        for block in blocks:
            block.fused = False


def usable(block: nn.Module, *norms: nn.Module) -> bool:
    """Whether this forward of a block can run fused: it trains, with plain batch norm and plain gradients.

    `torch.func` would have to look into the operations, and without a gradient there is little to gain.
    """
    return (
        bool(block.fused)
        and torch.is_grad_enabled()
        and all(type(norm) is nn.BatchNorm2d and norm.training for norm in norms)
        and not torch._C._are_functorch_transforms_active()
    )


def norm_pool(norm: nn.BatchNorm2d, x: Tensor, slope: float) -> Tensor:
    """Batch norm, 2x2 max-pooling and leaky ReLU: ``[N, C, H, W]`` -> ``[N, C, H // 2, W // 2]``.

    Args:
        norm: in training mode; its running statistics move.
        x: images of a batch, any floating type.
        slope: of the leaky ReLU below 0; at least 0 (ReLU) and at most 1.
    """
    y, mean, var = _norm_pool(x, norm.weight, norm.bias, norm.eps, slope)
    _move_statistics(norm, mean, var, x)
    return y


def norm_act(norm: nn.BatchNorm2d, x: Tensor, slope: float) -> Tensor:
    """Batch norm and leaky ReLU: ``[N, C, H, W]`` -> the same shape; arguments as in `norm_pool`."""
    y, mean, var = _norm_act(x, norm.weight, norm.bias, norm.eps, slope)
    _move_statistics(norm, mean, var, x)
    return y


def norm_add(norms: Sequence[nn.BatchNorm2d], a: Tensor, b: Tensor) -> Tensor:
    """Sum of two batch norms of two tensors ``[N, C, H, W]``."""
    first, second = norms
    z, *found = _norm_add(a, first.weight, first.bias, first.eps, b, second.weight, second.bias, second.eps)
    _move_statistics(first, found[0], found[1], a)
    _move_statistics(second, found[2], found[3], b)
    return z


def pool_act(x: Tensor, slope: float) -> Tensor:
    """2x2 max-pooling and leaky ReLU: ``[N, C, H, W]`` -> ``[N, C, H // 2, W // 2]``."""
    return _pool_act(x, slope)[0]


def _move_statistics(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Running statistics as `nn.BatchNorm2d` moves them: the variance is the unbiased one."""
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)
        norm.num_batches_tracked.add_(1)


# Each operation is a pair of plain functions. Forward returns its answers, and what backward needs beside
# forward's own tensors; backward takes the gradient of the first answer, forward's tensors and these, and returns
# the gradients of the tensors.


def norm_pool_forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float
) -> tuple[Tensors, Tensors]:
    """`norm_pool` with its mean and variance; pooling comes even before batch norm.

    Batch norm increases with its input, or decreases where its weight is negative: the largest output is that
    of the largest or the smallest input.
    """
    mean, var, inverse = _statistics(x, eps)
    corners = _corners(x)
    largest, smallest = (_fold(f, corners) for f in (torch.maximum, torch.minimum))
    chosen = torch.where(_channels(weight) >= 0, largest, smallest)
    equal = sum(torch.where(corner == chosen, 1.0, 0.0) for corner in corners).to(x.dtype)
    z = (_wide(chosen) - _channels(mean)) * _channels(inverse * weight) + _channels(bias)
    y = torch.where(z > 0, z, slope * z).to(x.dtype)
    return (y, mean, var), (chosen, equal, mean, inverse)


def norm_pool_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    chosen: Tensor,
    equal: Tensor,
    mean: Tensor,
    inverse: Tensor,
    slope: float,
) -> Tensors:
    """Gradients of input, weight and bias; equal inputs of a window share its gradient."""
    normal = (_wide(chosen) - _channels(mean)) * _channels(inverse)
    dz = _act_backward(gradient, normal * _channels(weight) + _channels(bias), slope)
    d_bias, d_weight = _over_images(dz), _over_images(dz * normal)
    dx = _norm_backward(_unpool(x, chosen, dz / _wide(equal)), x, mean, inverse, weight, d_weight, d_bias)
    return dx.to(x.dtype), d_weight, d_bias


def norm_act_forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float
) -> tuple[Tensors, Tensors]:
    """`norm_act` with its mean and variance."""
    mean, var, inverse = _statistics(x, eps)
    z = (_wide(x) - _channels(mean)) * _channels(inverse * weight) + _channels(bias)
    y = torch.where(z > 0, z, slope * z).to(x.dtype)
    return (y, mean, var), (mean, inverse)


def norm_act_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, slope: float
) -> Tensors:
    """Gradients of input, weight and bias."""
    normal = (_wide(x) - _channels(mean)) * _channels(inverse)
    dz = _act_backward(gradient, normal * _channels(weight) + _channels(bias), slope)
    d_bias, d_weight = _over_images(dz), _over_images(dz * normal)
    return _norm_backward(dz, x, mean, inverse, weight, d_weight, d_bias).to(x.dtype), d_weight, d_bias


def norm_add_forward(
    a: Tensor,
    weight_a: Tensor,
    bias_a: Tensor,
    eps_a: float,
    b: Tensor,
    weight_b: Tensor,
    bias_b: Tensor,
    eps_b: float,
) -> tuple[Tensors, Tensors]:
    """`norm_add` with both means and variances."""
    mean_a, var_a, inverse_a = _statistics(a, eps_a)
    mean_b, var_b, inverse_b = _statistics(b, eps_b)
    z = (_wide(a) - _channels(mean_a)) * _channels(inverse_a * weight_a) + _channels(bias_a)
    z = z + (_wide(b) - _channels(mean_b)) * _channels(inverse_b * weight_b) + _channels(bias_b)
    return (z.to(a.dtype), mean_a, var_a, mean_b, var_b), (mean_a, inverse_a, mean_b, inverse_b)


def norm_add_backward(
    gradient: Tensor,
    a: Tensor,
    weight_a: Tensor,
    _bias_a: Tensor,
    b: Tensor,
    weight_b: Tensor,
    _bias_b: Tensor,
    mean_a: Tensor,
    inverse_a: Tensor,
    mean_b: Tensor,
    inverse_b: Tensor,
) -> Tensors:
    """Gradients of the first input, weight and bias, then of the second ones."""
    gradient = _wide(gradient)
    d_bias = _over_images(gradient)
    found: list[Tensor] = []
    for x, mean, inverse, weight in ((a, mean_a, inverse_a, weight_a), (b, mean_b, inverse_b, weight_b)):
        d_weight = _over_images(gradient * (_wide(x) - _channels(mean)) * _channels(inverse))
        dx = _norm_backward(gradient, x, mean, inverse, weight, d_weight, d_bias)
        found += [dx.to(x.dtype), d_weight, d_bias]
    return tuple(found)


def pool_act_forward(x: Tensor, slope: float) -> tuple[Tensors, Tensors]:
    """`pool_act`."""
    corners = _corners(x)
    chosen = _fold(torch.maximum, corners)
    equal = sum(torch.where(corner == chosen, 1.0, 0.0) for corner in corners).to(x.dtype)
    return (torch.where(chosen > 0, chosen, slope * chosen),), (chosen, equal)


def pool_act_backward(gradient: Tensor, x: Tensor, chosen: Tensor, equal: Tensor, slope: float) -> Tensors:
    """Gradient of the input; equal inputs of a window share its gradient."""
    dz = _act_backward(gradient, chosen, slope)
    return (_unpool(x, chosen, dz / _wide(equal)).to(x.dtype),)


def _channels(values: Tensor) -> Tensor:
    return values[None, :, None, None]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _statistics(x: Tensor, eps: float) -> Tensors:
    """Mean, variance and inverse standard deviation of each channel."""
    mean = _wide(x).mean((2, 3)).mean(0)
    var = (_wide(x) - _channels(mean)).square().mean((2, 3)).mean(0)
    return mean, var, (var + eps).rsqrt()


def _over_images(x: Tensor) -> Tensor:
    """Sum of each channel: within images first, whose pixels fit into a cache."""
    return x.sum((2, 3)).sum(0)


def _corners(x: Tensor) -> list[Tensor]:
    """The four pixels of each 2x2 window, without a last odd row or column."""
    height, width = (size // 2 * 2 for size in x.shape[2:])
    return [x[..., i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def _fold(function: Callable[[Tensor, Tensor], Tensor], four: list[Tensor]) -> Tensor:
    return function(function(four[0], four[1]), function(four[2], four[3]))


def _unpool(x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
    """The share of each window where ``x`` is the chosen value, 0 elsewhere: the shape of ``x``."""
    height, width = chosen.shape[2:]
    windows = x[..., : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2))
    here = windows == chosen[:, :, :, None, :, None]
    spread = torch.where(here, share[:, :, :, None, :, None], 0.0).flatten(4, 5).flatten(2, 3)
    return F.pad(spread, (0, x.shape[3] - 2 * width, 0, x.shape[2] - 2 * height))


def _act_backward(gradient: Tensor, z: Tensor, slope: float) -> Tensor:
    return torch.where(z > 0, _wide(gradient), slope * _wide(gradient))


def _norm_backward(
    dz: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor, d_weight: Tensor, d_bias: Tensor
) -> Tensor:
    """Gradient of batch norm's input by that of its output, Ioffe and Szegedy 2015, section 3."""
    count = x.numel() // x.shape[1]
    normal = (_wide(x) - _channels(mean)) * _channels(inverse)
    return _channels(weight * inverse) * (
        dz - _channels(d_bias / count) - normal * _channels(d_weight / count)
    )


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Each shape is compiled when it is first met; `torch._dynamo` is slow to import."""
    import torch._dynamo

    # A process may train many runs, of other shapes; past the limit a function would silently run as it is.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 512)
    torch._dynamo.config.accumulated_recompile_limit = 4096
    return torch.compile(function, dynamic=False, options=OPTIONS)


def operation(forward: Callable[..., Any], backward: Callable[..., Any], compiled: bool = True) -> Any:
    """A differentiable function from its two directions.

    Args:
        forward, backward: as above; where backward takes a `slope`, it is the last argument of both.
        compiled: else they run as they are, which is slow.
    """
    fast: Callable[..., Any] = _compiled if compiled else lambda function: function
    takes_slope = "slope" in backward.__code__.co_varnames

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensors:
            with torch.autocast(arguments[0].device.type, enabled=False):
                answers, saved = fast(forward)(*arguments)
            tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
            # Inductor hands out copies of arguments; the weights must be saved as themselves.
            ctx.save_for_backward(*tensors, *saved)
            ctx.arguments = [None if isinstance(argument, Tensor) else argument for argument in arguments]
            ctx.mark_non_differentiable(*answers[1:])
            return answers

        @staticmethod
        def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
            slots = [i for i, argument in enumerate(ctx.arguments) if argument is None]
            tensors, saved = ctx.saved_tensors[: len(slots)], ctx.saved_tensors[len(slots) :]
            arguments: list[Any] = list(ctx.arguments)
            with torch.autocast(gradient.device.type, enabled=False):
                if torch.is_grad_enabled():  # it will be differentiated again: leave that to autograd
                    for slot, tensor in zip(slots, tensors, strict=True):
                        arguments[slot] = tensor
                    answer = forward(*arguments)[0][0]
                    found = torch.autograd.grad(
                        answer, tensors, gradient, create_graph=True, allow_unused=True
                    )
                else:
                    found = fast(backward)(gradient, *tensors, *saved, *arguments[-1:] * takes_slope)
            gradients: list[Tensor | None] = [None] * len(arguments)
            for slot, own in zip(slots, found, strict=True):
                gradients[slot] = own
            return tuple(gradients)

    return Operation.apply


_norm_pool = operation(norm_pool_forward, norm_pool_backward)
_norm_act = operation(norm_act_forward, norm_act_backward)
_norm_add = operation(norm_add_forward, norm_add_backward)
_pool_act = operation(pool_act_forward, pool_act_backward)
