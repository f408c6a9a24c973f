"""Checks of a method's outputs, cheap enough for every call of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ContractError(Exception):
    """A method breaks its contract; the message begins with the function, e.g. ``similarity``."""


class NotFinite(ContractError):
    """The output has NaN or infinite values."""


def checked(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """Return the output if it is a finite floating-point tensor of that shape.

    Args:
        answer: the method's output.
        what: name of the function.
        shape: the required shape; -1 allows any length above 0.

    Raises:
        ContractError: it has another type or shape.
        NotFinite: it has NaN or infinite values.
    """
    if not isinstance(answer, Tensor):
        raise ContractError(f"{what} must return a tensor, but returned {type(answer).__name__}")
    fits = len(answer.shape) == len(shape) and all(
        found == wanted or (wanted < 0 < found) for found, wanted in zip(answer.shape, shape, strict=True)
    )
    if not fits:
        wanted = str(list(shape)).replace("-1", "D")
        raise ContractError(f"{what} must return shape {wanted} here, but returned {list(answer.shape)}")
    if not answer.is_floating_point():
        raise ContractError(f"{what} must return floating-point numbers, but returned {answer.dtype}")
    if not bool(torch.isfinite(answer).all()):
        raise NotFinite(f"{what} returned NaN or infinite values")
    return answer


def all_finite(module: nn.Module) -> bool:
    """Whether all weights and buffers of a module are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())


@contextmanager
def inputs_unchanged(what: str, *tensors: Tensor) -> Iterator[None]:
    """Check that the method does not change its input tensors.

    Args:
        what: name of the function that gets them.
        tensors: finite; they are copied for the comparison.

    Raises:
        ContractError: a value changed.
    """
    before = [tensor.clone() for tensor in tensors]
    yield
    if not all(map(torch.equal, tensors, before)):
        raise ContractError(f"{what} changed its input tensors in place; it must work on copies")


@contextmanager
def weights_unchanged(method: nn.Module) -> Iterator[None]:
    """Check that the evaluation does not change the method's weights and buffers.

    Raises:
        ContractError: one changed; the message names it.
    """
    before = {name: tensor.detach().clone() for name, tensor in _state(method).items()}
    yield
    after = _state(method)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not torch.equal(before[name], after[name]):
            raise ContractError(f"{name} changed during the evaluation; methods must not change weights")


def _state(method: nn.Module) -> Mapping[str, Tensor]:
    return dict(method.named_parameters()) | dict(method.named_buffers())
