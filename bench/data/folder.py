"""Reads the images of a folder."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.common.errors import one_line
from bench.common.files import check_regular
from bench.common.progress import Report
from bench.data.listing import Listing
from bench.data.photos import Photos, decode_photos


def read(
    listing: Listing,
    size: int,
    progress: Report | None = None,
    interpolation: str = "bilinear",
    dataset: str | None = None,
    identify: bool = True,
) -> Photos:
    """Decode the images.

    Args:
        listing: the files.
        size: height and width of the result, in pixels.
        progress: called with (what, done, total).
        interpolation: ``bilinear`` or ``bicubic``.
        dataset: as in ``--dataset``, by default ``folder:PATH``.
        identify: fill in the digests; otherwise they are zeros.

    Raises:
        UserError: an image cannot be read for a temporary reason.
    """
    dataset = dataset or f"folder:{listing.path}"
    digests = np.zeros((len(listing.files), 32), dtype=np.uint8)
    images, unreadable, spans = decode_photos(
        dataset,
        listing.files.__getitem__,
        lambda index: check_regular(listing.path / listing.files[index]),
        len(listing.files),
        size,
        progress and partial(progress, f"decoding {one_line(listing.path)}"),
        interpolation,
        digests=digests if identify else None,
    )
    return Photos(
        dataset,
        images,
        digests,
        np.array(listing.labels, dtype=np.int64),
        listing.roles,
        listing.class_names,
        unreadable,
        listing.files.__getitem__,
        unused=listing.unused,
        notes=listing.notes,
        spans=spans,
    )
