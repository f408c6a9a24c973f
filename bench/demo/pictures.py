"""Pictures from and to the browser: checked, cropped to what is drawn, as data URLs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageOps

SIDE = 280  # pixels, of the page's canvas
PREFIX = "data:image/png;base64,"
LONGEST = 600_000  # characters of a data URL; a canvas of noise has 420,000
PLAIN = 24  # levels; a border that differs less from its median is a plain background
INK = 48  # levels from the background
SHARE = 0.65  # of a picture's side, for a drawing; about that of glyphs' characters
SMALLEST = 40  # pixels; a smaller drawing is not enlarged as much
DARK, LIGHT = 64, 191  # mean levels; images beyond them are mostly background, of that kind


class NotAPicture(ValueError):
    """The browser sent something that is not a drawn canvas."""


def decode(url: object) -> np.ndarray:
    """The canvas as uint8 ``[SIDE, SIDE, 3]``.

    Raises:
        NotAPicture: it is too long, not a PNG, damaged, or has another size.
    """
    try:
        if isinstance(url, str) and len(url) <= LONGEST and url.startswith(PREFIX):
            content = base64.b64decode(url[len(PREFIX) :], validate=True)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                if image.size == (SIDE, SIDE):  # known before any pixel is decoded
                    return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many types for damaged files
        raise NotAPicture("the picture is damaged") from error
    raise NotAPicture(f"must be a PNG of {SIDE} x {SIDE} pixels")


def fit(pixels: np.ndarray, size: int, level: float = 128) -> np.ndarray:
    """A picture at the model's size: uint8 ``[3, size, size]``.

    What is drawn on a plain background is cropped and centred, so that place and size do not matter. It
    becomes white on black for a model of such images, as MNIST's digits are, and black on white for one of
    those. Other pictures, such as photographs, are only resized.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        size: in pixels.
        level: mean of the images that the model was trained on, 0 to 255.
    """
    image = Image.fromarray(pixels)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    ground = np.median(border, axis=0).astype(np.int16)
    if np.mean(np.abs(border - ground).max(axis=1) <= PLAIN) > 0.9:
        ink = np.abs(pixels - ground).max(axis=2) > INK
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        if len(rows):
            box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            width, height = box[2] - box[0], box[3] - box[1]
            side = round(max(width, height, SMALLEST) / SHARE)
            square = Image.new("RGB", (side, side), tuple(ground.tolist()))
            square.paste(image.crop(box), ((side - width) // 2, (side - height) // 2))
            light = ground.mean() > 127
            other_ground = level < DARK if light else level > LIGHT
            image = ImageOps.invert(square) if other_ground else square
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def encode(pixels: np.ndarray) -> str:
    """A data URL of a picture, uint8 ``[H, W, 3]``."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return PREFIX + base64.b64encode(buffer.getvalue()).decode()
