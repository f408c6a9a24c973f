"""Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, each drawn by 20 people.

Stored as torchvision stores it. A character is a class and its alphabet the superclass. Images are white ink
on black, as in MNIST and as usual in the field, so that the black padding of augmentation is background.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from bench.common.errors import UserError
from bench.common.progress import Report
from bench.data import folder
from bench.data.download import Archive, require
from bench.data.images import ImageSet
from bench.data.listing import Listing
from bench.data.published_splits import OMNIGLOT, OMNIGLOT_VALIDATION, differences

SIZE = 28  # pixels, as in published results since Vinyals et al. 2016
FOLDER = "omniglot-py"
BACKGROUND, EVALUATION = "images_background", "images_evaluation"
MEGABYTES = {BACKGROUND: 9, EVALUATION: 6}
# Ratio splits train on the first 14 drawings of a base character and hold out the last 6.
TRAINING_SHARE = 0.7


def _address(name: str) -> tuple[list[str], str]:
    from torchvision.datasets import Omniglot

    return [f"{Omniglot.download_url_prefix}/{name}.zip"], Omniglot.zips_md5[name]


ARCHIVES = [
    Archive(
        f"Omniglot's {name} ({megabytes} MB)",
        f"{FOLDER}/{name}",
        f"{FOLDER}/{name}.zip",
        partial(_address, name),
    )
    for name, megabytes in MEGABYTES.items()
]


def locate(root: Path, origin: str, offline: bool) -> Listing:
    """Find the drawings; download missing files.

    Arguments and errors as for `download.require`.
    """
    require("omniglot", ARCHIVES, root, origin, offline)
    place = root / FOLDER
    files = []
    for name in (BACKGROUND, EVALUATION):
        found = sorted(
            path.relative_to(place).as_posix() for path in (place / name).glob("[!.]*/[!.]*/[!.]*.png")
        )
        if not found:
            raise UserError(
                "--dataset", "omniglot", f"{place / name} does not contain <alphabet>/<character>/<image>.png"
            )
        files += found
    classes = [_class_of(file) for file in files]
    names = sorted(set(classes))
    ids = {name: i for i, name in enumerate(names)}
    return Listing(place, names, files, [ids[name] for name in classes])


def _class_of(file: str) -> str:
    """``images_background/Greek/character01/0394_01.png`` -> ``Greek/character01``."""
    return "/".join(file.split("/")[1:3])


def read(
    listing: Listing,
    size: int = SIZE,
    progress: Report | None = None,
    interpolation: str = "bilinear",
) -> tuple[ImageSet | None, list[str]]:
    """Decode everything.

    Args:
        listing: as `locate` gives it.
        size: height and width of the result, in pixels.
        progress: called with (what, images done, total images).
        interpolation: ``bilinear`` or ``bicubic``.

    Returns:
        The images, or None if some cannot be read; and every problem, one line each.
    """
    photos = folder.read(listing, size, progress, interpolation, "omniglot", identify=False)
    if photos.unreadable:
        return None, [f"{listing.path}: cannot read {which}" for which in photos.unreadable.values()]
    alphabets = [name.partition("/")[0] for name in listing.class_names]
    novel = {_class_of(file) for file in listing.files if file.startswith(EVALUATION)}
    part = [
        "novel" if name in novel else "validation" if alphabet in OMNIGLOT_VALIDATION else "base"
        for name, alphabet in zip(listing.class_names, alphabets, strict=True)
    ]
    data = ImageSet.build(
        "omniglot",
        np.subtract(255, photos.images, out=photos.images),
        photos.labels,
        _last_drawings(photos.labels),
        listing.class_names,
        alphabets,
        part,
    )
    return data, differences(data, OMNIGLOT)


def _last_drawings(labels: np.ndarray) -> np.ndarray:
    """The images of each class after its training share, in file order: bool ``[N]``."""
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out[members[round(TRAINING_SHARE * len(members)) :]] = True
    return held_out
