"""Splits: which classes are base, validation and novel, and which images each part may use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from bench.common.errors import UserError
from bench.data.images import ImageSet
from bench.data.joined import first_only
from bench.data.names import (
    ARROW,
    BASE_AND_VALIDATION,
    FOREIGN,
    GIVEN,
    NO_BASE,
    OWN,
    PUBLISHED,
    parse_ratio,
)
from bench.data.published_splits import CIFAR_FS, FC100
from bench.data.split_files import PARTS, read_split


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of classes, and the images (indices into the `ImageSet`, ascending) of each part.

    Attributes:
        name: as given by the user; a CSV file's name gets a digest of its content.
        base, validation, novel: class indices. `validation` is empty if the split has no validation classes;
            `validation_images` are then images of base classes.
        train: int64 images of base classes for training.
        validation_images: int64, for thresholds, early stopping and hyperparameters.
        base_test: int64 held-out images of base classes; empty if all are training images.
        novel_images: int64, the novel pool.
        dropped: number of novel images left out because their pixels also occur in training images.
        copies: number of images left out of evaluated parts because they are copies within their class, which
            would make queries too easy; and of test and validation images of a user's data set because they
            are copies of training images.
        alone: number of images left out of evaluated parts because their class has no other image there.
        no_training: class indices, base classes of the list that are left out because none of their images is
            a training image.
        novel_labelled: int64, labelled images of novel classes that a method learns from before its test;
            empty except with `with_labelled_novel`.
    """

    name: str
    base: tuple[int, ...]
    validation: tuple[int, ...]
    novel: tuple[int, ...]
    train: torch.Tensor
    validation_images: torch.Tensor
    base_test: torch.Tensor
    novel_images: torch.Tensor
    dropped: int
    copies: int
    alone: int = 0
    no_training: tuple[int, ...] = ()
    novel_labelled: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def resolve(data: ImageSet, spec: str, flag: str = "--split", train_on: str | None = None) -> Split:
    """Split `data` as `spec` says.

    If two data sets are joined, `spec` divides the first, and all classes of the second are novel.

    Args:
        data: to split. spec: as ``--split``. flag: named in messages.
        train_on: `BASE_AND_VALIDATION` to make validation classes base classes.

    Raises:
        UserError: unknown split, or it does not fit the data set.
    """
    if FOREIGN in data.part:
        first, own = first_only(data)
        name, parts, all_base_train = _classes(first, spec, flag)
        parts = {part: tuple(own[c] for c in classes) for part, classes in parts.items()}
        parts["novel"] = tuple(i for i, part in enumerate(data.part) if part == FOREIGN)
    else:
        name, parts, all_base_train = _classes(data, spec, flag)
    if train_on == BASE_AND_VALIDATION:
        if not parts["validation"]:
            raise UserError("--train-on", train_on, f"{spec} has no validation classes; allowed: base")
        parts |= {"base": tuple(sorted(parts["base"] + parts["validation"])), "validation": ()}
    return _with_images(data, name, parts, flag, all_base_train=all_base_train)


def _classes(data: ImageSet, spec: str, flag: str) -> tuple[str, dict[str, tuple[int, ...]], bool]:
    """Name and classes of a split, and whether all images of base classes are for training."""
    if spec.endswith(".csv"):
        name, parts = read_split(data, spec, flag)
        return name, parts, parts["validation"] != ()
    if spec == GIVEN and data.name in OWN:
        spec = data.name
    if spec == GIVEN:
        parts = _given(data)
        for part in ("base", "novel"):
            if len(parts[part]) < 2:
                problem = f"{data.name} has {len(parts[part])} {part} classes: its train and test parts need"
                raise UserError(flag, spec, f"{problem} at least 2 classes each, different ones")
        return spec, parts, data.chosen and parts["validation"] != ()
    if spec == NO_BASE:
        return spec, {"base": (), "validation": (), "novel": tuple(range(len(data.class_names)))}, False
    if spec in PUBLISHED:
        return spec, _published(data, spec, flag), True
    return spec, _by_ratio(data, spec, flag), False


def with_labelled_novel(data: ImageSet, split: Split) -> Split:
    """The split with novel classes tested only on the data set's test images.

    Their other images are `novel_labelled`. Only for methods that first learn each tested class.

    Raises:
        ValueError: a novel class lacks training or test images.
    """
    held_out = data.held_out[split.novel_images]
    labelled, tested = split.novel_images[~held_out], split.novel_images[held_out]
    for c in split.novel:
        if not ((data.labels[labelled] == c).any() and (data.labels[tested] == c).any()):
            needs = "learns novel classes from training images and is tested on test images"
            raise ValueError(f"{needs}; {data.class_names[c]!r} of {data.name} lacks one of these")
    return replace(split, novel_images=tested, novel_labelled=labelled)


def subsampled(data: ImageSet, split: Split, most: int) -> Split:
    """The split with at most `most` images per class in each evaluated part."""
    parts = {}
    for name in ("validation_images", "base_test", "novel_images"):
        labels = data.labels[index := getattr(split, name)].numpy()
        _, first, count = np.unique(labels, return_index=True, return_counts=True)
        place = np.arange(len(labels)) - np.repeat(first, count)  # labels ascend
        parts[name] = index[torch.from_numpy(place < most)]
    return replace(split, **parts)


