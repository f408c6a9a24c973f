"""Drawings, as lines and as the canvas of the page draws them."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from bench.demo.pictures import SIDE

RING = [(140 + 80 * math.cos(a), 140 + 80 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40)]
CROSS = ([(60, 60), (220, 220)], [(220, 60), (60, 220)])


def drawing(*lines, at=(0, 0), width=18) -> np.ndarray:
    """Black lines on white."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    for line in lines:
        moved = [(x + at[0], y + at[1]) for x, y in line]
        ImageDraw.Draw(image).line(moved, "black", width, joint="curve")
    return np.asarray(image)


def png(size: tuple[int, int], kind: str = "PNG") -> bytes:
    """A blank file; a large one is small, because each pixel has one bit."""
    buffer = io.BytesIO()
    Image.new("1" if kind == "PNG" else "RGB", size, "white").save(buffer, kind)
    return buffer.getvalue()
