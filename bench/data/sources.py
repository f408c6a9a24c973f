"""Loads a data set by name as an `ImageSet`, decoded once and cached."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import UserError
from bench.common.files import expand_user, is_file
from bench.common.progress import Report
from bench.common.streams import say
from bench.data.names import ARROW, DEFAULT_IMAGE_SIZE, IMAGE_SIZES, canonical, check_dataset, data_set

if TYPE_CHECKING:  # torch takes seconds to import, too long for an error in a name
    from bench.data.images import ImageSet
    from bench.data.photos import Photos

Examined = tuple["ImageSet | None", list[str]]


@dataclass(frozen=True)
class Source:
    """A data set that was found.

    Attributes:
        where: its location, for messages.
        key: what the decoded images depend on.
        decode: reads and decodes all images.
        photos: like `decode`, with a list of unreadable images; None for published data sets.
        examine: for a published data set, the images (None if some cannot be read) and every problem.
        files: of a folder's images.
    """

    where: str
    key: str
    decode: Callable[[], ImageSet]
    photos: Callable[[], Photos] | None = None
    examine: Callable[[], Examined] | None = None
    files: Sequence[Path] = ()


def load(
    dataset: str,
    root: Path | None = None,
    *,
    image_size: int | None = None,
    interpolation: str = "bilinear",
    offline: bool = False,
    progress: Report | None = None,
) -> ImageSet:
    """Load a data set: memory-mapped from the cache of decoded images, or decoded and cached.

    Args:
        dataset: one of `names.DATASETS`, e.g. ``folder:photos``; or two, e.g. ``cifar100 -> omniglot``.
        root: the value of ``--data-root``, if given.
        image_size: height and width in pixels; only for ``folder:`` and ``hf:`` (default 32) and ``omniglot``
            (default 28).
        interpolation: for resizing, ``bilinear`` or ``bicubic``.
        offline: download nothing.
        progress: called with (what, done, total).

    Raises:
        UserError: unknown data set, or it cannot be found, downloaded or read.
    """
    how: dict[str, Any] = {"interpolation": interpolation, "offline": offline, "progress": progress}
    first, arrow, second = dataset.partition(ARROW)
    if arrow:
        from bench.data.joined import joined

        base = load(first, root, image_size=image_size, **how)
        side = base.images.shape[-1] if data_set(second).largest_size else None
        try:
            novel = load(second, root, image_size=side, **how)
        except UserError as error:
            flag = "--novel-dataset" if error.flag == "--dataset" else error.flag
            raise UserError(flag, error.value, error.allowed) from None
        data = joined(base, novel)
        for note in data.notes:
            say(f"warning: {dataset}: {note}")
        return data
    return open_source(locate(dataset, root, image_size=image_size, **how), dataset)


def open_source(source: Source, dataset: str) -> ImageSet:
    """Load the images of a located data set; reports on stderr what was left out."""
    from bench.data import cache

    try:
        data = cache.open_or_build(source.key, source.decode)
    except MemoryError:
        lower = ", or lower --image-size" if data_set(dataset).largest_size else ""
        raise UserError("--dataset", dataset, f"out of memory; free some{lower}") from None
    for note in data.notes:
        say(f"warning: {dataset}: {note}")
    # The cache may have been written under another name for the same files.
    return replace(data, name=canonical(dataset))


def locate(
    dataset: str,
    root: Path | None = None,
    *,
    image_size: int | None = None,
    interpolation: str = "bilinear",
    offline: bool = False,
    progress: Report | None = None,
) -> Source:
    """Find or download a data set, without decoding it. Arguments and errors as for `load`."""
    check_dataset(dataset)
    if ARROW in dataset:
        raise UserError("--dataset", dataset, "must be one data set here")
    kind, _, place = dataset.partition(":")
    if image_size is not None and not data_set(dataset).largest_size:
        allowed = f"only for folder:, hf: and omniglot; {dataset} has a fixed size"
        raise UserError("--image-size", image_size, allowed)
    if image_size is not None and image_size not in IMAGE_SIZES:
        raise UserError(
            "--image-size", image_size, f"must be {IMAGE_SIZES.start} to {IMAGE_SIZES.stop - 1} pixels"
        )
    size = image_size or DEFAULT_IMAGE_SIZE
    if kind == "cifar100":
        return _cifar100(root, offline, progress)
    if kind in ("glyphs", "letters"):
        return _generated(kind, progress)
    if kind == "mini-imagenet":
        return _mini_imagenet(root, offline, progress)
    if kind == "omniglot":
        return _omniglot(root, image_size, interpolation, offline, progress)
    if kind == "mnist":
        return _mnist(root, offline)
    if kind == "folder":
        return _folder(expand_user(place), size, interpolation, progress)
    return _hub(place, size, interpolation, offline, progress)


def data_root(root: Path | None) -> Path:
    """``--data-root``, else ``$FEWSHOT_DATA``, else the user's cache directory."""
    return _data_root(root)[0]


