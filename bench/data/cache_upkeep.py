"""Which files the cache holds, and which of them no run needs any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from bench.data import cache

SUPERSEDED = "superseded"  # made again, because the data set's files changed, or the code or libraries did
OTHER_FORMAT = "other format"  # of another version of this bench
DAMAGED = "damaged"
LEFT_OVER = "left over"  # of a process that was killed

CALIBRATION = "calibration of the shipped model"  # in place of a data set


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
        path: the file.
        dataset: as in ``--dataset`` when it was decoded, or `CALIBRATION`; empty if that cannot be read.
        images: ``[N, 3, H, W]``, or ``[N, D]`` of features; empty if that cannot be read.
        size: bytes.
        used: Unix time of the last use.
        useless: why no run needs it; the empty string if one may.
        backbone: of features; the empty string for decoded images.
        version: of two files of the same content, the newer supersedes one with another version.
    """

    path: Path
    dataset: str
    images: tuple[int, ...]
    size: int
    used: float
    useless: str = ""
    backbone: str = ""
    version: str = ""


def entries() -> list[Entry]:
    """All files of the cache, the last used first. Removing any of them only costs time."""
    found = [entry for path in cache.directory().glob("*") if (entry := _entry(path))]
    found.sort(key=lambda entry: (-entry.path.stat().st_mtime, entry.path))
    newest: dict[tuple, str] = {}
    for i, entry in enumerate(found):
        latest = newest.setdefault((entry.dataset, entry.backbone, entry.images[1:]), entry.version)
        if not entry.useless and entry.version != latest:
            found[i] = replace(entry, useless=SUPERSEDED)
    return sorted(found, key=lambda entry: -entry.used)


def remove(found: list[Entry]) -> list[Entry]:
    """Delete files, except those that another process is writing; returns the deleted ones."""
    removed = []
    for entry in found:
        lock = FileLock(entry.path.with_suffix(".lock"), timeout=0)
        try:
            with lock:
                entry.path.unlink(missing_ok=True)
        except (Timeout, OSError):
            continue
        removed.append(entry)
        Path(lock.lock_file).unlink(missing_ok=True)
    return removed


def _entry(path: Path) -> Entry | None:
    """The entry of a file; None for a lock."""
    try:
        about = path.stat()
    except OSError:  # removed meanwhile
        return None
    known = ("", (), about.st_size, max(about.st_atime, about.st_mtime))
    if path.suffix == ".tmp":
        return Entry(path, *known, LEFT_OVER)
    if path.suffix == ".json":
        return Entry(path, CALIBRATION, *known[1:], version=path.name)
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            backbone = metadata.get("backbone", "")
            images = tuple(file.get_slice("features" if backbone else "images").get_shape())
    except (SafetensorError, OSError, ValueError):
        return Entry(path, *known, DAMAGED)
    useless = "" if metadata.get("format") == str(cache.FORMAT) else OTHER_FORMAT
    # Features have a file for each part of a split; decoded images have one.
    version = f"{metadata['fingerprint']} {metadata['made_by']}" if backbone and not useless else path.name
    return Entry(path, metadata.get("name", ""), images, *known[2:], useless, backbone, version)
