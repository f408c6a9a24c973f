"""`glyphs`: generated small colour images of 100 printed characters; nothing to download.

The shape is that of CIFAR-100: 20 superclasses of 5 classes, 600 RGB images of 32x32 pixels per class, 100 of
them held out. Each image shows one character in a random typeface, bent and rotated, in random colours
on a random texture, among fragments of other characters and strokes, blurred and noisy.

The pixels depend only on `GLYPHS_VERSION` and the outlines in matplotlib's font files. The outlines are
scan-converted here, not by FreeType, with additions, multiplications, divisions and roots, which IEEE 754
defines to the last bit. So they do not depend on the processor or the number of threads. A matplotlib release
with other versions of DejaVu, STIX or Computer Modern gives other images and another fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from bench.data.glyph_characters import CHARACTERS, SIZE, Masks, load_masks
from bench.data.images import ImageSet

GLYPHS_VERSION = 1  # raised with every change of the pixels; part of cache keys
IMAGES_PER_CLASS = 600
HELD_OUT_PER_CLASS = 100
BATCH = 100  # images drawn at once, so that their arrays fit in the processor's cache

# Centres of the pixels, relative to the image's centre.
COLUMNS = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
ROWS = COLUMNS[:, None]


def generate(progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Draw the whole data set: 60,000 images uint8 ``[60000, 3, 32, 32]``.

    Args:
        progress: called with (classes done, total classes) after each class.
    """
    masks = load_masks()
    classes = [(name, char, family) for family, chars in CHARACTERS.items() for name, char in chars.items()]
    images = np.empty((len(classes), IMAGES_PER_CLASS, 3, SIZE, SIZE), dtype=np.uint8)

    def draw(label: int) -> None:
        images[label] = draw_class(classes[label][1], masks)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, future in enumerate(as_completed(pool.submit(draw, i) for i in range(len(classes))), 1):
            future.result()
            if progress:
                progress(done, len(classes))
    return ImageSet.build(
        name="glyphs",
        images=images.reshape(-1, 3, SIZE, SIZE),
        labels=np.repeat(np.arange(len(classes)), IMAGES_PER_CLASS),
        held_out=np.tile(np.arange(IMAGES_PER_CLASS) >= IMAGES_PER_CLASS - HELD_OUT_PER_CLASS, len(classes)),
        class_names=[name for name, _, _ in classes],
        superclass=[family for _, _, family in classes],
    )


def draw_class(char: str, masks: Masks) -> np.ndarray:
    """All images of one class: uint8 ``[IMAGES_PER_CLASS, 3, SIZE, SIZE]``, the same on every call."""
    rng = np.random.Generator(np.random.PCG64([GLYPHS_VERSION, ord(char)]))
    batches = range(0, IMAGES_PER_CLASS, BATCH)
    return np.concatenate([paint(draw_ink(char, masks, rng), masks, rng) for _ in batches])


def draw_ink(char: str, masks: Masks, rng: np.random.Generator) -> np.ndarray:
    """The ink of each image of a batch: float32 ``[BATCH, SIZE, SIZE]`` in 0..1."""
    chosen = rng.integers(masks.of[char].start, masks.of[char].stop, BATCH)
    shift = uniform(rng, -3.5, 3.5, (2, BATCH))
    ink = place(masks.pixels[chosen], rng, scale=(0.6, 1.1), turn=0.22, shift=shift, bend=3.5)
    # Stroke weight: the threshold of the mask.
    weight = uniform(rng, 0.25, 0.6, (BATCH, 1, 1))
    return np.clip((ink - weight) * 3 + 0.5, 0, 1)


