"""Both directions of the fused operations of training, as plain functions of tensors.

Forward returns its answers, and what backward needs in addition to forward's own tensors. Backward takes the
gradient of the first answer, forward's tensors and these additions; it returns the gradients of the tensors.
`norm_pool` reads its input twice forward and once backward, and keeps nothing else of that size.
Statistics are taken in float32 (or float64), within each image and then over images: the pixels of one image
fit into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = tuple[Tensor, ...]


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
    equal = _count(corners, chosen)
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
    equal = _count(corners, chosen)
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
    """Mean, variance and inverse standard deviation of each channel, from one reading of ``x``.

    The mean of squares minus the squared mean loses digits where the mean is far from 0, so a value near the
    mean is subtracted first: the mean of the first image.
    """
    near = _wide(x[0]).mean((1, 2))
    apart = _wide(x) - _channels(near)
    first, second = (values.mean((2, 3)).mean(0) for values in (apart, apart.square()))
    var = (second - first.square()).clamp(min=0)
    return near + first, var, (var + eps).rsqrt()


def _over_images(x: Tensor) -> Tensor:
    """Sum of each channel: within images first, whose pixels fit into a cache."""
    return x.sum((2, 3)).sum(0)


def _corners(x: Tensor) -> list[Tensor]:
    """The four pixels of each 2x2 window, without a last odd row or column."""
    height, width = (size // 2 * 2 for size in x.shape[2:])
    return [x[..., i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def _fold(function: Callable[[Tensor, Tensor], Tensor], four: list[Tensor]) -> Tensor:
    return function(function(four[0], four[1]), function(four[2], four[3]))


def _count(corners: list[Tensor], chosen: Tensor) -> Tensor:
    """How many of the four equal the chosen one, in its type."""
    ones = (torch.where(corner == chosen, 1.0, 0.0) for corner in corners)
    return reduce(torch.add, ones).to(chosen.dtype)  # not a stack's sum, which would be written to memory


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
