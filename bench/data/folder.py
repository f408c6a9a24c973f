"""A folder of images, with one subfolder per class."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.common.errors import UserError
from bench.common.files import is_file, is_folder
from bench.data.cache import stamp
from bench.data.names import check_classes
from bench.data.photos import DECODING, Photos, decode_photos

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
PARTS = ("train", "test")
LAYOUT = "a folder with PATH/<class>/<image> or PATH/{train,test}/<class>/<image>"


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    Attributes:
        path: the folder.
        class_names: alphabetical.
        files: relative to `path`, class by class.
        labels: one per file.
        held_out: one per file; None if the folder has no ``train`` and ``test``.
    """

    path: Path
    class_names: list[str]
    files: list[str]
    labels: list[int]
    held_out: list[bool] | None

    def key(self, size: int) -> str:
        """Cache key of the decoded images: path, size, every file's name and stamp."""
        stamps = [(file, stamp(self.path / file)) for file in self.files]
        return f"folder {DECODING} {self.path.resolve()} {size} {self.held_out is None} {stamps}"


def scan(path: Path) -> Listing:
    """List the images. Hidden files are ignored, links are followed.

    Raises:
        UserError: the folder does not exist or has fewer than two classes.
    """
    if not is_folder(path):
        problem = "is a file" if is_file(path) else "no such folder"
        raise UserError("--dataset", f"folder:{path}", f"{problem}; must be {LAYOUT}")
    try:
        classes = {folder.name: _images_in(folder) for folder in _folders_in(path)}
        parts = {
            part: {folder.name: _images_in(folder) for folder in _folders_in(path / part)} for part in PARTS
        }
    except OSError as error:
        raise UserError("--dataset", f"folder:{path}", f"cannot be read: {error}") from None
    in_parts = any(images for part in parts.values() for images in part.values())
    if in_parts:
        if unused := sorted(classes.keys() - set(PARTS)):
            print(f"warning: {path}: only train and test are used, not {', '.join(unused)}", file=sys.stderr)
        names = sorted(parts["train"].keys() | parts["test"].keys())
    else:
        parts = {"": classes}
        names = sorted(classes)
    if garbled := [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]:
        raise UserError("--dataset", f"folder:{path}", f"class name {garbled[0]!r} is not UTF-8")
    check_classes(names, f"folder:{path}")
    if len(names) < 2:
        raise UserError(
            "--dataset", f"folder:{path}", f"has {len(names)} classes, at least 2 needed; must be {LAYOUT}"
        )
    found = [
        (f"{part}/{name}/{image}".lstrip("/"), label, part == "test")
        for label, name in enumerate(names)
        for part in parts
        for image in parts[part].get(name, [])
    ]
    files, labels, held_out = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    return Listing(path, names, files, labels, held_out if in_parts else None)


def _folders_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def _images_in(folder: Path) -> list[str]:
    # A dead link counts: it is reported later as unreadable.
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and Path(entry.name).suffix.lower() in SUFFIXES
            and not _is_folder(entry)
        )


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _regular_file(path: Path) -> Path:
    """The path, if it is a regular file: reading a pipe would wait forever.

    Raises:
        OSError: it does not exist. ValueError: it is a pipe or a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    return path


def read(
    listing: Listing,
    size: int,
    progress: Callable[[str, int, int], None] | None = None,
    interpolation: str = "bilinear",
    dataset: str | None = None,
) -> Photos:
    """Decode the images.

    Args:
        listing: the files.
        size: height and width of the result, in pixels.
        progress: called with (what, done, total).
        interpolation: ``bilinear`` or ``bicubic``.
        dataset: as in ``--dataset``, by default ``folder:PATH``.

    Raises:
        UserError: an image cannot be read for a temporary reason.
    """
    dataset = dataset or f"folder:{listing.path}"
    images, unreadable = decode_photos(
        dataset,
        listing.files.__getitem__,
        lambda index: _regular_file(listing.path / listing.files[index]),
        len(listing.files),
        size,
        progress and partial(progress, f"decoding {listing.path}"),
        interpolation,
    )
    return Photos(
        dataset,
        images,
        np.array(listing.labels, dtype=np.int64),
        None if listing.held_out is None else np.array(listing.held_out, dtype=bool),
        listing.class_names,
        unreadable,
        listing.files.__getitem__,
    )
