"""MNIST (LeCun et al. 1998): 70,000 handwritten digits of 28x28 pixels, as torchvision stores it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from bench.common.errors import reason_of
from bench.data.download import Archive, require
from bench.data.images import ImageSet

SIZE = 28
DIGITS = [str(digit) for digit in range(10)]
FOLDER = "MNIST/raw"
IMAGES = {"train": 60_000, "t10k": 10_000}


def _address(name: str) -> tuple[list[str], str]:
    from torchvision.datasets import MNIST

    return [f"{mirror}{name}.gz" for mirror in MNIST.mirrors], dict(MNIST.resources)[f"{name}.gz"]


ARCHIVES = [
    Archive(f"MNIST's {name} ({size})", f"{FOLDER}/{name}", f"{FOLDER}/{name}.gz", partial(_address, name))
    for name, size in {
        "train-images-idx3-ubyte": "10 MB",
        "train-labels-idx1-ubyte": "29 kB",
        "t10k-images-idx3-ubyte": "2 MB",
        "t10k-labels-idx1-ubyte": "5 kB",
    }.items()
]


def locate(root: Path, origin: str, offline: bool) -> list[Path]:
    """Find the four files; download or unpack missing ones.

    Arguments and errors as for `download.require`.
    """
    require("mnist", ARCHIVES, root, origin, offline)
    return [root / archive.holds for archive in ARCHIVES]


def read(files: list[Path]) -> tuple[ImageSet | None, list[str]]:
    """Read everything.

    Args:
        files: as `locate` gives them.

    Returns:
        The images, or None if some cannot be read; and every problem, one line each.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    content, problems = [], []
    for path, reader in zip(files, [read_image_file, read_label_file] * 2, strict=True):
        try:
            content.append(reader(str(path)).numpy())
        # torchvision asserts, indexes and reshapes without checks.
        except Exception as error:
            problems.append(f"{path} cannot be read: {reason_of(error)}")
    if problems:
        return None, problems
    parts = zip(content[::2], content[1::2], files[::2], files[1::2], strict=True)
    for images, labels, path, path_of_labels in parts:
        if images.shape[1:] != (SIZE, SIZE):
            problems.append(f"{path} does not contain images of {SIZE}x{SIZE} pixels")
        if len(labels) != len(images):
            problems.append(f"{path} has {len(images)} images but {len(labels)} labels")
        if len(labels) and labels.max() > 9:
            problems.append(f"{path_of_labels} has labels above 9")
    if problems:
        return None, problems
    grey = np.concatenate(content[::2])
    held_out = np.repeat([False, True], [len(images) for images in content[::2]])
    colour = np.repeat(grey[:, None], 3, axis=1)
    data = ImageSet.build("mnist", colour, np.concatenate(content[1::2]), held_out, DIGITS)
    return data, [
        f"{path}: {len(images)} images, not {expected}"
        for path, images, expected in zip(files[::2], content[::2], IMAGES.values(), strict=True)
        if len(images) != expected
    ]
