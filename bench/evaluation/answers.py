"""Checks of single answers, cheap enough for every one of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Broken(Exception):
    """A method does not keep its contract; the message begins with what broke it, e.g. ``similarity``."""


class NotFinite(Broken):
    """It answered with NaN or infinite values."""


def checked(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """The answer, if it is a finite floating-point tensor of that shape.

    Args:
        answer: what the method returned.
        what: the function that returned it.
        shape: what it must be; -1 allows any length above 0.

    Raises:
        Broken: it has another type or shape.
        NotFinite: it holds NaN or infinite values.
    """
    if not isinstance(answer, Tensor):
        raise Broken(f"{what} must return a tensor, and returned {type(answer).__name__}")
    fits = len(answer.shape) == len(shape) and all(
        found == wanted or (wanted < 0 < found) for found, wanted in zip(answer.shape, shape, strict=True)
    )
    if not fits:
        wanted = str(list(shape)).replace("-1", "D")
        raise Broken(f"{what} must return shape {wanted} here, and returned {list(answer.shape)}")
    if not answer.is_floating_point():
        raise Broken(f"{what} must return floating-point numbers, and returned {answer.dtype}")
    if not bool(torch.isfinite(answer).all()):
        raise NotFinite(f"{what} returned NaN or infinite values")
    return answer


def all_finite(module: nn.Module) -> bool:
    """Whether no weight or buffer of a module's state is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())


@contextmanager
def untouched(what: str, *tensors: Tensor) -> Iterator[None]:
    """See that tensors which the method was handed keep their values.

    Args:
        what: what was handed them.
        tensors: finite; they are copied for the comparison.

    Raises:
        Broken: a value changed.
    """
    before = [tensor.clone() for tensor in tensors]
    yield
    if not all(map(torch.equal, tensors, before)):
        raise Broken(f"{what} changed the tensors it was handed in place; it must work on copies")


@contextmanager
def unchanged(method: nn.Module) -> Iterator[None]:
    """See that answering leaves the method's weights and buffers as they are.

    Raises:
        Broken: one changed; the message names it.
    """
    before = {name: tensor.detach().clone() for name, tensor in _state(method).items()}
    yield
    after = _state(method)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not torch.equal(before[name], after[name]):
            raise Broken(f"{name} changed while the method answered; answers must leave its weights alone")


def _state(method: nn.Module) -> Mapping[str, Tensor]:
    return dict(method.named_parameters()) | dict(method.named_buffers())