def paint(ink: np.ndarray, masks: Masks, rng: np.random.Generator) -> np.ndarray:
    """Colour the characters, and add background, clutter, blur and noise.

    Args:
        ink: ``[N, SIZE, SIZE]`` in 0..1.

    Returns:
        uint8 ``[N, 3, SIZE, SIZE]``.
    """
    n = len(ink)
    level = uniform(rng, 0.1, 0.9, (n, 1))
    ground = level + uniform(rng, -0.25, 0.25, (n, 3))
    other = ground + uniform(rng, -0.25, 0.25, (n, 3))
    image = blend(ground[..., None, None], other, texture(rng, n))
    image = blend(image, contrasting(rng, level), uniform(rng, 0.3, 1, (n, 1, 1)) * stroke(rng, n))
    image = blend(image, contrasting(rng, level), fragment(masks, rng, n))
    near, far = contrasting(rng, level), uniform(rng, -0.2, 0.2, (n, 3))
    colour = near[..., None, None] + far[..., None, None] * field(rng, n, 2)[:, None]
    image += (colour - image) * (uniform(rng, 0.6, 1, (n, 1, 1)) * ink)[:, None]
    front = (rng.random(n, dtype=np.float32) < 0.35)[:, None, None] * stroke(rng, n)
    image = blend(image, contrasting(rng, level), front)
    image = blur(image, uniform(rng, 0, 0.3, (n, 1, 1, 1)))
    image *= (0.7 + 0.6 * field(rng, n, 2))[:, None]
    # The sum of four random bytes is approximately normal, and exact.
    noise = rng.integers(0, 256, (4, *image.shape), dtype=np.uint8).sum(axis=0, dtype=np.int16)
    image += uniform(rng, 0.1, 0.3, (n, 1, 1, 1)) ** 2 * ((noise - 510) / np.float32(147.8))
    return (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def place(
    masks: np.ndarray,
    rng: np.random.Generator,
    scale: tuple[float, float],
    turn: float,
    shift: np.ndarray,
    bend: float,
) -> np.ndarray:
    """Scale, stretch, slant, rotate, shift and bend masks ``[N, SIZE, SIZE]``, each randomly.

    Args:
        scale: the range of sizes, relative to the mask's size.
        turn: the largest rotation, as the tangent of half its angle (rational, so exact).
        shift: ``[2, N]`` pixels to the right and down.
        bend: the largest relative displacement of parts of a mask, in pixels.
    """
    n = len(masks)
    half = uniform(rng, -turn, turn, (n, 1, 1))
    cos, sin = (1 - half**2) / (1 + half**2), 2 * half / (1 + half**2)
    size = uniform(rng, *scale, (n, 1, 1))
    stretch = uniform(rng, 0.75, 1.3, (n, 1, 1))
    slant = uniform(rng, -0.35, 0.35, (n, 1, 1))
    x, y = COLUMNS - shift[0][:, None, None], ROWS - shift[1][:, None, None]
    down = cos * y - sin * x
    right = (cos * x + sin * y - slant * down) / (size * stretch)
    down = down / size * stretch
    right += bend * (field(rng, n, 3) - np.float32(0.5))
    down += bend * (field(rng, n, 3) - np.float32(0.5))
    return sample(masks, right, down)


def sample(masks: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Interpolate masks ``[N, SIZE, SIZE]`` at points relative to their centre."""
    # A mask's margin is empty, so points outside can use the nearest edge.
    right = np.clip(right + (SIZE - 1) / 2, 0, SIZE - 1.01)
    down = np.clip(down + (SIZE - 1) / 2, 0, SIZE - 1.01)
    column, row = right.astype(np.int32), down.astype(np.int32)
    right -= column
    down -= row
    start = np.arange(len(masks), dtype=np.int32)[:, None, None] * SIZE**2 + row * SIZE + column
    flat = masks.reshape(-1)
    top, bottom = flat[start], flat[start + SIZE]
    top += (flat[start + 1] - top) * right
    bottom += (flat[start + SIZE + 1] - bottom) * right
    return top + (bottom - top) * down


def fragment(masks: Masks, rng: np.random.Generator, n: int) -> np.ndarray:
    """Parts of any characters, at the edges: ``[n, SIZE, SIZE]`` in 0..1."""
    chosen = rng.integers(0, len(masks.pixels), n)
    side, along = uniform(rng, 12, 17, n), uniform(rng, -16, 16, n)
    side = np.where(rng.random(n) < 0.5, side, -side)
    across = rng.random(n) < 0.5
    shift = np.stack([np.where(across, side, along), np.where(across, along, side)])
    return place(masks.pixels[chosen], rng, scale=(0.4, 1.0), turn=1, shift=shift, bend=4)


def stroke(rng: np.random.Generator, n: int) -> np.ndarray:
    """Straight strokes anywhere: ``[n, SIZE, SIZE]`` in 0..1."""
    across, down = uniform(rng, -1, 1, (2, n, 1, 1))
    length = np.sqrt(across**2 + down**2) + np.float32(1e-3)
    far = (across * COLUMNS + down * ROWS) / length - uniform(rng, -15, 15, (n, 1, 1))
    return np.clip(uniform(rng, 0.4, 1.4, (n, 1, 1)) + 0.5 - np.abs(far), 0, 1)


def texture(rng: np.random.Generator, n: int) -> np.ndarray:
    """Gradients, spots and stripes, mixed: ``[n, SIZE, SIZE]`` in 0..1."""
    across, down, offset = uniform(rng, -0.2, 0.2, (3, n, 1, 1))
    wave = across * COLUMNS + down * ROWS + 5 * offset
    layers = [np.abs(wave - np.floor(wave) - np.float32(0.5)) * 2]
    layers += [field(rng, n, cells) for cells in (1, 3, 7, 15)]
    weights = rng.random((len(layers), n, 1, 1), dtype=np.float32) ** 2
    total = weights[0] * layers[0]
    for weight, layer in zip(weights[1:], layers[1:], strict=True):
        total += weight * layer
    return total / weights.sum(axis=0)


def field(rng: np.random.Generator, n: int, cells: int) -> np.ndarray:
    """Smooth random values, interpolated on a grid of `cells` x `cells`: ``[n, SIZE, SIZE]`` in 0..1."""
    corners = rng.random((n, cells + 1, cells + 1), dtype=np.float32)
    at = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / SIZE)
    cell = at.astype(np.int64)
    at -= cell
    rows = corners[:, cell] + (corners[:, cell + 1] - corners[:, cell]) * at[:, None]
    return rows[:, :, cell] + (rows[:, :, cell + 1] - rows[:, :, cell]) * at


def contrasting(rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """Colours ``[N, 3]`` that are lighter or darker than the grey `level` ``[N, 1]``."""
    contrast = uniform(rng, 0.2, 0.75, level.shape)
    lighter = rng.random(level.shape) < 0.5
    lighter = np.where(level < 0.35, True, np.where(level > 0.65, False, lighter))
    return level + np.where(lighter, contrast, -contrast) + uniform(rng, -0.25, 0.25, (len(level), 3))


def blend(image: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Blend colours ``[N, 3]`` into images ``[N, 3, SIZE, SIZE]`` with weights ``[N, SIZE, SIZE]``."""
    return image + (colour[..., None, None] - image) * amount[:, None]


def blur(image: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Each pixel gives `amount` of its value to each neighbour, along both axes."""
    for axis in (2, 3):
        first, last = image.take([0], axis), image.take([-1], axis)
        padded = np.concatenate([first, image, last], axis)
        before, after = np.split(padded, [SIZE], axis)[0], np.split(padded, [2], axis)[1]
        image = image + amount * (before + after - 2 * image)
    return image


def uniform(rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]) -> np.ndarray:
    """Uniform float32 random numbers."""
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)
