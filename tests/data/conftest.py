"""Fixtures for data sets: nothing cached, no network but this machine's own, and a server on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bench.data.images import ImageSet


@pytest.fixture
def isolated(tmp_path, monkeypatch) -> None:
    """An empty cache, and no network but this machine's own."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    resolve = socket.getaddrinfo

    def no_network(host, *arguments, **options):
        if host != "127.0.0.1":
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", no_network)


@pytest.fixture(scope="session")
def noise() -> ImageSet:
    """10 classes of 12 images, 5 of them held out."""
    from random_sets import random_set

    return random_set(10, 12, held_out=5)


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """Where a folder of images can be made; the cache is empty."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "pictures"


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder by HTTP: folder -> URL, without a slash at its end."""
    with ExitStack() as running:

        def start(folder: Path) -> str:
            handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
            server = running.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            running.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
