"""Decodes a user's image files of any format and size to square RGB pixels; some may be unreadable."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from bench.common.errors import UserError, one_line
from bench.data.images import ImageSet, pixel_digests
from bench.data.pixels import Span, span_of, to_square

# Raised when the same files give other pixels or other held-out images; part of cache keys.
DECODING = 2
CHUNK = 32  # images per task of a thread
MOST_NAMED = 3  # unreadable images named in a message

TEMPORARY = {
    errno.EACCES, errno.EAGAIN, errno.EBUSY, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.EINTR, errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE, errno.ENODEV,
    errno.ENOMEM, errno.ENOTCONN, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
"""System errors that do not mean that a file is damaged."""


def decode_photos(
    dataset: str,
    name_of: Callable[[int], str],
    open_file: Callable[[int], Path | IO[bytes]],
    count: int,
    size: int,
    progress: Callable[[int, int], None] | None = None,
    interpolation: str = "bilinear",
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode `count` images with one thread per core.

    Args:
        dataset: its name, for messages.
        name_of: index -> name of the image.
        open_file: index -> the encoded image; may raise.
        count: N.
        size: height and width of the result, in pixels.
        progress: called with (done, N).
        interpolation: ``bilinear`` or ``bicubic``.

    Returns:
        uint8 ``[N, 3, size, size]``, zeros where an image is damaged, and index -> name and reason for these.

    Raises:
        UserError: an image cannot be read for a temporary reason, so that it must not be left out.
    """
    images = np.zeros((count, 3, size, size), dtype=np.uint8)
    unreadable: dict[int, str] = {}

    deep: dict[int, Span] = {}  # scaled after the range of all of them is known

    def decode(index: int, span: Span | None) -> None:
        opened = partial(open_file, index)
        own = None if span else span_of(opened)
        if own:
            deep[index] = own
        else:
            images[index] = to_square(opened, size, interpolation, span)

    def decode_all(indices: Sequence[int], span: Span | None = None) -> int:
        for index in indices:
            try:
                decode(index, span)
            # Pillow's parsers raise many types for damaged files.
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, MemoryError):
                    raise UserError("--dataset", dataset, f"out of memory at {name_of(index)}") from None
                if isinstance(error, OSError) and error.errno in TEMPORARY:
                    problem = f"{name_of(index)} cannot be read now ({error.strerror}); nothing was left out"
                    raise UserError("--dataset", dataset, problem) from None
                unreadable[index] = f"{name_of(index)} ({reason})"
        return indices[-1] + 1

    # Pillow warns about unusual files that it can read.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for done in threads.map(decode_all, _chunks(range(count))):
            if progress:
                progress(done, count)
        if deep:
            span = min(low for low, _ in deep.values()), max(high for _, high in deep.values())
            told = f"{len(deep)} images have more than 8 bits; {span[0]:g} to {span[1]:g} become 0 to 255"
            print(f"note: {one_line(dataset)}: {told}", file=sys.stderr)
            for _ in threads.map(partial(decode_all, span=span), _chunks(sorted(deep))):
                pass
    return images, dict(sorted(unreadable.items()))


def _chunks(indices: Sequence[int]) -> list[Sequence[int]]:
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]


@dataclass(frozen=True)
class Photos:
    """Decoded images in the order of their files.

    Attributes:
        name: the data set's name.
        images: uint8 ``[N, 3, H, W]``.
        labels: int64 ``[N]``.
        held_out: bool ``[N]``; None if the source has no test images.
        class_names: in label order.
        unreadable: index -> file and reason, for images that could not be decoded.
        name_of: index -> name of an image.
        superclass: one per class, or None.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray | None
    class_names: list[str]
    unreadable: dict[int, str]
    name_of: Callable[[int], str]
    superclass: list[str] | None = None


def image_set(photos: Photos) -> ImageSet:
    """Make an image set without the unreadable images, and count these.

    If the source has no test images, a sixth of each class is held out: the lowest pixel digests.

    Raises:
        UserError: more than half of the images cannot be read, or a class has fewer than two readable ones.
    """
    images, labels, held_out, names = photos.images, photos.labels, photos.held_out, photos.class_names
    left_out, first = len(photos.unreadable), tuple(photos.unreadable.values())[:MOST_NAMED]
    if left_out:
        if 2 * left_out > len(images):
            raise UserError("--dataset", photos.name, left_out_line(left_out, len(images), first))
        kept = np.delete(np.arange(len(images)), list(photos.unreadable))
        images, labels = images[kept], labels[kept]
        held_out = None if held_out is None else held_out[kept]
    counts = np.bincount(labels, minlength=len(names))
    if few := [f"{names[i]} ({counts[i]})" for i in np.flatnonzero(counts < 2)]:
        listed = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
        raise UserError("--dataset", photos.name, f"classes with fewer than 2 readable images: {listed}")
    if held_out is None:
        held_out = lowest_sixth(images, labels)
    data = ImageSet.build(photos.name, images, labels, held_out, names, photos.superclass)
    return replace(data, left_out=left_out, left_out_first=first)


def left_out_line(count: int, of: int, first: Sequence[str]) -> str:
    """The number of unreadable images and the first of them, in one line."""
    named = "; ".join(first) + ("; ..." if count > len(first) else "")
    return f"{count} of {of} images cannot be read: {named}"


def lowest_sixth(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The floor(n / 6) images with the lowest pixel digests among the n of each class: bool ``[N]``."""
    digests = [digest.tobytes() for digest in pixel_digests(images)]
    chosen = np.zeros(len(images), dtype=bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=digests.__getitem__)
        chosen[members[: len(members) // 6]] = True
    return chosen
