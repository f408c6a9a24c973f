"""Decodes tens of thousands of small PNGs quickly, and says which are damaged.

At 32x32 pixels `PIL.Image.open` spends nearly all its time in Python, where threads do not help. So each
file's scanlines are only decompressed, and Pillow decodes those of many files as one tall PNG.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BATCH = 2000  # files decoded as one


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
    for start in range(0, len(files), BATCH):
        plain: dict[int, bytes] = {}
        for index, file in enumerate(files[start : start + BATCH], start):
            lines = _scanlines(file, size) if file else None
            if lines:
                plain[index] = lines
                continue
            try:
                images[index] = _decode_one(file, size)
            # Pillow's parsers raise many types for damaged files.
            except Exception as error:
                damaged[index] = " ".join(str(error).split()) or type(error).__name__
        if plain:
            images[list(plain)] = _unfilter(b"".join(plain.values()), size)
        if progress:
            progress(min(start + BATCH, len(files)), len(files))
    return images, damaged


def _header(width: int, height: int) -> bytes:
    """IHDR of 8-bit RGB, not interlaced."""
    return struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scanlines(file: bytes, size: int) -> bytes | None:
    """The filtered scanlines ``[size, 1 + 3 size]`` of an intact 8-bit RGB PNG; None for any other file."""
    if not file.startswith(SIGNATURE + b"\0\0\0\x0dIHDR" + _header(size, size)):
        return None
    position, packed, kind = len(SIGNATURE), b"", b""
    while kind != b"IEND":
        end = position + 8 + int.from_bytes(file[position : position + 4], "big")
        kind = file[position + 4 : position + 8]
        if end + 4 > len(file) or zlib.crc32(file[position + 4 : end]) != int.from_bytes(
            file[end : end + 4], "big"
        ):
            return None
        if kind == b"IDAT":
            packed += file[position + 8 : end]
        position = end + 4
    stride = 1 + 3 * size
    inflater = zlib.decompressobj()
    try:
        lines = inflater.decompress(packed, size * stride + 1)  # a limit against decompression bombs
    except zlib.error:
        return None
    # At the end of the stream zlib has checked its checksum. Each line starts with its filter, 0 to 4.
    intact = inflater.eof and len(lines) == size * stride
    return lines if intact and max(lines[::stride]) <= 4 else None


def _unfilter(lines: bytes, size: int) -> np.ndarray:
    """Undo the filters of many images' scanlines at once: uint8 ``[N, 3, size, size]``."""
    stacked = np.frombuffer(lines, dtype=np.uint8).reshape(-1, size, 1 + 3 * size)
    # Filters refer to the line above, so a black line separates each image from the one before it.
    stacked = np.pad(stacked, ((0, 0), (1, 0), (0, 0)))
    header, packed = _header(size, len(stacked) * (size + 1)), zlib.compress(stacked.tobytes(), level=0)
    tall = SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    pixels = np.asarray(Image.open(io.BytesIO(tall), formats=("PNG",)))
    return pixels.reshape(len(stacked), size + 1, size, 3)[:, 1:].transpose(0, 3, 1, 2)


def _decode_one(file: bytes | None, size: int) -> np.ndarray:
    """Any other PNG (palette, grey, interlaced), by Pillow: uint8 ``[3, size, size]``."""
    if not file:
        raise ValueError("no image")
    Image.open(io.BytesIO(file), formats=("PNG",)).verify()
    image = Image.open(io.BytesIO(file), formats=("PNG",))
    if image.size != (size, size):
        raise ValueError(f"{image.width}x{image.height} pixels, not {size}x{size}")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