def _by_ratio(data: ImageSet, spec: str, flag: str) -> dict[str, tuple[int, ...]]:
    percent, seed = parse_ratio(spec, flag)
    total = len(data.class_names)
    base = round(total * percent / 100)
    if base < 2 or (percent < 100 and total - base < 2):
        raise UserError(
            flag, spec, f"leaves fewer than 2 base or novel classes of the {total} in {data.name}"
        )
    order = list(range(total))
    if seed is not None:
        # Sorting by a digest is the same on every machine and numpy version, unlike Generator.permutation.
        order.sort(key=lambda i: hashlib.sha256(f"{seed}/{data.class_names[i]}".encode()).digest())
    return {
        "base": tuple(sorted(order[:base])),
        "validation": (),
        "novel": tuple(sorted(order[base:])),
    }


def _published(data: ImageSet, spec: str, flag: str) -> dict[str, tuple[int, ...]]:
    """Published lists by name on CIFAR-100; by alphabetical position on a data set of the same shape.

    A split that belongs to a data set comes from its files.
    """
    if spec in OWN:
        if data.name != spec:
            raise UserError(flag, spec, f"can only be used with --dataset {spec}, not with {data.name}")
        return _given(data)
    if len(data.class_names) != 100 or len(set(data.superclass)) != 20:
        shape = f"{len(data.class_names)} classes in {len(set(data.superclass))} superclasses"
        raise UserError(flag, spec, f"needs 100 classes in 20 superclasses; {data.name} has {shape}")
    if spec == "cifar-fs":
        position = {name: i for i, name in enumerate(sorted(sum(CIFAR_FS.values(), ())))}
        return {part: tuple(sorted(position[name] for name in CIFAR_FS[part])) for part in PARTS}
    coarse_names = sorted(set(data.superclass))
    coarse_position = {name: i for i, name in enumerate(sorted(sum(FC100.values(), ())))}
    return {
        part: tuple(
            i
            for i, coarse in enumerate(data.superclass)
            if coarse_names.index(coarse) in {coarse_position[name] for name in FC100[part]}
        )
        for part in PARTS
    }


def _given(data: ImageSet) -> dict[str, tuple[int, ...]]:
    """The parts that the data set's source gives."""
    return {part: tuple(i for i, own in enumerate(data.part) if own == part) for part in PARTS}


def _with_images(
    data: ImageSet, name: str, parts: dict[str, tuple[int, ...]], flag: str, *, all_base_train: bool
) -> Split:
    labels, held_out, validating = (t.numpy() for t in (data.labels, data.held_out, data.validation))
    digests = np.ascontiguousarray(data.digests.numpy()).view("V32").ravel()
    copies = alone = 0

    def distinct(images: np.ndarray) -> np.ndarray:
        """Indices of images ``[N]``, one per set of identical images of a class."""
        nonlocal copies
        index = np.flatnonzero(images)
        _, group = np.unique(digests[index], return_inverse=True)
        _, first = np.unique(np.stack([labels[index], group]), axis=1, return_index=True)
        copies += len(index) - len(first)
        return index[np.sort(first)]

    def sizes(index: np.ndarray) -> np.ndarray:
        """Number of images at `index` of each one's class."""
        return np.bincount(labels[index], minlength=len(data.class_names))[labels[index]]

    def in_company(index: np.ndarray) -> torch.Tensor:
        """Without classes of a single image, which have no pair and no episode."""
        nonlocal alone
        several = sizes(index) > 1
        alone += int((~several).sum())
        return torch.from_numpy(index[several])

    may_train = np.ones_like(held_out) if all_base_train else ~held_out & ~validating
    trained = set(labels[may_train].tolist())
    base = tuple(c for c in parts["base"] if c in trained)
    if len(base) < min(2, len(parts["base"])):
        problem = f"leaves fewer than 2 base classes of {data.name} that have training images"
        raise UserError(flag, name, problem)
    in_base, in_novel = np.isin(labels, base), np.isin(labels, parts["novel"])
    in_train = in_base & may_train
    seen = np.isin(digests, digests[in_train])
    # Test images of published data sets stay as published: CIFAR-100's contain a few copies.
    trained_on = seen & (":" in data.name.partition(ARROW)[0])

    def unseen(images: np.ndarray) -> np.ndarray:
        nonlocal copies
        copies += int((images & trained_on).sum())
        return distinct(images & ~trained_on)

    base_test = unseen(in_base & ~in_train & held_out)
    if parts["validation"]:
        validation = unseen(np.isin(labels, parts["validation"]))
    elif (in_base & validating).any():
        validation = unseen(in_base & validating)
    else:
        # Images of a class are in digest order, so the first half has the lowest digests.
        place = np.arange(len(base_test)) - np.searchsorted(labels[base_test], labels[base_test])
        first = place < sizes(base_test) // 2
        validation, base_test = base_test[first], base_test[~first]
    return Split(
        name=name,
        base=base,
        validation=parts["validation"],
        novel=parts["novel"],
        train=torch.from_numpy(np.flatnonzero(in_train)),
        validation_images=in_company(validation),
        base_test=in_company(base_test),
        novel_images=in_company(distinct(in_novel & ~seen)),
        dropped=int((in_novel & seen).sum()),
        copies=copies,
        alone=alone,
        no_training=tuple(c for c in parts["base"] if c not in trained),
    )
