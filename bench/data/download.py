"""Download published data sets as torchvision does: same addresses, same MD5 sums, same folders."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from bench.common.errors import UserError

TIMEOUT = 20
"""Seconds of silence after which the host is given up."""


@dataclass(frozen=True)
class Archive:
    """A file to download, and what unpacking it makes.

    Attributes:
        what: for people, e.g. ``CIFAR-100 (169 MB)``.
        holds: the file or folder that it unpacks to, in the data root.
        path: the archive itself, in the data root, where it may lie already; a file that is used as
            it comes has the same path as what it holds.
        address: gives URLs, tried in this order, and the MD5 sum; None where the publisher states none,
            which is for pickles only. A function, because torchvision knows them and is slow to import.
    """

    what: str
    holds: str
    path: str
    address: Callable[[], tuple[list[str], str | None]]


def require(
    dataset: str, archives: Sequence[Archive], root: Path, origin: str, offline: bool, ways: str = ""
) -> None:
    """See that everything that the archives hold lies in the data root, or download what is missing.

    Args:
        dataset: its name.
        archives: all of the data set.
        root: the data root.
        origin: where `root` comes from, for the message, e.g. ``--data-root``.
        offline: do not download.
        ways: how else the files can be had, for the message.

    Raises:
        UserError: the data set is neither there nor to be had.
    """

    def missing(folder: Path) -> list[Path]:
        return [folder / archive.holds for archive in archives if not (folder / archive.holds).exists()]

    if not missing(root):
        return
    above = next((folder for folder in root.parents[:2] if not missing(folder)), None)
    reason = f"it lies in {above}, so give that one" if above else download(archives, root, offline)
    if reason:
        looked = " nor in ".join(str(path) for path in missing(root))
        raise not_found(dataset, looked, root, origin, reason, ways)


def not_found(dataset: str, looked: str, root: Path, origin: str, reason: str, ways: str = "") -> UserError:
    """The error that says where a data set was looked for, why it was not downloaded, and the ways on."""
    absent = "" if root.is_dir() else ", which does not exist"
    return UserError(
        "--dataset",
        dataset,
        f"not found in {looked} ({origin} is {root}{absent}), and not downloaded: {reason}; {ways}give the"
        " folder it lies in with --data-root, or use --dataset glyphs, which needs no download",
    )


def download(archives: Sequence[Archive], root: Path, offline: bool) -> str:
    """Put what the archives hold into `root`, from the archives there or from the Internet.

    Each comes whole or not at all; those that are there already stay as they are.

    Returns:
        Why this failed; the empty string if it did not.
    """
    needed = [archive for archive in archives if not (root / archive.holds).exists()]
    if offline and not all((root / archive.path).is_file() for archive in needed):
        return "--offline forbids it"
    created: list[Path] = []
    name = Path(archives[0].holds).parts[0]
    lock, prefix = root / f".{name}.lock", f".{name}-download-"
    timeout = socket.getdefaulttimeout()
    try:
        created += [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        with _alone(lock):
            for left_over in root.glob(f"{prefix}*"):  # by a killed download
                shutil.rmtree(left_over, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=prefix) as temporary:
                # torchvision sets no timeout of its own: a silent host would hang the run for ever.
                socket.setdefaulttimeout(TIMEOUT)
                for archive in needed:
                    if not (root / archive.holds).exists():  # another process may have been faster
                        _fetch(archive, root, Path(temporary), offline)
            return ""
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        return _one_line(error)
    finally:
        socket.setdefaulttimeout(timeout)
        with suppress(OSError):
            for folder in created:  # stops at the first one that is not empty
                folder.rmdir()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock, and remove its file afterwards: only who holds it may."""
    with FileLock(lock):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


def _fetch(archive: Archive, root: Path, temporary: Path, offline: bool) -> None:
    """Get one archive and move what it holds to its place.

    Raises:
        RuntimeError: it cannot be had, or is not the published one.
    """
    from torchvision.datasets.utils import check_integrity

    urls, md5 = archive.address()
    file = root / archive.path
    if not check_integrity(file, md5):
        if offline:
            raise RuntimeError(f"--offline forbids it, and {file} is damaged")
        file = temporary / file.name
        _from_first(urls, archive.what, file, md5, root)
    if archive.holds != archive.path:
        _unpack(file, temporary)
    target = root / archive.holds
    target.parent.mkdir(parents=True, exist_ok=True)
    (temporary / target.name).rename(target)


def _unpack(file: Path, folder: Path) -> None:
    """Unpack an archive; nothing of it lands outside the folder.

    Raises:
        tarfile.TarError: it would, by an absolute path, ``..`` or a link.
    """
    from torchvision.datasets.utils import extract_archive

    if tarfile.is_tarfile(file):  # whose members older versions of torchvision put where they like
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    else:
        extract_archive(file, folder)


def _from_first(urls: Sequence[str], what: str, file: Path, md5: str | None, root: Path) -> None:
    """Download from the first address that gives the published file."""
    from torchvision.datasets.utils import download_url

    failures = []
    for url in urls:
        print(f"downloading {what} from {url} to {root}", file=sys.stderr)
        try:
            download_url(url, str(file.parent), file.name, md5)
            if md5 is None and not _is_whole_pickle(file):
                raise RuntimeError("the download is not a complete pickle")
            return
        except (OSError, RuntimeError, HTTPException) as error:
            failures.append(f"{url}: {_one_line(error)}")
    raise RuntimeError("; ".join(failures))


def _is_whole_pickle(file: Path) -> bool:
    """Whether it starts and ends as a pickle does; a web page or a part of the file does not."""
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened:
        start = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        return start == b"\x80" and opened.read(1) == b"."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
