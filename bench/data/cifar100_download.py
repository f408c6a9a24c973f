"""Download CIFAR-100 as torchvision does: same address, same MD5, same folder."""

from __future__ import annotations

import socket
import sys
import tarfile
import tempfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

PICKLES = "cifar-100-python"
"""The folder's name, and the archive's but for its suffix."""

TIMEOUT = 20
"""Seconds of silence after which the host is given up."""


def download(root: Path, offline: bool) -> str:
    """Put torchvision's folder into `root`, from its archive there or from the Internet.

    Returns:
        Why this failed; the empty string if it did not.
    """
    archive = root / f"{PICKLES}.tar.gz"
    if offline and not archive.is_file():
        return "--offline forbids it"
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import check_integrity, download_url, extract_archive

    created: list[Path] = []
    lock = root / f".{PICKLES}.lock"
    timeout = socket.getdefaulttimeout()
    try:
        created += [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock), tempfile.TemporaryDirectory(dir=root, prefix=f".{PICKLES}-") as temporary:
            if (root / PICKLES).is_dir():  # another process was faster
                return ""
            if not check_integrity(archive, CIFAR100.tgz_md5):
                if offline:
                    return f"--offline forbids it, and {archive} is damaged"
                print(f"downloading CIFAR-100 (169 MB) from {CIFAR100.url} to {root}", file=sys.stderr)
                # torchvision sets no timeout of its own: a silent host would hang the run for ever.
                socket.setdefaulttimeout(TIMEOUT)
                download_url(CIFAR100.url, temporary, archive.name, CIFAR100.tgz_md5)
                archive = Path(temporary, archive.name)
            extract_archive(archive, temporary)
            Path(temporary, PICKLES).rename(root / PICKLES)
            return ""
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        socket.setdefaulttimeout(timeout)
        with suppress(OSError):
            lock.unlink()
            for folder in created:  # stops at the first one that is not empty
                folder.rmdir()
