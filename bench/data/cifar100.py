"""CIFAR-100 (Krizhevsky 2009) from parquet shards, from torchvision's folder, or downloaded.

All sources give the same `ImageSet`, with the coarse labels as superclasses.
"""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.errors import UserError, reason_of
from bench.common.files import check_regular, read_regular
from bench.common.progress import Report
from bench.data import cache, safe_pickle
from bench.data.download import Archive, download, not_found
from bench.data.images import ImageSet
from bench.data.png import decode_pngs
from bench.data.published_splits import CIFAR_FS, FC100

FINGERPRINT = "1b38f42d35d532d326c00be6bdcb9f3f317868025cc68b5915573dd27cfa226c"
"""Of the 60,000 published images."""

IMAGES = {"train": 50_000, "test": 10_000}

PICKLES = "cifar-100-python"  # torchvision's folder
COLUMNS = ("img.bytes", "fine_label", "coarse_label")
MOST_MISSING = 10  # missing shards that a message names
# Both label sets are numbered in alphabetical order.
FINE_NAMES = sorted(sum(CIFAR_FS.values(), ()))
COARSE_NAMES = sorted(sum(FC100.values(), ()))


def _address() -> tuple[list[str], str]:
    from torchvision.datasets import CIFAR100

    return [CIFAR100.url], CIFAR100.tgz_md5


ARCHIVES = [Archive("CIFAR-100 (169 MB)", PICKLES, f"{PICKLES}.tar.gz", _address)]


class DamagedFileError(Exception):
    """A file that cannot be used at all."""


@dataclass(frozen=True)
class Files:
    """The files of CIFAR-100.

    Attributes:
        folder: holds the files.
        train, test: parquet shards in order, or one pickle each.
        missing: names of missing shards, according to the ``-of-M`` of the others.
        meta: the pickle of class names; None for parquet.
    """

    folder: Path
    train: list[Path]
    test: list[Path]
    missing: list[str]
    meta: Path | None = None

    @property
    def key(self) -> str:
        """Cache key of the decoded images: format, and each file's name, size and time of change."""
        files = [*self.train, *self.test, *([self.meta] if self.meta else [])]
        kind = "pickle" if self.meta else "parquet"
        return f"cifar100 {kind} {self.folder.resolve()} {cache.stamps(files)}"


@dataclass
class Part:
    """The content of one file.

    Attributes:
        images: uint8 ``[N, 3, 32, 32]``; zeros where an image is damaged.
        fine, coarse: int64 ``[N]``.
        damaged: row -> what is wrong with its image.
        fine_names, coarse_names: in label order.
    """

    images: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    damaged: dict[int, str] = field(default_factory=dict)
    fine_names: list[str] = field(default_factory=lambda: list(FINE_NAMES))
    coarse_names: list[str] = field(default_factory=lambda: list(COARSE_NAMES))

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.fine) == len(self.coarse):
            counts = f"{len(self.fine)} fine and {len(self.coarse)} coarse labels"
            raise DamagedFileError(f"it has {len(self.images)} images, but {counts}")
        for labels, names in ((self.fine, self.fine_names), (self.coarse, self.coarse_names)):
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
                raise DamagedFileError(f"its labels must be in 0..{len(names) - 1}")


def find(root: Path) -> Files | None:
    """Parquet shards in ``root/cifar100``, else torchvision's folder in `root`, else None."""
    folder = root / "cifar100"
    train, missing_train = _shards(folder, "train")
    test, missing_test = _shards(folder, "test")
    if train or test:
        return Files(folder, train, test, missing_train + missing_test)
    folder = root / PICKLES
    if folder.is_dir():
        there = {name: [folder / name] * (folder / name).is_file() for name in ("train", "test", "meta")}
        missing = [name for name in there if not there[name]]
        return Files(folder, there["train"], there["test"], missing, folder / "meta")
    return None


def _shards(folder: Path, part: str) -> tuple[list[Path], list[str]]:
    """The shards ``part-N-of-M.parquet`` in order, and the names of the missing ones."""
    found = {}
    for path in folder.glob(f"{part}-*-of-*.parquet"):
        match = re.fullmatch(rf"{part}-(\d+)-of-(\d+)\.parquet", path.name)
        if match and path.is_file():
            found[int(match[1]), int(match[2])] = path
    if not found:
        return [], [f"{part}-*-of-*.parquet"]
    total = max(total for _, total in found)  # shards of an older set with a smaller M are ignored
    present = [found[place] for place in sorted(found) if place[0] < place[1] == total]
    absent = (f"{part}-{i:05d}-of-{total:05d}.parquet" for i in range(total) if (i, total) not in found)
    return present, list(islice(absent, MOST_MISSING))


def locate(root: Path, origin: str, offline: bool) -> Files:
    """`find`, or download into `root`.

    Args:
        root: the data root.
        origin: where `root` comes from, for the message, e.g. ``--data-root``.
        offline: do not download.

    Raises:
        UserError: CIFAR-100 is missing and cannot be downloaded, or some of its files are missing.
    """
    files = find(root)
    if files is None:
        there = find(root.parent)
        reason = f"--data-root {root.parent} has it" if there else download(ARCHIVES, root, offline)
        files = find(root)
    if files is None:
        looked = f"{root / 'cifar100'}/train-*-of-*.parquet nor in {root / PICKLES}"
        raise not_found("cifar100", looked, root, origin, reason)
    if files.missing:
        raise UserError("--dataset", "cifar100", f"{files.folder} lacks {', '.join(files.missing)}")
    return files


