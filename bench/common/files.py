"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from bench.common.errors import UserError

ABANDONED_S = 3600.0
"""Age of a half-written file by which its writer was surely killed."""


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is that of none."""
    return os.path.isfile(path)  # noqa: PTH113 - before Python 3.14, Path raises for names that are too long


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that no folder can have is that of none."""
    return os.path.isdir(path)  # noqa: PTH112 - as in `is_file`


def without_tilde(text: str) -> Path:
    """The path with ``~`` written out; that of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises for such a user


def check_writable(folder: Path, flag: str) -> None:
    """Refuse a folder that nothing could be written to; it need not be there yet.

    Raises:
        UserError: naming the flag.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise UserError(flag, folder, f"must be a folder that can be written to ({error.strerror})") from None
    if not there.is_dir():
        raise UserError(flag, folder, f"must be a folder that can be written to ({there} is a file)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(flag, folder, f"must be a folder that can be written to ({there} cannot)")


def write_files(files: Mapping[Path, bytes], flag: str, alone: bool = False) -> None:
    """Write several files, one after another, each whole: no reader ever sees half a file.

    A file that says what is in the others goes last. If one cannot be written, those that were new are
    removed again, and none is replaced unless all of them could be written to the disk.

    Args:
        files: path to content; missing folders are made.
        flag: what the error message blames.
        alone: no other process writes these files now, so that what a killed one left of them can go.

    Raises:
        UserError: if one cannot be written.
    """
    new: list[Path] = []
    staged: list[tuple[Path, Path]] = []
    path = next(iter(files))
    try:
        new.extend(path for path in files if not path.exists())
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _tidy(path, alone)
            temporary = _beside(path)
            staged.append((temporary, path))
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for temporary, path in staged:
            temporary.replace(path)
    except BaseException as error:
        for written in new:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise UserError(flag, path, f"a place that can be written to ({reason})") from error
        raise
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A new name in the same folder, so that renaming is no copying."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _tidy(path: Path, alone: bool) -> None:
    """Remove what killed writers of `path` left, but not what another one is writing."""
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if alone or time.time() - left_over.stat().st_mtime > ABANDONED_S:
                left_over.unlink()
