"""mini-ImageNet (Vinyals et al. 2016): 60,000 photographs of 84x84 pixels in 100 classes.

Stored as learn2learn's `MiniImagenet` stores it: one pickle per part of Ravi and Larochelle's split (2017),
which is the split ``mini-imagenet`` here. Unlike in learn2learn, code in the pickles is not run.
"""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np

from bench.common.errors import reason_of
from bench.common.files import check_regular
from bench.common.progress import Report
from bench.data import safe_pickle
from bench.data.download import Archive, require
from bench.data.images import ImageSet, pixel_digests
from bench.data.photos import lowest_digests
from bench.data.published_splits import MINI_IMAGENET, differences

SIZE = 84
# The copy of learn2learn's author. Its loader tries Dropbox first, which now returns a web page, and then
# Google Drive, which needs another package.
RECORD = "https://zenodo.org/record/7978538"
PARTS = {"train": "base", "validation": "validation", "test": "novel"}
MEGABYTES = {"train": 813, "validation": 203, "test": 254}


def _name(mode: str) -> str:
    return f"mini-imagenet-cache-{mode}.pkl"


def _address(mode: str) -> tuple[list[str], None]:
    return [f"{RECORD}/files/{_name(mode)}"], None


ARCHIVES = [
    Archive(f"mini-ImageNet's {mode} part ({MEGABYTES[mode]} MB)", name, name, partial(_address, mode))
    for mode, name in ((mode, _name(mode)) for mode in PARTS)
]


def locate(root: Path, origin: str, offline: bool) -> dict[Path, str]:
    """Find the three files and the part of the split of each; download missing files.

    Arguments and errors as for `download.require`.
    """
    ways = (
        f"put the three files of {RECORD} into the data root"
        " (another copy's -val.pkl is the -validation.pkl here), "
    )
    require("mini-imagenet", ARCHIVES, root, origin, offline, ways)
    return {root / _name(mode): part for mode, part in PARTS.items()}


def read(files: dict[Path, str], progress: Report | None = None) -> tuple[ImageSet | None, list[str]]:
    """Read everything.

    Args:
        files: as `locate` gives them.
        progress: called with (what, files done, total files).

    Returns:
        The images, or None if some cannot be read; and every problem, one line each.
    """
    pixels, labels, problems = [], [], []
    part: dict[str, str] = {}
    for done, (path, of_split) in enumerate(files.items(), start=1):
        try:
            images, own, names = _load(path)
        except ValueError as error:
            problems.append(f"{path} cannot be read: {error}")
            continue
        if twice := sorted(part.keys() & set(names)):
            problems.append(f"{path} cannot be used: class {twice[0]} is also in another file")
        labels.append(own + len(part))
        part |= dict.fromkeys(names, of_split)
        pixels.append(images.transpose(0, 3, 1, 2))
        if progress:
            progress("reading mini-imagenet", done, len(files))
    if problems:
        return None, problems
    label = np.concatenate(labels)
    # Each copy of all images takes 1.3 GB; by default concatenate keeps the files' order of axes, which
    # needs more copies.
    together = np.concatenate(pixels, out=np.empty((len(label), 3, SIZE, SIZE), dtype=np.uint8))
    pixels.clear()
    held_out = lowest_digests(pixel_digests(together), label)
    data = ImageSet.build("mini-imagenet", together, label, held_out, list(part), part=list(part.values()))
    return data, differences(data, MINI_IMAGENET)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8 ``[N, 84, 84, 3]``, labels int64 ``[N]``, class names in label order.

    Raises:
        ValueError: it is damaged, or not in learn2learn's format.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            content = safe_pickle.load(file)
        images, classes = content["image_data"], dict(content["class_dict"])
        indices = [np.asarray(index).reshape(-1) for index in classes.values()]
    except (OSError, pickle.UnpicklingError) as error:
        raise ValueError(reason_of(error)) from None
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise ValueError("it must have image_data and class_dict as learn2learn stores them") from None
    shape = (SIZE, SIZE, 3)
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == shape):
        raise ValueError(f"its image_data must be uint8 [N, {SIZE}, {SIZE}, 3]")
    if not len(images):
        raise ValueError("it has no images")
    labels = np.full(len(images), -1)
    for label, (name, index) in enumerate(zip(classes, indices, strict=True)):
        if not (isinstance(name, str) and name.isprintable()):
            raise ValueError(f"the class name {name!r} must be plain text")
        if not (index.size and index.dtype.kind in "iu" and 0 <= index.min() <= index.max() < len(images)):
            raise ValueError(f"the images of class {name} must be in 0..{len(images) - 1}")
        if (labels[index] >= 0).any():
            raise ValueError(f"class {name} shares images with another class")
        labels[index] = label
    if (labels < 0).any():
        raise ValueError(f"image {int(np.argmin(labels))} belongs to no class")
    return images, labels, list(classes)
