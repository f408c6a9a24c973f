"""Decoding PNGs: pixels are those of Pillow, and damage is noticed."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from bench.data.png import BATCH, decode_pngs


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def pictures(count: int, size: int = 8) -> list[Image.Image]:
    """Smooth and noisy ones, so that the encoder picks every kind of filter."""
    rng = np.random.default_rng(0)
    ramps = (
        rng.integers(0, 9, (count, 1, 1, 3))
        * np.add.outer(np.arange(size), np.arange(size))[None, :, :, None]
    )
    noise = rng.integers(0, 256, (count, size, size, 3)) * (np.arange(count) % 3 == 0)[:, None, None, None]
    return [Image.fromarray(pixels) for pixels in ((ramps + noise) % 256).astype(np.uint8)]


def by_pillow(files: list[bytes]) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).transpose(2, 0, 1) for file in files]
    )


def test_pixels_are_pillows():
    files = [encoded(image) for image in pictures(60)]
    images, damaged = decode_pngs(files, 8)
    assert not damaged
    np.testing.assert_array_equal(images, by_pillow(files))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "I;16"])
def test_other_modes_become_rgb(mode):
    grey = pictures(2)[1].convert("L")
    other = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    )
    files = [encoded(pictures(1)[0]), encoded(other)]
    images, damaged = decode_pngs(files, 8)
    assert not damaged
    np.testing.assert_array_equal(images, by_pillow(files))


def test_every_flipped_bit_is_noticed_or_harmless():
    """Pillow alone lets dozens of these through with other pixels."""
    file = encoded(pictures(1)[0])
    flipped = [file[:i] + bytes([file[i] ^ 0x10]) + file[i + 1 :] for i in range(len(file))]
    images, damaged = decode_pngs(flipped, 8)
    right = by_pillow([file])[0]
    wrong = [i for i in range(len(file)) if i not in damaged and not np.array_equal(images[i], right)]
    assert wrong == []
    assert len(damaged) > 0.9 * len(file)


def test_damaged_images_are_named_and_the_others_decoded():
    good = [encoded(image) for image in pictures(4)]
    files = [good[0], None, good[1], good[2][:60], good[3], b"", encoded(pictures(1, size=9)[0])]
    images, damaged = decode_pngs(files, 8)
    assert sorted(damaged) == [1, 3, 5, 6]
    assert damaged[1] == "no image" and damaged[6] == "9x9 pixels, not 8x8"
    np.testing.assert_array_equal(images[[0, 2, 4]], by_pillow([good[0], good[1], good[3]]))
    assert not images[[1, 3, 5, 6]].any()


def test_batches_join_and_progress_ends_at_the_total():
    files = [encoded(image) for image in pictures(3, size=2)] * (BATCH // 2)
    seen = []
    images, damaged = decode_pngs(files, 2, lambda done, total: seen.append((done, total)))
    assert not damaged and seen == [(BATCH, len(files)), (len(files), len(files))]
    np.testing.assert_array_equal(images, np.tile(by_pillow(files[:3]), (BATCH // 2, 1, 1, 1)))


def test_more_data_than_pixels_is_ignored():
    file = encoded(pictures(1)[0])
    start, end = file.index(b"IDAT") - 4, file.index(b"IEND") - 4
    packed = zlib.compress(zlib.decompress(file[start + 8 : end - 4]) + bytes(10_000_000))
    chunk = (
        len(packed).to_bytes(4, "big") + b"IDAT" + packed + zlib.crc32(b"IDAT" + packed).to_bytes(4, "big")
    )
    images, damaged = decode_pngs([file[:start] + chunk + file[end:]], 8)
    assert not damaged
    np.testing.assert_array_equal(images, by_pillow([file]))
