"""Reads and writes files: only regular ones, and writes are atomic."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
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


def check_regular(path: Path) -> Path:
    """The path, if it is a regular file: reading a pipe would wait, and a device may never end.

    Raises:
        OSError: it is something else, or does not exist.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path


def read_regular(path: Path) -> bytes:
    """The content of a file; errors as `check_regular`."""
    return check_regular(path).read_bytes()


def read_text(path: Path, flag: str) -> str | None:
    """The text of a generated file, None if there is none; git may have changed its line ends.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_regular(path).decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(flag, path, error.strerror or "cannot be read") from error


def expand_user(text: str) -> Path:
    """The path with ``~`` expanded; unchanged if the user does not exist."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises for such a user


def check_writable(folder: Path, flag: str) -> None:
    """Refuse a folder that is not writable; it may not exist yet.

    Raises:
        UserError: naming the flag.
    """
    try:
        # `is_symlink`: a dangling link, where no folder can be made.
        there = next(
            path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink()
        )
    except OSError as error:
        raise UserError(flag, folder, f"must be a writable folder ({error.strerror})") from None
    if not there.is_dir():
        what = "a file" if there.exists() else "a dangling link"
        raise UserError(flag, folder, f"must be a writable folder ({there} is {what})")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(flag, folder, f"must be a writable folder ({there} is not writable)")


def check_output(path: Path, flag: str) -> Path:
    """Where a file will be written: links are followed.

    Raises:
        UserError: it cannot be written there, or there is something else than a regular file.
    """
    target = Path(os.path.realpath(path))  # Path.resolve raises for a link to itself
    try:
        with contextlib.suppress(FileNotFoundError):
            check_regular(target)
    except OSError as error:
        raise UserError(flag, path, f"must be writable ({error.strerror})") from None
    check_writable(target.parent, flag)
    return target


def write_files(files: Mapping[Path, bytes], flag: str, exclusive: bool = False) -> None:
    """Write several files atomically, one after another: readers never see a partial file.

    Put a file that describes the others last. If one file cannot be written, new files are removed again.
    Existing files are replaced only after all files were written to the disk, and keep their permissions;
    links are followed.

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
        targets = {path: check_output(path, flag) for path in files}
        new.extend(target for target in targets.values() if not target.exists())
        for path, content in files.items():
            target = targets[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(target, exclusive)
            # In the same folder, so that renaming does not copy.
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
            staged.append((temporary, target))
            with temporary.open("xb") as stream:
                if target not in new:
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
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


def _remove_leftovers(path: Path, exclusive: bool) -> None:
    """Remove temporary files of killed writers of `path`, but not of active ones."""
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if exclusive or time.time() - left_over.stat().st_mtime > ABANDONED_S:
                left_over.unlink()
