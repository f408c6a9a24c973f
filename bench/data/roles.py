"""What images are for, if their source has parts such as train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PARTS = {
    "train": ("train", "training", "base"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "novel"),
}
"""Part -> what sources call it."""

NO_TEST = "has no labelled test images, so some images of each class are held out"


@dataclass(frozen=True)
class Roles:
    """What each image is for.

    Attributes:
        held_out: bool ``[N]``, test images; None if the source has none.
        validation: bool ``[N]``, validation images; None if the source has none.
        part: one per class, base, validation or novel; None unless the source's parts have different classes.
    """

    held_out: np.ndarray | None = None
    validation: np.ndarray | None = None
    part: list[str] | None = None

    def key(self) -> str:
        """Equal for equal roles."""
        arrays = (None if a is None else np.flatnonzero(a).tolist() for a in (self.held_out, self.validation))
        return f"{[*arrays, self.part]}"


def part_of(name: str) -> str | None:
    """The part that a folder or file of this name holds."""
    return next((part for part, names in PARTS.items() if name.lower() in names), None)


def roles(labels: np.ndarray, parts: Sequence[str], classes: int) -> Roles:
    """Use the parts of a source as they are meant.

    Classes of the first part are base classes. Their images in the last part are test images, and in the
    middle one validation images. Classes that only a later part has are novel classes, or validation classes
    if they are only in the middle one of three.

    Args:
        labels: int ``[N]``.
        parts: a key of `PARTS` per image.
        classes: number of classes.
    """
    of_image = np.array([list(PARTS).index(part) for part in parts], dtype=np.int64)
    filled = np.unique(of_image)
    if len(filled) < 2:
        return Roles()
    within = [np.bincount(labels[of_image == part], minlength=classes) > 0 for part in filled]
    base, novel = within[0], within[-1] & ~np.any(within[:-1], axis=0)
    validation = within[1] & ~base & ~novel
    own = base.sum() >= 2 and novel.sum() >= 2 and validation.sum() != 1
    part = np.where(novel, "novel", np.where(validation, "validation", "base")).tolist() if own else None
    counted = base[labels] if own else np.ones(len(labels), dtype=bool)
    later = [at for at in filled[1:] if (counted & base[labels] & (of_image == at)).any()]
    if not later:
        return Roles(part=part)
    between = counted & (of_image == later[0]) if len(later) > 1 else None
    return Roles(counted & (of_image == later[-1]), between, part)
