"""Which files the cache of decoded images holds, and which of them no run needs any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from bench.data import cache

SUPERSEDED = "superseded"  # the same data set was decoded again, because its files changed
OTHER_FORMAT = "other format"  # of another version of this bench
DAMAGED = "damaged"
LEFT_OVER = "left over"  # of a process that was killed


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
        path: the file.
        dataset: as in ``--dataset`` when it was decoded; the empty string if that cannot be read.
        images: ``[N, 3, H, W]``; empty if that cannot be read.
        size: bytes.
        used: Unix time of the last use.
        useless: why no run needs it; the empty string if one may.
    """

    path: Path
    dataset: str
    images: tuple[int, ...]
    size: int
    used: float
    useless: str = ""


def entries() -> list[Entry]:
    """All files of the cache, the last used first. Removing any of them only costs time."""
    found = [entry for path in cache.directory().glob("*") if (entry := _entry(path))]
    found.sort(key=lambda entry: (-entry.path.stat().st_mtime, entry.path))
    newest: set[tuple] = set()
    for i, entry in enumerate(found):
        same = (entry.dataset, entry.images[1:])
        if not entry.useless and same in newest:
            found[i] = replace(entry, useless=SUPERSEDED)
        newest.add(same)
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
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            images = tuple(file.get_slice("images").get_shape())
    except (SafetensorError, OSError, ValueError):
        return Entry(path, *known, DAMAGED)
    useless = "" if metadata.get("format") == str(cache.FORMAT) else OTHER_FORMAT
    return Entry(path, metadata.get("name", ""), images, *known[2:], useless)