def _data_root(root: Path | None) -> tuple[Path, str]:
    for chosen, origin in ((root, "--data-root"), (os.environ.get("FEWSHOT_DATA"), "$FEWSHOT_DATA")):
        if chosen:
            folder = expand_user(str(chosen))
            if is_file(folder):
                raise UserError(origin, folder, "must be the folder of data sets, not a file")
            return folder, origin
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fewshot-bench")), "the default data root"


def _cifar100(root: Path | None, offline: bool, progress: Report | None) -> Source:
    from bench.data import cifar100

    files = cifar100.locate(*_data_root(root), offline)
    return _published("cifar100", files.folder, files.key, lambda: cifar100.examine(files, progress))


def _generated(kind: str, progress: Report | None) -> Source:
    from importlib.metadata import version

    from bench.data import glyphs, letters

    number, generate = {
        "glyphs": (glyphs.GLYPHS_VERSION, glyphs.generate),
        "letters": (letters.LETTERS_VERSION, letters.generate),
    }[kind]
    # The outlines come from matplotlib's fonts, so another release may give other pixels.
    key = f"{kind} {number} matplotlib {version('matplotlib')}"
    return Source("generated", key, lambda: generate(progress and partial(progress, f"drawing {kind}")))


def _mini_imagenet(root: Path | None, offline: bool, progress: Report | None) -> Source:
    from bench.data import mini_imagenet

    files = mini_imagenet.locate(*_data_root(root), offline)
    return _in_files("mini-imagenet", list(files), lambda: mini_imagenet.read(files, progress))


def _omniglot(
    root: Path | None,
    image_size: int | None,
    interpolation: str,
    offline: bool,
    progress: Report | None,
) -> Source:
    from bench.data import omniglot

    listing = omniglot.locate(*_data_root(root), offline)
    size = image_size or omniglot.SIZE
    key = f"omniglot {listing.key(size)} {interpolation}"
    return _published(
        "omniglot", listing.path, key, lambda: omniglot.read(listing, size, progress, interpolation)
    )


def _mnist(root: Path | None, offline: bool) -> Source:
    from bench.data import mnist

    files = mnist.locate(*_data_root(root), offline)
    return _in_files("mnist", files, lambda: mnist.read(files))


def _in_files(dataset: str, files: Sequence[Path], examine: Callable[[], Examined]) -> Source:
    """A published data set that is in these files of one folder."""
    from bench.data.cache import stamps

    where = files[0].parent
    return _published(dataset, where, f"{dataset} {where.resolve()} {stamps(files)}", examine)


def _published(dataset: str, where: Path, key: str, examine: Callable[[], Examined]) -> Source:
    """A published data set: it must be complete, and should be the published version."""

    def decode() -> ImageSet:
        data, problems = examine()
        if data is None:
            more = f" (and {len(problems) - 1} more: `data verify` lists all)" if len(problems) > 1 else ""
            raise UserError("--dataset", dataset, f"{problems[0]}{more}")
        if problems:
            say(
                f"warning: {where} is not the published {dataset}, so results cannot be compared with"
                f" others: {problems[0]}; `data verify` says more"
            )
        return data

    return Source(str(where), key, decode, examine=examine)


def _folder(path: Path, size: int, interpolation: str, progress: Report | None) -> Source:
    from bench.data import folder
    from bench.data.listing import scan

    listing = scan(path)
    key = f"{listing.key(size)} {interpolation}"
    found = _own_photos(str(path), key, lambda: folder.read(listing, size, progress, interpolation))
    return replace(found, files=[path / file for file in listing.files])


def _hub(name: str, size: int, interpolation: str, offline: bool, progress: Report | None) -> Source:
    from bench.data import hub

    found = hub.find(name, offline)
    key = f"{found.key(size)} {interpolation}"
    return _own_photos(found.where, key, lambda: hub.read(found, size, progress, interpolation))


def _own_photos(where: str, key: str, read: Callable[[], Photos]) -> Source:
    from bench.data.photos import image_set

    return Source(where, key, lambda: image_set(read()), read)
