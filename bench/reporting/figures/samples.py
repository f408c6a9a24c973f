"""Images of the hardest and the easiest classes. Imports torch, which the image sets are made of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import UserError
from bench.reporting.figures.novel import draw_images
from bench.reporting.figures.per_class import ends, ranked
from bench.reporting.figures.picture import Gap, Picture
from bench.reporting.figures.rows import Section, of_model
from bench.reporting.figures.style import plain

if TYPE_CHECKING:
    from bench.data.images import ImageSet
    from bench.records.store import Record

TITLE = "Images of the hardest and easiest classes"
CLASSES, EACH = 10, 8


def pictures(section: Section, data_root: Path | None) -> list[Picture | Gap]:
    """The first images of each of those classes, if the data set is available."""
    found = ranked(section)
    if found is None:
        return []
    try:
        data = load(found.row.first, data_root)
    except UserError as error:
        return [Gap(section.title, TITLE, f"{error.flag} {error.value}: {error.allowed}")]
    names = ends([name for name, _ in found.classes], CLASSES)
    pixels = np.stack([_images_of(data, name) for name in names])
    return [
        Picture(
            name="class-images",
            section=section.title,
            title=of_model(TITLE, found.row.first),
            caption="Above the gap: the hardest classes, hardest first; below: the easiest, easiest last. "
            "Ranked by the accuracies of this model.",
            alt=f"{EACH} images of each of {', '.join(plain(name).strip() for name in names)}.",
            draw=partial(draw_images, pixels, names, len(names) // 2 if len(names) == CLASSES else None),
        )
    ]


def load(record: Record, data_root: Path | None) -> ImageSet:
    """The images of a record.

    Raises:
        UserError: they are not available, or differ.
    """
    from bench.data import sources
    from methods.backbones import interpolation

    size = record.config.get("image_size")
    size = size if isinstance(size, int) else None
    how = interpolation(record.backbone, size)
    data = sources.load(record.dataset, data_root, image_size=size, interpolation=how, offline=True)
    if data.fingerprint != record.fingerprint:
        raise UserError("--data-root", record.dataset, "must have the images of the record")
    return data


def _images_of(data: ImageSet, name: str) -> np.ndarray:
    """Images of a class, evenly spaced: uint8 ``[EACH, H, W, 3]``; repeats the last one if too few."""
    own = np.flatnonzero(data.labels.numpy() == data.class_names.index(name))
    chosen = own[np.linspace(0, len(own) - 1, EACH).round().astype(int)]
    return data.images[chosen].permute(0, 2, 3, 1).numpy()
