"""Random crops and flips of training images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHARACTERS = ("glyphs", "omniglot", "mnist")
"""Data sets whose images are not flipped: a mirrored character is another character, or none."""


def crop_and_flip(images: Tensor, generator: torch.Generator, flip: bool = True) -> Tensor:
    """Zero-pad by an eighth, crop at a random position, flip half of the images left to right.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        flip: whether to flip.
        generator: on the CPU, so that augmentations are the same on every device.
    """
    n, _, height, width = images.shape
    pad = height // 8
    draws = torch.randint(2 * pad + 1, (2, n), generator=generator).to(images.device)
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(n, device=images.device), :, draws[0], draws[1]]
    if not flip:
        return cropped
    chosen = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], cropped.flip(-1), cropped)
