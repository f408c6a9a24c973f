"""Batch norm, 2x2 max-pooling and activation as single operations, for training on the CPU.

A convolution's output is large, and each of the usual operations after it reads and writes all of it, forward
and backward. `fused_formulas` writes out both directions of these operations together, and `torch.compile`
makes loops of them that read and write the large tensors as rarely as possible. A backbone runs on them
within `fused_training`, and as plain PyTorch everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from methods import fused_formulas as formulas

# Inductor would write what is read more often to memory instead of computing it within the loop.
OPTIONS: dict[str, Any] = {"realize_reads_threshold": 64}


def fusible(backbone: nn.Module) -> list[nn.Module]:
    """The blocks of a backbone that can train on the fused operations."""
    return [block for block in backbone.modules() if hasattr(block, "fused")]


@contextmanager
def fused_training(backbone: nn.Module) -> Iterator[None]:
    """Within this, blocks of the backbone that can train on the fused operations do so."""
    blocks = fusible(backbone)
    for block in blocks:
        setattr(block, "fused", True)  # noqa: B010
    try:
        yield
    finally:
        for block in blocks:
            setattr(block, "fused", False)  # noqa: B010


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


def norm_pool(norm: nn.Module, x: Tensor, slope: float) -> Tensor:
    """Batch norm, 2x2 max-pooling and leaky ReLU: ``[N, C, H, W]`` -> ``[N, C, H // 2, W // 2]``.

    Args:
        norm: an `nn.BatchNorm2d` in training mode; its running statistics move.
        x: images of a batch, any floating type.
        slope: of the leaky ReLU below 0; at least 0 (ReLU) and at most 1.
    """
    y, mean, var = _norm_pool(x, norm.weight, norm.bias, norm.eps, slope)
    _move_statistics(norm, mean, var, x)
    return y


def norm_act(norm: nn.Module, x: Tensor, slope: float) -> Tensor:
    """Batch norm and leaky ReLU: ``[N, C, H, W]`` -> the same shape; arguments as in `norm_pool`."""
    y, mean, var = _norm_act(x, norm.weight, norm.bias, norm.eps, slope)
    _move_statistics(norm, mean, var, x)
    return y


def norm_add(first: nn.Module, a: Tensor, second: nn.Module, b: Tensor) -> Tensor:
    """``first(a) + second(b)``, two batch norms of tensors ``[N, C, H, W]``."""
    z, *found = _norm_add(a, first.weight, first.bias, first.eps, b, second.weight, second.bias, second.eps)
    _move_statistics(first, found[0], found[1], a)
    _move_statistics(second, found[2], found[3], b)
    return z


def pool_act(x: Tensor, slope: float) -> Tensor:
    """2x2 max-pooling and leaky ReLU: ``[N, C, H, W]`` -> ``[N, C, H // 2, W // 2]``."""
    return _pool_act(x, slope)[0]


def _move_statistics(norm: Any, mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Running statistics as `nn.BatchNorm2d` moves them: the variance is the unbiased one."""
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var), norm.momentum)
        norm.num_batches_tracked.add_(1)


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
        def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
            with torch.autocast(arguments[0].device.type, enabled=False):
                answers, saved = fast(forward)(*arguments)
            tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
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


_norm_pool = operation(formulas.norm_pool_forward, formulas.norm_pool_backward)
_norm_act = operation(formulas.norm_act_forward, formulas.norm_act_backward)
_norm_add = operation(formulas.norm_add_forward, formulas.norm_add_backward)
_pool_act = operation(formulas.pool_act_forward, formulas.pool_act_backward)
