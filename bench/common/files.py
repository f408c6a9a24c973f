"""Atomic writes of files."""

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
"""Age in seconds after which a temporary file is abandoned: its writer was killed."""


def is_file(path: Path) -> bool:
    """Whether the file exists; False for invalid names."""
    return os.path.isfile(path)  # noqa: PTH113 - before Python 3.14, Path raises for names that are too long


def is_folder(path: Path) -> bool:
    """Whether the folder exists; False for invalid names."""
    return os.path.isdir(path)  # noqa: PTH112 - as in `is_file`


def expand_user(text: str) -> Path:
    """The path with ``~`` expanded; unchanged if the user does not exist."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises for such a user


def check_writable(folder: Path, flag: str) -> None:
    """Refuse a folder that is not writable; it may not exist yet.

    Raises:
        UserError: naming the flag.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise UserError(flag, folder, f"must be a writable folder ({error.strerror})") from None
    if not there.is_dir():
        raise UserError(flag, folder, f"must be a writable folder ({there} is a file)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(flag, folder, f"must be a writable folder ({there} is not writable)")


def write_files(files: Mapping[Path, bytes], flag: str, exclusive: bool = False) -> None:
    """Write several files atomically, one after another: readers never see a partial file.

    Put a file that describes the others last. If one file cannot be written, new files are removed again.
    Existing files are replaced only after all files were written to the disk.

    Args:
        files: path -> content; missing folders are created.
        flag: named in the error message.
        exclusive: no other process writes these files, so all leftovers of killed writers are removed.

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
            _remove_leftovers(path, exclusive)
            temporary = _temporary_path(path)
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
            raise UserError(flag, path, f"must be writable ({reason})") from error
        raise
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    """A new name in the same folder, so that renaming does not copy."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _remove_leftovers(path: Path, exclusive: bool) -> None:
    """Remove temporary files of killed writers of `path`, but not of active ones."""
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if exclusive or time.time() - left_over.stat().st_mtime > ABANDONED_S:
                left_over.unlink()