def examine(files: Files, progress: Report | None = None) -> tuple[ImageSet | None, list[str]]:
    """Read everything.

    Args:
        files: as `find` gives them; some may be missing.
        progress: called with (what, images done, total images).

    Returns:
        The images, or None if some cannot be read; and every problem, one line each.
    """
    problems = [f"{files.folder / name} is missing" for name in files.missing]
    parts: dict[str, list[Part]] = {"train": [], "test": []}
    for path in files.train + files.test:
        try:
            part = read(path, files.meta, progress)
        except DamagedFileError as error:
            problems.append(f"{path} cannot be read: {error}")
            continue
        problems += [f"{path}: row {row}: {reason}" for row, reason in part.damaged.items()]
        parts["test" if path in files.test else "train"].append(part)
    if not problems and not any(len(part.fine) for own in parts.values() for part in own):
        return None, [f"{files.folder} contains no images"]
    whole = not problems
    for name, own in parts.items():
        problems += _wrong_counts(name, own)
    if not whole:
        return None, problems
    data = _assembled(parts)
    if not problems and data.fingerprint != FINGERPRINT:
        problems.append("some pixels or labels differ from the published CIFAR-100")
    return data, problems


def _wrong_counts(name: str, parts: list[Part]) -> list[str]:
    """Compare the numbers of readable images, in total and per class, with the published ones."""
    counts: Counter[str] = Counter()
    for part in parts:
        readable = np.delete(part.fine, list(part.damaged)).tolist()
        counts.update(part.fine_names[label] for label in readable)
    expected = IMAGES[name]
    each = expected // len(FINE_NAMES)
    problems = []
    if counts.total() != expected:
        problems.append(f"{counts.total()} readable {name} images, not {expected}")
    wrong = [f"{label} {counts[label]}" for label in FINE_NAMES if counts[label] != each]
    if wrong:
        named = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        problems.append(f"{len(wrong)} classes do not have {each} readable {name} images: {named}")
    return problems


def _assembled(parts: dict[str, list[Part]]) -> ImageSet:
    """The images of train and test files."""
    every = parts["train"] + parts["test"]
    fine_names, coarse_names = every[0].fine_names, every[0].coarse_names
    fine = np.concatenate([part.fine for part in every])
    coarse = np.concatenate([part.coarse for part in every])
    superclass = [""] * len(fine_names)
    for label, above in set(zip(fine.tolist(), coarse.tolist(), strict=True)):
        superclass[label] = coarse_names[above]
    return ImageSet.build(
        "cifar100",
        np.concatenate([part.images for part in every]),
        fine,
        np.arange(len(fine)) >= sum(len(part.fine) for part in parts["train"]),
        fine_names,
        superclass,
    )


def read(path: Path, meta: Path | None, progress: Report | None = None) -> Part:
    """Read one shard or pickle.

    Args:
        path: the file.
        meta: torchvision's file of class names if `path` is a pickle, None if it is a parquet shard.
        progress: called with (what, images done, total images).

    Raises:
        DamagedFileError: it cannot be used at all.
    """
    return _read_pickle(path, meta) if meta else _read_parquet(path, progress)


def _read_parquet(path: Path, progress: Report | None) -> Part:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        table = pq.ParquetFile(path, page_checksum_verification=True).read(columns=list(COLUMNS))
        blobs = table.column("img").combine_chunks().field("bytes").cast(pa.binary()).to_pylist()
        labels = [table.column(name).cast(pa.int64()) for name in COLUMNS[1:]]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedFileError(reason_of(error)) from None
    if any(label.null_count for label in labels):
        raise DamagedFileError("it has rows without a label")
    names = _names_in_schema(table.schema.metadata)
    images, damaged = decode_pngs(blobs, 32, progress and partial(progress, f"decoding {path.name}"))
    fine, coarse = (label.to_numpy() for label in labels)
    return Part(images, fine, coarse, damaged, *names)


def _names_in_schema(metadata: dict[bytes, bytes] | None) -> tuple[list[str], list[str]]:
    """Class names from the schema, as Hugging Face writes them, else the published ones."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        fine, coarse = ([str(name) for name in features[column]["names"]] for column in COLUMNS[1:])
    except (KeyError, TypeError, ValueError):
        return list(FINE_NAMES), list(COARSE_NAMES)
    return fine, coarse


def _read_pickle(path: Path, meta: Path) -> Part:
    content, names = _load_pickle(path), _load_pickle(meta)
    try:
        data = content["data"]
        if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3072,)):
            raise DamagedFileError("its data must be uint8 [N, 3072]")
        return Part(
            data.reshape(-1, 3, 32, 32),
            np.array(content["fine_labels"], dtype=np.int64).reshape(-1),
            np.array(content["coarse_labels"], dtype=np.int64).reshape(-1),
            {},
            [str(name) for name in names["fine_label_names"]],
            [str(name) for name in names["coarse_label_names"]],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"it is not as torchvision stores it ({reason_of(error)})") from None


def _load_pickle(path: Path) -> dict[str, Any]:
    try:
        content = safe_pickle.loads(read_regular(path))
    except (OSError, pickle.UnpicklingError) as error:
        raise DamagedFileError(f"{path.name}: {reason_of(error)}") from None
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path.name}: it must contain a dictionary")
    # Files rewritten by Python 3 may have bytes as keys.
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): content[key] for key in content}
