"""Formats of images, bit depths, transparency, and how an image becomes a square of 8 bits."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_folders import SIZE, fill, load, random_pixels, two_classes
from PIL import Image

from bench.data.pixels import formats, to_square


def test_every_format_that_pillow_decodes_itself(pictures):
    endings = formats()
    assert {".png", ".jfif", ".tga", ".jp2", ".pgm", ".ico", ".qoi"} <= endings.keys()
    assert not {".eps", ".ps", ".mpg", ".h5", ".pdf", ".txt", ".csv"} & endings.keys()
    for name, first in (("a", 0), ("b", 10)):
        for suffix in (".tga", ".pgm", ".pcx", ".sgi", ".jfif"):
            fill(pictures / name, 1, first=first, suffix=suffix)
            first += 1
    assert len(load(pictures)) == 10


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".PNG"])
def test_lossless_formats_give_the_same_set(pictures, suffix):
    for name, kind in (("one", ".png"), ("two", suffix)):
        two_classes(pictures / name, suffix=kind)
    assert load(pictures / "one").fingerprint == load(pictures / "two").fingerprint


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".gif", ".webp"])
def test_lossy_formats_come_close(tmp_path, suffix):
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    smooth = np.stack([rows * 20, columns * 20, rows + columns + 100], axis=-1).astype(np.uint8)
    options = {} if suffix == ".gif" else {"quality": 95}
    Image.fromarray(smooth).save(tmp_path / f"x{suffix}", **options)
    difference = to_square(lambda: tmp_path / f"x{suffix}", SIZE).transpose(1, 2, 0).astype(int) - smooth
    assert abs(difference).mean() < 12


def square_of(
    image: Image.Image, tmp_path: Path, name: str = "x.png", size: int = SIZE, **options
) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return to_square(lambda: tmp_path / name, size).transpose(1, 2, 0)


def test_grey_and_bilevel(tmp_path):
    grey = random_pixels(0)[..., 0]
    np.testing.assert_array_equal(square_of(Image.fromarray(grey), tmp_path), np.stack([grey] * 3, axis=-1))
    bits = square_of(Image.fromarray(grey > 127), tmp_path)
    np.testing.assert_array_equal(bits, np.stack([(grey > 127) * 255] * 3, axis=-1))


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_become_eight(tmp_path, name):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    deep[0, 0], deep[7, 7] = 0, 65535
    found = square_of(Image.fromarray(deep), tmp_path, name)
    np.testing.assert_array_equal(found, np.stack([deep >> 8] * 3, axis=-1))


def test_floats(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for scale in (1, 255):
        found = square_of(Image.fromarray(values * np.float32(scale)), tmp_path, "x.tif")
        assert abs(found[..., 0].astype(int) - values * 255).max() <= 1


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[4:, :, 3] = 255
    pixels[0, :, 3] = 51  # a fifth
    found = square_of(Image.fromarray(pixels), tmp_path)
    assert (found[1:4] == 255).all() and (found[4:] == [200, 0, 0]).all()
    assert (found[0] == [244, 204, 204]).all()
    palette = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8), 8).reshape(8, 8), "L").convert("P")
    found = square_of(palette, tmp_path, transparency=3)
    assert (found[3] == 255).all() and (found[4] != 255).any()


def test_a_white_pictogram_stays_visible(tmp_path):
    """It would vanish on white."""
    pixels = np.full((8, 8, 4), 255, dtype=np.uint8)
    pixels[:4, :, 3] = 0
    found = square_of(Image.fromarray(pixels), tmp_path)
    assert (found[:4] == 0).all() and (found[4:] == 255).all()


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow can read but not write."""
    height, width, channels = values.shape
    header = struct.pack(">II5B", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_deep(path: Path, kind: str, values: np.ndarray) -> None:
    """Grey `values` in a file with more than 8 bits."""
    if kind.startswith("PNG"):
        channels = int(kind[-1])
        stacked = np.repeat(values[..., None], channels, axis=2).astype(np.uint16)
        stacked[..., 3:] = 65535
        path.with_suffix(".png").write_bytes(png16(stacked))
    else:
        Image.fromarray(values.astype(kind)).save(path.with_suffix(".tif"))


UNSIGNED = [(0, 1), (0, 16), (3, 200)]
DEEP = [
    *((kind, *way) for kind in ("PNG 1", "PNG 3", "PNG 4", "uint16", "int32", "float32") for way in UNSIGNED),
    ("int32", -4e5, 3e3),
    ("float32", -4e5, 3e3),
    ("float32", 0, 1e-3),
]


@pytest.mark.parametrize(("kind", "offset", "scale"), DEEP)
def test_deep_images_are_scaled_by_the_range_of_all(pictures, capsys, kind, offset, scale):
    """8-bit values in a deeper file, sensors of 12 bits, heights, shares: each would be one colour."""
    levels = {}
    for name, first in (("a", 0), ("b", 10)):
        (pictures / name).mkdir(parents=True)
        for seed in range(first, first + 3):
            grey = random_pixels(seed)[..., 0] // 2 + (127 if name == "b" else 0)
            grey[0, 0] = {0: 0, 10: 254}.get(seed, grey[0, 0])  # the extremes are in two of the images
            write_deep(pictures / name / str(seed), kind, offset + scale * grey.astype(np.float64))
            levels[seed] = grey * 255.0 / 254
    data = load(pictures)
    nearest = [
        min(levels, key=lambda seed: abs(image - levels[seed]).max())
        for image in data.images.numpy().astype(float)
    ]
    assert sorted(nearest) == sorted(levels)
    for image, seed in zip(data.images.numpy().astype(float), nearest, strict=True):
        assert abs(image - levels[seed]).max() <= 1.01
    assert capsys.readouterr().err.startswith(f"note: folder:{pictures}: 6 images have more than 8 bits; ")


def test_nan_and_infinity_in_a_deep_image(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1], values[0, 2], values[0, 3] = np.nan, np.inf, -np.inf
    found = square_of(Image.fromarray(values), tmp_path, "x.tif")[..., 0]
    assert found[0, :4].tolist() == [0, 0, 255, 0] and found[7, 7] == 255


def test_cmyk_jpeg(tmp_path):
    found = square_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path, "x.jpg", quality=95)
    assert abs(found.astype(int) - [255, 0, 0]).max() < 8


