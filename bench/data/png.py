"""Decodes tens of thousands of small PNGs, and says which are damaged."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from bench.common.errors import reason_of

BATCH = 2000  # files between two reports of progress


def decode_pngs(
    files: Sequence[bytes | None], size: int, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode square PNGs of one size, and check their checksums.

    Args:
        files: N encoded images; None stands for a missing one.
        size: height and width of each, in pixels.
        progress: called with (done, N).

    Returns:
        uint8 ``[N, 3, size, size]``, zeros where an image is damaged, and index -> reason for these.
    """
    images = np.zeros((len(files), 3, size, size), dtype=np.uint8)
    damaged = {}
    for index, file in enumerate(files):
        try:
            images[index] = _decode_one(file, size)
        # Pillow's parsers raise many types for damaged files.
        except Exception as error:
            damaged[index] = reason_of(error)
        if progress and (index + 1) % BATCH == 0:
            progress(index + 1, len(files))
    if progress:
        progress(len(files), len(files))
    return images, damaged


def _decode_one(file: bytes | None, size: int) -> np.ndarray:
    """Pixels of one PNG of any mode: uint8 ``[3, size, size]``."""
    if not file:
        raise ValueError("no image")
    # Decoding checks no checksum, so some damaged files would give other pixels.
    Image.open(io.BytesIO(file), formats=("PNG",)).verify()
    image = Image.open(io.BytesIO(file), formats=("PNG",))
    if image.size != (size, size):
        raise ValueError(f"{image.width}x{image.height} pixels, not {size}x{size}")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
