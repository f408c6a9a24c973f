"""Finds the image files of a folder, their classes, and which part (train, validation, test) they are in."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.common.errors import UserError
from bench.common.files import expand_user, is_file, is_folder
from bench.data.names import ARROW, DEFAULT_SPLIT, GIVEN, check_classes, class_key
from bench.data.roles import NO_TEST, PARTS, Roles, part_of, roles

LAYOUT = "a folder with PATH/<class>/<image> or PATH/{train,val,test}/<class>/<image>"
LISTS = "PATH/{train,val,test}.csv with the columns filename,label"

Classes = dict[str, list[str]]
"""Class name -> files, relative to the folder."""


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    Attributes:
        path: the folder.
        class_names: alphabetical; some may have no images.
        files: relative to `path`, class by class.
        labels: one per file.
        roles: what the images are for, according to the folder's parts.
        unused: images that are in no class, and other files of class folders.
        notes: what a user should know about the layout, one line each.
    """

    path: Path
    class_names: list[str]
    files: list[str]
    labels: list[int]
    roles: Roles = field(default_factory=Roles)
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def key(self, size: int) -> str:
        """Cache key of the decoded images: path, size, every file's name, class and stamp."""
        from bench.data.cache import stamp
        from bench.data.photos import DECODING

        stamps = [(file, stamp(self.path / file)) for file in self.files]
        about = (self.roles.key(), self.unused, self.class_names, self.labels)
        return f"folder {DECODING} {self.path.resolve()} {size} {about} {stamps}"


def scan(path: Path) -> Listing:
    """List the images. Hidden files are ignored, links are followed.

    Raises:
        UserError: the folder does not exist or has fewer than two classes.
    """
    if not is_folder(path):
        problem = "is a file" if is_file(path) else "no such folder"
        raise UserError("--dataset", f"folder:{path}", f"{problem}; must be {LAYOUT}")
    try:
        parts, places = _from_lists(path), list[Path]()
        if not parts:
            parts, places = _from_folders(path)
    except OSError as error:
        raise UserError("--dataset", f"folder:{path}", f"cannot be read: {error}") from None
    names = sorted({name for classes in parts.values() for name in classes})
    _check_names(path, names)
    found = [
        (file, label, part)
        for label, name in enumerate(names)
        for part in parts
        for file in parts[part].get(name, [])
    ]
    files, labels, of_part = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    use = roles(np.array(labels, dtype=np.int64), of_part, len(names))
    unused = tuple(unused_files(path, set(files), set(places)))
    alone = len(parts) > 1 and not use.part and use.held_out is None
    notes = (NO_TEST,) if alone else ()
    return Listing(path, names, files, labels, use, unused, notes)


def default_split(dataset: str) -> str:
    """``own`` for a folder whose parts have different classes, otherwise ``90-10``."""
    place = dataset.partition(ARROW)[0].removeprefix("folder:")
    try:
        return GIVEN if scan(expand_user(place)).roles.part else DEFAULT_SPLIT
    except UserError:  # reported when the images are loaded
        return DEFAULT_SPLIT


def _check_names(path: Path, names: Sequence[str]) -> None:
    if garbled := [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]:
        raise UserError("--dataset", f"folder:{path}", f"class name {garbled[0]!r} is not UTF-8")
    check_classes(names, f"folder:{path}")
    if len(names) < 2:
        problem = f"has {len(names)} classes, at least 2 needed; must be {LAYOUT}, or {LISTS}"
        raise UserError("--dataset", f"folder:{path}", problem)


def _from_folders(path: Path) -> tuple[dict[str, Classes], list[Path]]:
    """Part -> classes; and the folders of the classes. Only a training part if the folder has no parts."""
    parts: dict[str, Classes] = {part: {} for part in PARTS}
    top = folders_in(path)
    inner = [(part, own) for place in top if (part := part_of(place.name)) for own in folders_in(place)]
    for part, own in inner:
        parts[part].setdefault(own.name, []).extend(images_of(path, own))
    if any(files for classes in parts.values() for files in classes.values()):
        known = set(map(class_key, parts["train"]))
        for part in ("validation", "test"):
            if len(parts[part]) == 1 < len(known) and known.isdisjoint(map(class_key, parts[part])):
                parts[part] = {}  # images without labels, such as test/unknown/
        return parts, [own for _, own in inner]
    return {"train": {own.name: images_of(path, own) for own in top}}, top


def _from_lists(path: Path) -> dict[str, Classes]:
    """Part -> classes of train.csv, val.csv and test.csv with the columns filename and label; empty if none.

    Files are relative to ``images`` in the folder, or to the folder.
    """
    parts: dict[str, Classes] = {}
    images = "images/" if is_folder(path / "images") else ""
    for file in sorted(path.glob("*.csv")):
        if not ((part := part_of(file.stem)) and is_file(file)):
            continue
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            rows = list(csv.DictReader(lines, skipinitialspace=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError("--dataset", f"folder:{path}", f"{file.name} cannot be read: {error}") from None
        if not rows or not {"filename", "label"} <= rows[0].keys():
            continue
        classes = parts.setdefault(part, {})
        for row in rows:
            if label := (row["label"] or "").strip():  # images without one are reported as unused
                classes.setdefault(label, []).append(images + (row["filename"] or ""))
    return {part: parts[part] for part in PARTS if part in parts} if "train" in parts else {}


def is_image(name: str) -> bool:
    """Whether a file of this name is an image of a format that is read."""
    from bench.data.pixels import formats

    _, dot, ending = name.rpartition(".")  # without a `Path`, for folders of a million files
    return dot + ending.lower() in formats()


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def images_of(path: Path, folder: Path) -> list[str]:
    """The images of a class, relative to `path`: of its folder or, if it has none, of its only subfolder."""
    if found := images_in(path, folder):
        return found
    # <class>/images/ in Tiny ImageNet. Synology names folders of thumbnails like images.
    inner = [place for place in folders_in(folder) if not is_image(place.name)]
    return images_in(path, inner[0]) if len(inner) == 1 else []


def images_in(path: Path, folder: Path) -> list[str]:
    """The images directly in a folder, sorted, relative to `path`."""
    # A dead link counts: it is reported later as unreadable.
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and is_image(entry.name) and not _is_folder(entry)
        ]
    prefix = _prefix(path, folder)
    return [prefix + name for name in sorted(names)]


def _prefix(path: Path, folder: Path) -> str:
    return "" if folder == path else f"{folder.relative_to(path).as_posix()}/"


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def unused_files(path: Path, used: set[str], classes: set[Path]) -> Iterator[str]:
    """Images that are not used, and other files beside used ones; hidden files do not count."""
    for place, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        here = Path(place)
        prefix = _prefix(path, here)
        for name in sorted(names):
            file = prefix + name
            if not name.startswith(".") and file not in used and (is_image(name) or here in classes):
                yield file
