"""Scales and shifts for the filters of a backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class ScaleShiftConv(nn.Module):
    """A convolution whose filters are scaled and shifted: ``(W * scale) x + (b + shift)``.

    With the convolution's own weights held fixed, a 3x3 kernel has one number to learn instead of nine
    (Sun et al. 2019, section 4.2). It starts as the convolution that it is given, and loads a state of one.

    Args:
        conv: with weights ``[out, in, h, w]``.

    Attributes:
        scale: ``[out, in, 1, 1]``, one for each kernel; starts at 1.
        shift: ``[out]``; starts at 0.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.scale = nn.Parameter(torch.ones(*conv.weight.shape[:2], 1, 1))
        self.shift = nn.Parameter(torch.zeros(len(conv.weight)))

    def forward(self, images: Tensor) -> Tensor:
        """As the convolution: ``[N, in, H, W]`` -> ``[N, out, H', W']``."""
        bias = self.shift if self.conv.bias is None else self.conv.bias + self.shift
        return functional_call(self.conv, {"weight": self.conv.weight * self.scale, "bias": bias}, (images,))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in [name for name in ("weight", "bias") if prefix + name in state_dict]:
            state_dict[f"{prefix}conv.{name}"] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def scale_and_shift(backbone: nn.Module) -> None:
    """Put a `ScaleShiftConv` in the place of each convolution, whose name becomes ``<name>.conv``."""
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(module, name, ScaleShiftConv(child))