def test_orientation_in_exif_is_honoured(tmp_path):
    pixels = random_pixels(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the left
    found = square_of(Image.fromarray(pixels), tmp_path, exif=exif)
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    found = square_of(frames[0], tmp_path, "x.gif", save_all=True, append_images=frames[1:])
    assert (found == [255, 0, 0]).all()


def test_resizing_is_antialiased_and_crops_the_centre(tmp_path):
    pixels = random_pixels(0, size=64)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(square_of(Image.fromarray(pixels), tmp_path, size=32), expected)
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    wide = square_of(Image.fromarray(ramp), tmp_path, size=10)
    # The middle hundred columns, ten to a pixel.
    assert abs(wide[:, :, 0].astype(int) - (np.arange(50, 150).reshape(10, 10).mean(axis=1))).max() <= 1
    tall = square_of(Image.fromarray(ramp.transpose(1, 0, 2)), tmp_path, size=10)
    np.testing.assert_array_equal(tall, wide.transpose(1, 0, 2))


def test_small_images_are_enlarged_and_long_ones_cropped(tmp_path):
    assert (square_of(Image.new("RGB", (1, 1), "red"), tmp_path) == [255, 0, 0]).all()
    assert (square_of(Image.new("RGB", (20000, 2), "red"), tmp_path) == [255, 0, 0]).all()


def test_large_jpegs_look_like_fully_decoded_ones(tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((800, 600))
    found = square_of(smooth, tmp_path, "x.jpg", size=32, quality=95).astype(int)
    whole = (
        Image.open(tmp_path / "x.jpg").crop((100, 0, 700, 600)).resize((32, 32), Image.Resampling.BILINEAR)
    )
    assert abs(found - np.asarray(whole)).max() <= 6


def test_other_formats_are_not_opened_whatever_their_name(tmp_path):
    """PostScript would be handed to an outside program."""
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / "x.eps")
    shutil.move(tmp_path / "x.eps", tmp_path / "x.png")
    with pytest.raises(OSError):
        to_square(lambda: tmp_path / "x.png", SIZE)
