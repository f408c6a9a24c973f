"""Hugging Face data sets, with `datasets` (the extra ``hf``). Code in a data set is never run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.common.errors import UserError, with_extra
from bench.common.files import expand_user, is_folder
from bench.common.progress import Report
from bench.common.streams import say
from bench.data.cache import stamps
from bench.data.names import check_classes
from bench.data.photos import DECODING, Photos, decode_photos, listed
from bench.data.roles import NO_TEST, part_of, roles

LABEL_COLUMNS = ("fine_label", "label")
SUPERCLASS_COLUMN = "coarse_label"


@dataclass(frozen=True)
class Found:
    """A data set that `datasets` has opened.

    Attributes:
        name: as the user gave it, without ``hf:``.
        where: a local folder, or the hub's name.
        splits: the splits used, by name.
        image, label: names of columns.
        superclass: name of a column, or None.
    """

    name: str
    where: str
    splits: dict[str, Any]
    image: str
    label: str
    superclass: str | None

    def key(self, size: int) -> str:
        """Cache key of the decoded images: `datasets`' fingerprint of each split, files, size."""
        prints = {split: data._fingerprint for split, data in self.splits.items()}
        files = stamps(sorted(Path(self.where).rglob("*"))) if is_folder(Path(self.where)) else []
        return f"hf {DECODING} {self.name} {size} {self.image} {self.label} {prints} {files}"


def find(name: str, offline: bool = False) -> Found:
    """Open a data set by hub name or local folder, downloading it where needed.

    Args:
        name: e.g. ``uoft-cs/cifar100``, or a folder of images, of parquet files or of `save_to_disk`.
        offline: use only local files.

    Raises:
        UserError: `datasets` is not installed, or the data set cannot be loaded or has no labelled images.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise _error(name, f"the datasets library is missing; {with_extra('hf')}") from None
    local = expand_user(name)
    if not is_folder(local) and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise _error(name, "no such folder")
    # Do not run scripts of data sets, and do not ask the user (before version 4 it asked).
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    try:
        with _network(offline):
            if any((local / file).is_file() for file in ("state.json", "dataset_dict.json")):
                opened = datasets.load_from_disk(str(local))
            else:
                opened = datasets.load_dataset(str(local) if local.is_dir() else name)
    # `datasets` raises exceptions of many libraries.
    except Exception as error:
        raise _error(name, f"cannot be opened{' with --offline' if offline else ''}: {error}") from None
    every = {"train": opened} if isinstance(opened, datasets.Dataset) else dict(opened)
    splits = {split: data for split, data in every.items() if part_of(split)} or every
    if unused := sorted(every.keys() - splits.keys()):
        say(f"warning: hf:{name}: {', '.join(unused)} not used, only {', '.join(splits)}")
    features = next(iter(splits.values())).features
    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not images or not labels:
        columns = ", ".join(f"{column} ({type(kind).__name__})" for column, kind in features.items())
        raise _error(name, f"needs a column of type Image and one of type ClassLabel; it has {columns}")
    label = next((column for column in LABEL_COLUMNS if column in labels), labels[0])
    check_classes(features[label].names, f"hf:{name}")
    superclass = SUPERCLASS_COLUMN if SUPERCLASS_COLUMN in labels and label != SUPERCLASS_COLUMN else None
    where = str(local) if local.is_dir() else f"the Hugging Face hub, {name}"
    return Found(name, where, splits, images[0], label, superclass)


def read(
    found: Found,
    size: int,
    progress: Report | None = None,
    interpolation: str = "bilinear",
) -> Photos:
    """Decode the labelled images.

    Args:
        found: the data set.
        size: height and width of the result, in pixels.
        progress: called with (what, done, total).
        interpolation: ``bilinear`` or ``bicubic``.

    Raises:
        UserError: an image cannot be read for a temporary reason.
    """
    import datasets

    tables = [data.cast_column(found.image, datasets.Image(decode=False)) for data in found.splits.values()]
    every = [
        (table, split, row, -1 if label is None else label)  # hidden test labels are -1
        for table, split in zip(tables, found.splits, strict=True)
        for row, label in enumerate(table[found.label])
    ]
    rows = [row for row in every if row[3] >= 0]

    def name_of(index: int) -> str:
        return f"{rows[index][1]} row {rows[index][2]}"

    digests = np.zeros((len(rows), 32), dtype=np.uint8)
    images, unreadable, spans = decode_photos(
        f"hf:{found.name}",
        name_of,
        lambda index: _file(rows[index][0][rows[index][2]][found.image]),
        len(rows),
        size,
        progress and partial(progress, f"decoding hf:{found.name}"),
        interpolation,
        digests=digests,
    )
    class_names, superclass = _names(found)
    labels = np.array([label for *_, label in rows], dtype=np.int64)
    use = roles(labels, [part_of(split) or "train" for _, split, _, _ in rows], len(class_names))
    own = "its splits have different classes: --split own takes these as base, validation and novel classes"
    notes = [own] if use.part else [NO_TEST] if len(found.splits) > 1 and use.held_out is None else []
    if hidden := [f"{split} row {row}" for _, split, row, label in every if label < 0]:
        notes.append(listed(f"left out {len(hidden):,} rows without a label", hidden))
    return Photos(
        f"hf:{found.name}",
        images,
        digests,
        labels,
        use,
        class_names,
        unreadable,
        name_of,
        superclass,
        notes=notes,
        spans=spans,
    )


def _file(cell: dict[str, Any] | None) -> Path | IO[bytes]:
    if cell is None:
        raise ValueError("no image")
    return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"])


def _names(found: Found) -> tuple[list[str], list[str] | None]:
    """Class names in label order, and superclasses if there is a column for them."""
    features = next(iter(found.splits.values())).features
    class_names = list(features[found.label].names)
    if found.superclass is None:
        return class_names, None
    superclass = [""] * len(class_names)
    for data in found.splits.values():
        for label, above in set(zip(data[found.label], data[found.superclass], strict=True)):
            if label is not None and above is not None and label >= 0 and above >= 0:
                superclass[label] = features[found.superclass].names[above]
    return class_names, superclass


@contextmanager
def _network(offline: bool) -> Iterator[None]:
    """`hub`, which keeps `datasets` off the network too."""
    import datasets

    from methods.timm_backbone import hub

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline  # read from the environment at import
    try:
        with hub(offline):
            yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _error(name: str, why: str) -> UserError:
    return UserError("--dataset", f"hf:{name}", why)
