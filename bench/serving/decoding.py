"""Images of any format, size and mode, decoded for a model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bench.common.errors import UserError
from bench.common.files import is_file, is_folder
from bench.data.photos import decode_photos
from bench.data.pixels import Span, Spans

WRITABLE = ("1", "L", "LA", "P", "RGB", "RGBA")  # modes of Pillow that PNG keeps


def decode(
    items: Sequence[Any], size: int, how: str, spans: Mapping[str, Span], together: bool = False
) -> tuple[Tensor, dict[int, str], Spans]:
    """Bring images of any format to one size.

    Args:
        items: paths, PIL images or arrays.
        size: height and width in pixels.
        how, spans, together: interpolation and ranges, as in `bench.data.photos.decode_photos`.

    Returns:
        uint8 ``[N, 3, H, W]``, and index -> name and reason, for images that cannot be read; and the ranges.
    """
    # Pictures are encoded, so that they are read like files: transparency, 16 bits, size.
    opened = [item if isinstance(item, (str, Path)) else _encoded(item) for item in items]

    def open_file(index: int) -> Any:
        item = opened[index]
        if isinstance(item, bytes):
            return io.BytesIO(item)
        if not is_file(path := Path(item)):
            raise FileNotFoundError("is a folder" if is_folder(path) else "no such file")
        return path

    def name_of(index: int) -> str:
        return f"image {index}" if isinstance(opened[index], bytes) else str(opened[index])

    try:
        pixels, unreadable, known = decode_photos(
            "support images", name_of, open_file, len(items), size, None, how, spans, together
        )
    except UserError as error:
        raise UserError("images", "", error.allowed) from None
    return torch.from_numpy(pixels), unreadable, known


def _encoded(picture: Any) -> bytes:
    """A PIL image or array as PNG, or as TIFF if it has more than 8 bits."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    image = ImageOps.exif_transpose(image)
    file = io.BytesIO()
    if image.mode[0] in "IF":
        image.save(file, "TIFF", compression="raw")
    else:
        (image if image.mode in WRITABLE else image.convert("RGB")).save(file, "PNG", compress_level=1)
    return file.getvalue()
