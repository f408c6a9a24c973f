"""Random crops, flips and colour changes of training images."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from bench.data.names import data_set

if TYPE_CHECKING:  # torch takes seconds to import, too long for an error in a name
    import torch
    from torch import Tensor

AUGMENTATIONS = {
    "crop": "padded by an eighth with black, cropped at a random position",
    "flip": "half of the images mirrored left to right",
    "jitter": "brightness, contrast and saturation times 0.6 to 1.4",
}
JITTER = 0.4
"""Brightness, contrast and saturation are multiplied by 1 - JITTER to 1 + JITTER (Chen et al. 2019)."""

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in brightness (ITU-R 601)


def usual(dataset: str) -> list[str]:
    """Names of the augmentations of a data set by default."""
    return ["crop"] if data_set(dataset).characters else ["crop", "flip"]


def augmented(images: Tensor, generator: torch.Generator, augment: Collection[str]) -> Tensor:
    """Random versions of images.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        generator: on the CPU, so that augmentations are the same on every device.
        augment: of `AUGMENTATIONS`, which says what each does.

    Returns:
        uint8 ``[N, 3, H, W]``.
    """
    import torch

    if "crop" in augment:
        images = crop(images, generator)
    if "flip" in augment:
        chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    if "jitter" in augment:
        factors = 1 + JITTER * (2 * torch.rand(3, len(images), generator=generator) - 1)
        images = jitter(images, *factors.to(images.device))
    return images


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Zero-pad by an eighth, and crop at a random position; arguments as for `augmented`."""
    import torch
    from torch.nn import functional as F

    n, _, height, width = images.shape
    pad = height // 8
    draws = torch.randint(2 * pad + 1, (2, n), generator=generator).to(images.device)
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, draws[0], draws[1]]


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Multiply brightness, then contrast, then saturation by factors ``[N]``, as Pillow's ImageEnhance does.

    Args:
        images: uint8 ``[N, 3, H, W]``.
    """
    import torch

    weights = torch.tensor(GREY, device=images.device)[:, None, None]

    def grey(pixels: Tensor) -> Tensor:
        return (pixels * weights).sum(1, keepdim=True)

    def blended(ground: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
        return (ground + (pixels - ground) * factor[:, None, None, None]).clamp(0, 255)

    made = blended(torch.zeros((), device=images.device), images.float(), brightness)
    made = blended(grey(made).mean((2, 3), keepdim=True), made, contrast)
    return blended(grey(made), made, saturation).round().to(torch.uint8)
