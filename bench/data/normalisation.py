"""Channel means and standard deviations: of base training images, or given ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Normaliser:
    """Subtracts the base training images' channel means and divides by their standard deviations.

    These statistics come only from base training images; `of_weights` and `of_pixels` take given ones.

    Args:
        images: uint8 ``[N, 3, H, W]`` of the whole data set.
        train: indices of the base training images.
    """

    def __init__(self, images: Tensor, train: Tensor) -> None:
        counts = torch.zeros(3, 256, dtype=torch.float64)
        for part in train.split(4096):  # a histogram is exact and avoids a float copy of the images
            chunk = images[part]
            counts += torch.stack([torch.bincount(chunk[:, c].flatten(), minlength=256) for c in range(3)])
        values = torch.arange(256, dtype=torch.float64)
        mean = (counts * values).sum(1) / counts.sum(1)
        variance = (counts * (values - mean[:, None]).square()).sum(1) / counts.sum(1)
        self.mean = mean.float().view(3, 1, 1)
        self.std = variance.sqrt().clamp(min=1.0).float().view(3, 1, 1)

    @classmethod
    def of_weights(cls, mean: Sequence[float], std: Sequence[float]) -> Normaliser:
        """The constants that a backbone's weights were trained with, for pixels in [0, 1]."""
        return cls.of_pixels(*((255 * torch.tensor(tuple(values))).tolist() for values in (mean, std)))

    @classmethod
    def of_pixels(cls, mean: Sequence[float], std: Sequence[float]) -> Normaliser:
        """Given constants for pixels from 0 to 255."""
        made = cls.__new__(cls)
        made.mean, made.std = (torch.tensor(tuple(values)).view(3, 1, 1) for values in (mean, std))
        return made

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 ``[N, 3, H, W]`` -> float32 in channels-last layout, on the images' device."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return images.contiguous(memory_format=torch.channels_last).float().sub_(mean).div_(std)
