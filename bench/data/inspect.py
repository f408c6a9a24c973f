"""`data info` and `data verify`: content and damage of a data set."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common.errors import UserError
from bench.common.progress import Report
from bench.data import cache, cifar100, sources
from bench.data.images import ImageSet, of_one_colour, pixel_digests
from bench.data.photos import LEAST, Photos, flattened, image_set
from bench.data.pixels import size_of


def info(
    dataset: str,
    root: Path | None = None,
    image_size: int | None = None,
    offline: bool = False,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Describe a data set; arguments and errors as for `sources.load`.

    Returns:
        Plain values: ``name``, ``where``, ``cache_file``, ``images``, ``held_out``, ``classes``,
        ``superclasses``, ``image_shape`` (``[3, H, W]``), ``images_per_class`` (``min``, ``max``),
        ``left_out`` (unreadable images), ``left_out_classes`` (with too few others), ``one_colour`` (images
        with a single colour), ``fingerprint`` and ``duplicates`` (see `duplicates`).
    """
    source = sources.locate(dataset, root, image_size=image_size, offline=offline, progress=progress)
    data = sources.open_source(source, dataset)
    counts = torch.bincount(data.labels, minlength=len(data.class_names))
    return {
        "name": data.name,
        "where": source.where,
        "cache_file": str(cache.path_of(source.key)),
        "images": len(data),
        "held_out": int(data.held_out.sum()),
        "classes": len(data.class_names),
        "superclasses": len(set(data.superclass) - {""}),
        "image_shape": list(data.images.shape[1:]),
        "images_per_class": {"min": int(counts.min()), "max": int(counts.max())},
        "left_out": data.left_out,
        "left_out_classes": len(data.left_out_classes),
        "one_colour": data.one_colour,
        "fingerprint": data.fingerprint,
        "duplicates": duplicates(data),
    }


def duplicates(data: ImageSet) -> dict[str, dict[str, int]]:
    """Groups of images with the same pixels.

    Returns:
        ``within_class``: groups of two or more in one class; ``across_classes``: groups in several classes;
        ``train_and_held_out``: groups in both parts. A group may count in more than one of these. Each has
        the number of ``groups`` and of the ``images`` in them.
    """
    words = data.digests.numpy().view("V32").reshape(-1)
    _, group, sizes = np.unique(words, return_inverse=True, return_counts=True)
    labels, held_out = data.labels.numpy(), data.held_out.numpy()
    by_class, sizes_by_class = np.unique(np.stack([group, labels], axis=1), axis=0, return_counts=True)
    classes_of = np.bincount(by_class[:, 0])
    held_out_of = np.bincount(group, weights=held_out)
    across, both_sides = classes_of > 1, (held_out_of > 0) & (held_out_of < sizes)
    within = sizes_by_class[sizes_by_class > 1]
    return {
        "within_class": {"groups": len(within), "images": int(within.sum())},
        "across_classes": {"groups": int(across.sum()), "images": int(sizes[across].sum())},
        "train_and_held_out": {"groups": int(both_sides.sum()), "images": int(sizes[both_sides].sum())},
    }


def verify(
    dataset: str,
    root: Path | None = None,
    image_size: int | None = None,
    offline: bool = False,
    progress: Report | None = None,
) -> list[str]:
    """Read everything again, and compare the cache with it; arguments as for `sources.load`.

    Returns:
        One line per problem, with files and rows; empty if there are none.

    Raises:
        UserError: unknown data set, or it is missing.
    """
    if (
        dataset == "cifar100"
        and image_size is None
        and (files := cifar100.find(sources.data_root(root)))
        and files.missing
    ):
        return cifar100.examine(files, progress)[1]  # `locate` would only name the missing ones
    source = sources.locate(dataset, root, image_size=image_size, offline=offline, progress=progress)
    if source.examine is not None:
        examined, problems = source.examine()
        return problems + _verify_cache(source.key, examined)
    if source.photos is None:
        return _verify_cache(source.key, source.decode())
    photos = source.photos()
    problems = [f"{photos.name}: {reason}" for reason in photos.unreadable.values()]
    problems += [
        f"{photos.name}: class {name} has {count} readable images, at least {LEAST} needed"
        for name, count in photos.small.items()
    ]
    problems += [f"{photos.name}: {file} does not belong to a class" for file in photos.unused]
    problems += [f"{photos.name}: {line}" for line in flattened(photos)]
    problems += _empty_and_copied(photos)
    try:
        return problems + _verify_cache(source.key, image_set(photos))
    except UserError as error:
        return [*problems, str(error)]


def remarks(data: ImageSet) -> str:
    """Numbers of blank and duplicate images in one line; the empty string if there are none."""
    found = duplicates(data)
    within, across, both = (found[kind] for kind in ("within_class", "across_classes", "train_and_held_out"))
    counts = {
        f"{data.one_colour:,} images of one colour": data.one_colour,
        f"{across['images']:,} images shared by classes": across["images"],
        f"{within['images'] - within['groups']:,} copies within a class": within["images"],
        f"{both['groups']:,} images shared by training and test images": both["groups"] * (not data.chosen),
    }
    return ", ".join(text for text, count in counts.items() if count)


def sizes_of(files: Iterable[Path]) -> str:
    """Smallest and largest size of image files, e.g. ``120x80 to 4000x3000``; empty if none is readable."""

    def size(path: Path) -> tuple[int, int] | None:
        try:
            return size_of(lambda: path)
        except Exception:  # Pillow's parsers raise many types for damaged files
            return None

    with warnings.catch_warnings(), ThreadPoolExecutor() as threads:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        found = sorted(filter(None, threads.map(size, files)), key=lambda side: (side[0] * side[1], side))
    ends = ["x".join(map(str, side)) for side in found[:: max(1, len(found) - 1)]]
    return " to ".join(dict.fromkeys(ends))


def _empty_and_copied(photos: Photos) -> list[str]:
    """Blank and duplicate images, each by its name."""
    seen: dict[bytes, int] = {}
    problems = []
    blank, test = of_one_colour(photos.images), photos.roles.held_out
    for index, digest in enumerate(pixel_digests(photos.images)):
        if index in photos.unreadable:
            continue
        name = f"{photos.name}: {photos.name_of(index)}"
        if blank[index]:
            problems.append(f"{name} has a single colour")
        first = seen.setdefault(digest.tobytes(), index)
        if first != index:
            where = "" if photos.labels[first] == photos.labels[index] else ", of another class"
            if test is not None and test[first] != test[index]:
                where += ", a test image" if test[first] else ", a training image"
            problems.append(f"{name} has the pixels of {photos.name_of(first)}{where}")
    return problems


def _verify_cache(key: str, fresh: ImageSet | None) -> list[str]:
    """Compare the cached copy, if any, with `fresh`, if it could be read."""
    path = cache.path_of(key)
    try:
        cached = cache.read(path)
    except FileNotFoundError:
        return []
    except cache.DamagedError as error:
        return [f"{path}: {error} (the next run rebuilds it)"]
    if fresh is None:
        return []
    differ = [name for name in cache.TENSORS if not torch.equal(getattr(cached, name), getattr(fresh, name))]
    # The cached copy may have been made under another name.
    names = {field.name for field in dataclasses.fields(ImageSet)} - {"name", *cache.TENSORS}
    differ += sorted(name for name in names if getattr(cached, name) != getattr(fresh, name))
    return [f"{path}: differs from the original images in {', '.join(differ)}"] if differ else []
