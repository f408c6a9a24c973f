"""Downloads published data sets as torchvision does: same addresses, MD5 sums and folders."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from bench.common.errors import UserError, reason_of
from bench.common.streams import say

TIMEOUT = 20
"""Seconds without data after which a download fails."""


@dataclass(frozen=True)
class Archive:
    """A file to download, and the result of unpacking it.

    Attributes:
        what: for messages, e.g. ``CIFAR-100 (169 MB)``.
        holds: the file or folder that it unpacks to, in the data root.
        path: the archive itself, in the data root, where it may already exist; the same as `holds` for a file
            that is not unpacked.
        address: returns URLs, tried in this order, and the MD5 sum; None if the publisher gives none, which
            is allowed only for pickles. A function, because it imports torchvision, which is slow.
    """

    what: str
    holds: str
    path: str
    address: Callable[[], tuple[list[str], str | None]]


def require(
    dataset: str, archives: Sequence[Archive], root: Path, origin: str, offline: bool, ways: str = ""
) -> None:
    """Check that the content of all archives is in the data root, and download what is missing.

    Args:
        dataset: its name.
        archives: all of the data set.
        root: the data root.
        origin: where `root` comes from, for the message, e.g. ``--data-root``.
        offline: do not download.
        ways: other ways to get the files, for the message.

    Raises:
        UserError: the data set is missing and cannot be downloaded.
    """

    def missing(folder: Path) -> list[Path]:
        return [folder / archive.holds for archive in archives if not (folder / archive.holds).exists()]

    if not missing(root):
        return
    above = next((folder for folder in root.parents[:2] if not missing(folder)), None)
    reason = f"--data-root {above} has it" if above else download(archives, root, offline)
    if reason:
        looked = " nor in ".join(str(path) for path in missing(root))
        raise not_found(dataset, looked, root, origin, reason, ways)


def not_found(dataset: str, looked: str, root: Path, origin: str, reason: str, ways: str = "") -> UserError:
    """The error that a data set is missing: searched paths, why it was not downloaded, and what to do."""
    absent = "" if root.is_dir() else ", which does not exist"
    return UserError(
        "--dataset",
        dataset,
        f"not found in {looked} ({origin} is {root}{absent}), and not downloaded: {reason}; {ways}give its"
        " folder with --data-root, or use --dataset glyphs, which needs no download",
    )


def download(archives: Sequence[Archive], root: Path, offline: bool) -> str:
    """Put the content of the archives into `root`, from archives there or from the Internet.

    Each is written atomically; existing ones are not changed.

    Returns:
        The reason of the failure; the empty string on success.
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
        with _locked(lock):
            for left_over in root.glob(f"{prefix}*"):  # left by a killed download
                shutil.rmtree(left_over, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=prefix) as temporary:
                # torchvision has no timeout, so a silent host would block the run forever.
                socket.setdefaulttimeout(TIMEOUT)
                for archive in needed:
                    if not (root / archive.holds).exists():  # unless another process was faster
                        _fetch(archive, root, Path(temporary), offline)
            return ""
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        return reason_of(error)
    finally:
        socket.setdefaulttimeout(timeout)
        with suppress(OSError):
            for folder in created:  # until the first that is not empty
                folder.rmdir()


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock, and remove its file afterwards, which only the holder may do."""
    with FileLock(lock):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


def _fetch(archive: Archive, root: Path, temporary: Path, offline: bool) -> None:
    """Get one archive and move its content to its place.

    Raises:
        RuntimeError: it cannot be downloaded, or is not the published file.
    """
    from torchvision.datasets.utils import check_integrity

    urls, md5 = archive.address()
    file = root / archive.path
    if not check_integrity(file, md5):
        if offline:
            raise RuntimeError(f"--offline forbids it, and {file} is damaged")
        file = temporary / file.name
        _download_first(urls, archive.what, file, md5, root)
    if archive.holds != archive.path:
        _unpack(file, temporary)
    target = root / archive.holds
    target.parent.mkdir(parents=True, exist_ok=True)
    (temporary / target.name).rename(target)


def _unpack(file: Path, folder: Path) -> None:
    """Unpack an archive, only into the folder.

    Raises:
        tarfile.TarError: a member is outside, by an absolute path, ``..`` or a link.
    """
    from torchvision.datasets.utils import extract_archive

    if tarfile.is_tarfile(file):  # older versions of torchvision do not check members
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    else:
        extract_archive(file, folder)


def _download_first(urls: Sequence[str], what: str, file: Path, md5: str | None, root: Path) -> None:
    """Download from the first URL that returns the published file."""
    from torchvision.datasets.utils import download_url

    failures = []
    for url in urls:
        say(f"downloading {what} from {url} to {root}")
        try:
            download_url(url, str(file.parent), file.name, md5)
            if md5 is None and not _is_whole_pickle(file):
                raise RuntimeError("the download is not a complete pickle")
            return
        except (OSError, RuntimeError, HTTPException) as error:
            failures.append(f"{url}: {reason_of(error)}")
    raise RuntimeError("; ".join(failures))


def _is_whole_pickle(file: Path) -> bool:
    """Whether it starts and ends like a pickle; a web page or an incomplete file does not."""
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened:
        start = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        return start == b"\x80" and opened.read(1) == b"."
