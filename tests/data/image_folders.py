"""Folders of images of random pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.common.errors import UserError
from bench.data import sources
from bench.data.images import ImageSet

SIZE = 8


def random_pixels(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def fill(path: Path, count: int, first: int = 0, suffix: str = ".png") -> None:
    """`count` images of random pixels, seeds `first` and up."""
    path.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        Image.fromarray(random_pixels(seed)).save(path / f"{seed:03d}{suffix}")


def two_classes(path: Path, a: int = 2, b: int = 2, suffix: str = ".png") -> None:
    """Classes ``a`` and ``b`` of so many images, seeds 0 and up and 100 and up."""
    fill(path / "a", a, suffix=suffix)
    fill(path / "b", b, first=100, suffix=suffix)


def seeds_of(images: torch.Tensor) -> set[int]:
    """The seeds of images of random pixels."""
    known = {random_pixels(seed).transpose(2, 0, 1).tobytes(): seed for seed in range(500)}
    return {known[image.numpy().tobytes()] for image in images}


def load(path: Path, size: int = SIZE) -> ImageSet:
    return sources.load(f"folder:{path}", image_size=size)


def refused(path: Path) -> str:
    """The one line that answers this folder."""
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"--dataset folder:{path}: ")
    return str(caught.value)
