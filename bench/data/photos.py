"""Decodes a user's image files of any format and size to square RGB pixels; some may be unreadable."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from bench.common.errors import UserError, reason_of
from bench.common.streams import say
from bench.data.images import ImageSet, pixel_digests
from bench.data.names import DEFAULT_IMAGE_SIZE
from bench.data.pixels import Span, Spans, kind_of, span_of, to_square
from bench.data.roles import Roles

# Raised when the same files give other pixels, parts, ranges or notes; part of cache keys.
DECODING = 8
CHUNK = 32  # images per task of a thread
LEAST = 2  # readable images of a class
ENOUGH = 12  # images of a class, of which four can be held out
FEWEST_VALUES = 8  # of 256, which all but a few pixels of an image have at least
MOST_NAMED = 3  # names of what was left out, in a message

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
    spans: Mapping[str, Span] | None = None,
    together: bool = True,
    digests: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[int, str], Spans]:
    """Decode `count` images with one thread per core.

    Args:
        dataset: its name, for messages.
        name_of: index -> name of the image.
        open_file: index -> the encoded image; may raise.
        count: N.
        size: height and width of the result, in pixels.
        progress: called with (done, N).
        interpolation: ``bilinear`` or ``bicubic``.
        spans: known ranges of images of more than 8 bits.
        together: measure an unknown range over all images; otherwise each image is scaled by its own.
        digests: uint8 ``[N, 32]``, filled in with those of the pixels at the default size.

    Returns:
        uint8 ``[N, 3, size, size]``, zeros where an image is damaged; index -> name and reason for these; and
        `spans` with those that were measured.

    Raises:
        UserError: an image cannot be read for a temporary reason, so that it must not be left out.
    """
    images = np.zeros((count, 3, size, size), dtype=np.uint8)
    unreadable: dict[int, str] = {}

    deep: dict[int, Span] = {}  # decoded after the range of all of them is known
    chosen: dict[int, Span] = {}

    def decode(index: int) -> None:
        opened = partial(open_file, index)
        span = chosen.get(index)
        if not span and (own := span_of(opened)):
            deep[index] = own
        else:
            pixels = to_square(opened, size, interpolation, span)
            if digests is not None:
                usual = (size, interpolation) == (DEFAULT_IMAGE_SIZE, "bilinear")
                small = pixels if usual else to_square(opened, DEFAULT_IMAGE_SIZE, span=span)
                digests[index] = pixel_digests(np.ascontiguousarray(small)[None])[0]
            images[index] = pixels

    def decode_all(indices: Sequence[int]) -> int:
        for index in indices:
            try:
                decode(index)
            # Pillow's parsers raise many types for damaged files.
            except Exception as error:
                if isinstance(error, MemoryError):
                    raise UserError("--dataset", dataset, f"out of memory at {name_of(index)}") from None
                if isinstance(error, OSError) and error.errno in TEMPORARY:
                    problem = f"{name_of(index)} cannot be read ({error.strerror}); the file may be intact"
                    raise UserError("--dataset", dataset, problem) from None
                why = getattr(error, "strerror", None) or reason_of(error)
                unreadable[index] = f"{name_of(index)} ({why})"
        return indices[-1] + 1

    # Pillow warns about unusual files that it can read.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for done in threads.map(decode_all, _chunks(range(count))):
            if progress:
                progress(done, count)
        known: Spans = dict(spans or {})
        for kind in ("int", "float"):
            own = [span for span in deep.values() if kind_of(span) == kind and span[0] <= span[1]]
            if together and own and kind not in known:  # own: not only images of NaN
                low, high = min(span[0] for span in own), max(span[1] for span in own)
                known[kind] = low, high
                told = f"{len(own)} images have more than 8 bits; {low:g} to {high:g} become 0 to 255"
                say(f"note: {dataset}: {told}")
        chosen |= {index: known.get(kind_of(span), span) for index, span in deep.items()}
        for _ in threads.map(decode_all, _chunks(sorted(chosen))):
            pass
    return images, dict(sorted(unreadable.items())), known


def _chunks(indices: Sequence[int]) -> list[Sequence[int]]:
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]


@dataclass(frozen=True)
class Photos:
    """Decoded images in the order of their files.

    Attributes:
        name: the data set's name.
        images: uint8 ``[N, 3, H, W]``.
        digests: uint8 ``[N, 32]``, of the pixels at the default size.
        labels: int64 ``[N]``.
        roles: which images are test or validation images, and which classes novel.
        class_names: in label order.
        unreadable: index -> file and reason, for images that could not be decoded.
        name_of: index -> name of an image.
        superclass: one per class, or None.
        unused: files of the source that do not belong to a class.
        notes: what a user should know about the source, one line each.
        spans: ranges of images of more than 8 bits.
    """

    name: str
    images: np.ndarray
    digests: np.ndarray
    labels: np.ndarray
    roles: Roles
    class_names: list[str]
    unreadable: dict[int, str]
    name_of: Callable[[int], str]
    superclass: list[str] | None = None
    unused: Sequence[str] = ()
    notes: Sequence[str] = ()
    spans: Spans = field(default_factory=dict)

    @property
    def small(self) -> dict[str, int]:
        """Classes with fewer than `LEAST` readable images -> their number."""
        readable = np.delete(self.labels, list(self.unreadable))
        counts = np.bincount(readable, minlength=len(self.class_names)).tolist()
        return {name: count for name, count in zip(self.class_names, counts, strict=True) if count < LEAST}


def image_set(photos: Photos) -> ImageSet:
    """Make an image set without unreadable images and without classes of fewer than `LEAST` others.

    If the source has no test images, some of each class are held out (`lowest_digests`).

    Raises:
        UserError: more than half of the images cannot be read, or fewer than two classes remain.
    """
    names, small, roles = photos.class_names, photos.small, photos.roles
    unreadable = list(photos.unreadable.values())
    lines = []
    if unreadable:
        lines.append(listed(f"{len(unreadable)} of {len(photos.images)} images cannot be read", unreadable))
        if 2 * len(unreadable) > len(photos.images):
            raise UserError("--dataset", photos.name, lines[0])
    if small:
        counted = [f"{name} ({count})" for name, count in small.items()]
        what = f"classes with fewer than {LEAST} readable images"
        if len(names) - len(small) < 2:
            raise UserError("--dataset", photos.name, listed(what, counted))
        lines.append(listed(f"{len(small)} of {len(names)} {what}", counted))
    if photos.unused:
        lines.append(listed(f"{len(photos.unused)} files that do not belong to a class", photos.unused))
    kept_classes = np.array([name not in small for name in names])
    kept = kept_classes[photos.labels]
    kept[list(photos.unreadable)] = False

    def of_kept(values: list[str] | None) -> list[str] | None:
        return values and [value for value, keep in zip(values, kept_classes, strict=True) if keep]

    whole = bool(kept.all())  # then the pixels are not copied
    images, digests = (of if whole else of[kept] for of in (photos.images, photos.digests))
    labels = (np.cumsum(kept_classes) - 1)[photos.labels[kept]]
    data = ImageSet.build(
        photos.name,
        images,
        labels,
        lowest_digests(digests, labels) if roles.held_out is None else roles.held_out[kept],
        of_kept(names) or [],
        of_kept(photos.superclass),
        of_kept(roles.part),
        None if roles.validation is None else roles.validation[kept],
        digests,
    )
    notes = (*(f"left out {line}" for line in lines), *photos.notes, *flattened(photos))
    return replace(
        data,
        left_out=len(unreadable),
        left_out_classes=tuple(small),
        notes=notes,
        chosen=roles.held_out is None,
        spans=photos.spans,
    )


def flattened(photos: Photos) -> list[str]:
    """One line if a range of more than 8 bits leaves most images with one grey value but for a few pixels."""
    if not photos.spans:
        return []
    readable = [image for i, image in enumerate(photos.images) if i not in photos.unreadable]
    spread = [np.subtract(*np.percentile(image, (98, 2))) for image in readable]
    flat = sum(values < FEWEST_VALUES for values in spread)
    if 2 * flat <= len(readable):
        return []
    what = f"{flat} of {len(readable)} images have nearly one colour after scaling to 8 bits"
    return [f"{what}: do outliers or fill values such as -9999 set the range?"]


def listed(what: str, names: Sequence[str]) -> str:
    """What there is and the first of its names, in one line."""
    return f"{what}: {'; '.join(names[:MOST_NAMED])}" + ("; ..." if len(names) > MOST_NAMED else "")


def lowest_digests(digests: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A sixth of each class, but four of 12 to 23 images: those with the lowest pixel digests.

    Four, because both halves of the held-out images need two for a pair.

    Args:
        digests: uint8 ``[N, 32]``.
        labels: int ``[N]``.

    Returns:
        bool ``[N]``.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: digests[i].tobytes())
        chosen[members[: max(len(members) // 6, 4 if len(members) >= ENOUGH else 0)]] = True
    return chosen
