"""Cache of what is slow to make: memory-mapped files, each built once and checked when opened.

Decoded images have one file per data set; `bench.data.features` keeps features of images in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from filelock import FileLock
from platformdirs import user_cache_dir
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench.common.errors import printable
from bench.common.files import check_regular, expand_user
from bench.common.streams import say
from bench.data.images import ImageSet

# Raised when the file's layout or the canonical order of an ImageSet changes; old files are then ignored.
FORMAT = 5
TENSORS = ("images", "labels", "held_out", "validation", "digests")


T = TypeVar("T")


class DamagedError(Exception):
    """A cache file is damaged."""


class Kind(NamedTuple):
    """How something is stored.

    Attributes:
        what: its name in messages.
        tensors: names of its tensors.
        pack: gives its tensors by name, and its other values as text.
        unpack: makes it again from these.
    """

    what: str
    tensors: tuple[str, ...]
    pack: Callable[[Any], tuple[dict[str, torch.Tensor], dict[str, str]]]
    unpack: Callable[[dict[str, torch.Tensor], dict[str, str]], Any]


def _pack(data: ImageSet) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    about = {
        "name": printable(data.name),  # safetensors takes only UTF-8
        "class_names": json.dumps(data.class_names),
        "superclass": json.dumps(data.superclass),
        "part": json.dumps(data.part),
        "fingerprint": data.fingerprint,
        "drawn_by": data.drawn_by,
        "one_colour": str(data.one_colour),
        "left_out": str(data.left_out),
        "small_classes": json.dumps(data.left_out_classes),
        "notes": json.dumps(data.notes),
        "chosen": json.dumps(data.chosen),
        "spans": json.dumps(data.spans),
    }
    return {name: getattr(data, name) for name in TENSORS}, about


def _unpack(tensors: dict[str, torch.Tensor], about: dict[str, str]) -> ImageSet:
    return ImageSet(
        name=about["name"],
        **tensors,
        class_names=tuple(json.loads(about["class_names"])),
        superclass=tuple(json.loads(about["superclass"])),
        part=tuple(json.loads(about["part"])),
        fingerprint=about["fingerprint"],
        drawn_by=about.get("drawn_by", about["fingerprint"]),  # older files have none
        one_colour=int(about["one_colour"]),
        left_out=int(about["left_out"]),
        left_out_classes=tuple(json.loads(about.get("small_classes", "[]"))),  # older files have none
        notes=tuple(json.loads(about["notes"])),
        chosen=json.loads(about["chosen"]),
        spans={kind: (low, high) for kind, (low, high) in json.loads(about.get("spans", "{}")).items()},
    )


IMAGES = Kind("decoded images", TENSORS, _pack, _unpack)


def directory() -> Path:
    """``$FEWSHOT_CACHE``, else ``decoded`` in the user's cache directory."""
    chosen = os.environ.get("FEWSHOT_CACHE")
    return expand_user(chosen) if chosen else Path(user_cache_dir("fewshot-bench")) / "decoded"


def path_of(key: str) -> Path:
    """The cache file of `key`; its name starts with the key's first word."""
    word = re.sub(r"[^\w-]+", "-", key.split(maxsplit=1)[0])[:40]
    # File names that are not UTF-8 appear in the key as lone surrogates.
    digest = hashlib.sha256(f"{FORMAT} {key}".encode(errors="surrogateescape")).hexdigest()
    return directory() / f"{word}-{digest[:20]}.safetensors"


def stamp(path: Path) -> tuple[int, ...]:
    """Identifies the version of a file: size, times of change and inode; zeros for a dead link.

    Tools that copy or unpack files set the time of modification, but not the inode's (ctime).
    """
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def stamps(paths: Iterable[Path]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and stamps of files, for a cache key."""
    return [(path.name, stamp(path)) for path in paths]


def open_or_build(key: str, build: Callable[[], T], kind: Kind = IMAGES) -> T:
    """What `build` makes: memory-mapped from the cache, or built and cached.

    Processes that request it at the same time build it once. A damaged file is rebuilt. Without a usable
    cache directory it is built in memory. Messages on stderr report both cases.

    Args:
        key: everything that the result of `build` depends on; another key means another file.
        build: decodes the data set, say; its exceptions are not caught.
        kind: how the result is stored.
    """
    path = path_of(key)
    try:
        return read(path, kind)
    except (OSError, DamagedError):
        pass  # checked again with the lock: another process may be building it
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        say(f"warning: the {kind.what} cannot be cached in {path.parent} ({error})")
        return build()
    try:
        try:
            return read(path, kind)
        except FileNotFoundError:
            pass
        except DamagedError as error:
            say(f"warning: the cache file {path} is damaged ({error}) and is rebuilt")
        built = build()
        try:
            _write(path, built, kind)
            # Return the mapped copy, so that all processes share the pixels in the page cache.
            return read(path, kind)
        except (OSError, SafetensorError, DamagedError) as error:
            say(f"warning: the {kind.what} cannot be cached in {path.parent} ({error})")
            return built
    finally:
        lock.release()


def read(path: Path, kind: Kind = IMAGES) -> Any:
    """Open a cache file. Its pages are mapped privately: writes to the tensors stay in memory.

    Raises:
        FileNotFoundError: it does not exist.
        DamagedError: it is damaged.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedError(error.strerror) from None
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in kind.tensors}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise DamagedError(str(error)) from None
    if about.pop("checksum", None) != _checksum(tensors, about):
        raise DamagedError("its checksum does not match")
    return kind.unpack(tensors, about)


def _write(path: Path, content: Any, kind: Kind) -> None:
    """Write a file atomically. The caller holds the lock, so one temporary name is enough."""
    tensors, about = kind.pack(content)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = {"format": str(FORMAT), **about}
    temporary = path.with_suffix(".tmp")
    try:
        save_file(tensors, temporary, metadata={**about, "checksum": _checksum(tensors, about)})
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        # safetensors writes files that only their owner may read, but a cache can be shared.
        temporary.chmod(path.with_suffix(".lock").stat().st_mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(tensors: dict[str, torch.Tensor], about: dict[str, str]) -> str:
    """BLAKE2b (hex) over names, types, shapes and bytes, which detects any flipped bit.

    Every run computes it, and without special instructions SHA-256 takes twice as long.
    """
    total = hashlib.blake2b(json.dumps(about, sort_keys=True).encode())
    for name, tensor in tensors.items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.view(torch.uint8).numpy().data)  # numpy has no bfloat16
    return total.hexdigest()
