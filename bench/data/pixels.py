"""Converts an image file of any format to square RGB pixels of 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps

# Recognised in files of any name. Other formats need their own ending, because some have no clear signature.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
NEVER = ("EPS", "MPEG")  # Ghostscript would run the first; Pillow does not decode the second
MIN_CONTRAST = 16  # smallest contrast, in levels, between a picture and its background

Open = Callable[[], Path | IO[bytes]]
Span = tuple[float, float]
"""Smallest and largest value of images: integers if the images have whole numbers."""
Spans = dict[str, Span]
"""Kind of numbers (`kind_of`) -> the values that become 0 and 255: they are on different scales."""


def kind_of(span: Span) -> str:
    """``int`` or ``float``."""
    return type(span[0]).__name__


@cache
def formats() -> dict[str, str]:
    """Ending of a file name -> format, for all formats that Pillow decodes itself."""
    known = Image.registered_extensions()
    stubs = {kind for kind, (opener, _) in Image.OPEN.items() if _is_stub(opener)}
    return {end: kind for end, kind in known.items() if kind in Image.OPEN.keys() - stubs - {*NEVER}}


def _is_stub(opener: object) -> bool:
    return isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)


def _opened(open_file: Open) -> ImageFile.ImageFile:
    file = open_file()
    own = formats().get(file.suffix.lower()) if isinstance(file, Path) else None
    return Image.open(file, formats=(*FORMATS, own) if own else FORMATS)


def span_of(open_file: Open) -> Span | None:
    """Smallest and largest value of an image with more than 8 bits per channel; None for 8 bits.

    Whole numbers if the image has them; infinity and minus infinity for an image of NaN.
    """
    with _opened(open_file) as image:
        if not _is_deep(image):
            return None
        values = _deep_values(image, open_file)
    values = values[np.isfinite(values)]
    return (values.min().item(), values.max().item()) if values.size else (np.inf, -np.inf)


def to_square(
    open_file: Open, size: int, interpolation: str = "bilinear", span: Span | None = None
) -> np.ndarray:
    """The shorter side resized to `size`, then the centre: uint8 ``[3, size, size]``.

    Uses the EXIF orientation, puts transparent images on white, or on black if nothing is visible on white,
    and takes the first frame of an animation. An image of that size keeps its pixels.

    Args:
        open_file: opens the encoded image at its beginning.
        size: height and width of the result, in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        span: values of more than 8 bits that become 0 and 255; by default the image's minimum and maximum.
    """
    with _opened(open_file) as image:
        if _is_deep(image):
            rgb = _to_8_bits(image, open_file, span or span_of(open_file) or (0.0, 0.0))
        else:
            # Allows JPEGs to decode at 1/2, 1/4 or 1/8 of the size, but not smaller than this.
            image.draft("RGB", (2 * size, 2 * size))
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    square = ImageOps.fit(rgb, (size, size), Image.Resampling[interpolation.upper()])
    return np.asarray(square).transpose(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of 8 bits or fewer to RGB."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white, black = (_over(layer, ground) for ground in ("white", "black"))
    return white if _contrast(white) >= min(MIN_CONTRAST, _contrast(black)) else black


def _over(layer: Image.Image, ground: str) -> Image.Image:
    made = Image.new("RGBA", layer.size, ground)
    made.alpha_composite(layer)
    return made.convert("RGB")


def _contrast(image: Image.Image) -> int:
    pixels = np.asarray(image)
    return int((pixels.max(axis=(0, 1)) - pixels.min(axis=(0, 1))).max())


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the pixel format of the file."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether the file has more than 8 bits per channel, which Pillow's RGB images lose."""
    return image.mode[0] in "IF" or (image.mode in ("RGB", "RGBA") and ";16" in _rawmode(image))


def _deep_values(image: ImageFile.ImageFile, open_file: Open) -> np.ndarray:
    """All bits of an image's channels but alpha, upright: ``[H, W]`` or ``[H, W, 3]``."""
    rawmode = _rawmode(image)
    upright = np.asarray(ImageOps.exif_transpose(image))
    if image.mode[0] in "IF":
        return upright
    with _opened(open_file) as again:
        # Pillow keeps the high byte of each value; with the byte order reversed it keeps the low byte.
        swapped = rawmode[:-1] + ("B" if rawmode.endswith(("L", "N")) else "L")
        again.tile = [tile._replace(args=_renamed(tile.args, swapped)) for tile in again.tile]
        try:
            low = np.asarray(ImageOps.exif_transpose(again))
        except ValueError:  # a pixel format that Pillow reads only in one byte order
            low = np.zeros_like(upright)
    return upright[..., :3].astype(np.int64) * 256 + low[..., :3]


def _renamed(args: tuple | str | None, rawmode: str) -> tuple | str:
    return (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode


def _to_8_bits(image: ImageFile.ImageFile, open_file: Open, span: Span) -> Image.Image:
    """Scaled so that `span` becomes 0 to 255; NaN becomes 0."""
    values, (low, high) = _deep_values(image, open_file), span if span[0] <= span[1] else (0.0, 0.0)
    levels: np.ndarray
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
        levels = (255 * (finite - low) / max(high - low, 1e-30)).round()
    else:
        levels = (values.astype(np.int64) - int(low)) * 256 // (int(high - low) + 1)
    made = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "RGBA":
        made.putalpha(ImageOps.exif_transpose(image).getchannel("A"))
        return _to_rgb(made)
    return made
