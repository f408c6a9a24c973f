"""Downloads that stop half way or hang, and several of the same thing at once."""

import hashlib
import io
import multiprocessing
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.data import download
from bench.data.download import Archive

CONTENT = bytes(range(256)) * 2000


def packed() -> bytes:
    """An archive of one folder with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("things/file")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))
    return buffer.getvalue()


class Host:
    """A host of one archive, on this machine.

    Attributes:
        answer: what is sent before the connection ends: all, or less.
        hangs: whether the connection stays open then.
    """

    def __init__(self) -> None:
        self.answer, self.hangs = packed(), False
        self.over = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(packed())))
                self.end_headers()
                self.wfile.write(host.answer)
                if host.hangs:
                    host.over.wait(60)

            def log_message(self, *message: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def archives(self) -> list[Archive]:
        url = f"http://127.0.0.1:{self.server.server_port}/things.tar"
        md5 = hashlib.md5(packed()).hexdigest()
        return [Archive("some things", "things", "things.tar", lambda: ([url], md5))]


@pytest.fixture
def host() -> Iterator[Host]:
    running = Host()
    yield running
    running.stop()


@pytest.mark.parametrize("hangs", [False, True], ids=["stops", "hangs"])
def test_half_a_download_is_given_up_and_begun_again(host, tmp_path, monkeypatch, hangs):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    root = tmp_path / "new" / "root"
    host.answer, host.hangs = packed()[:300_000], hangs
    reason = download.download(host.archives(), root, offline=False)
    assert ("timed out" if hangs else "File not found or corrupted") in reason and "\n" not in reason
    assert not (tmp_path / "new").exists()
    host.answer, host.hangs = packed(), False
    assert download.download(host.archives(), root, offline=False) == ""
    assert (root / "things" / "file").read_bytes() == CONTENT
    assert [path.name for path in root.iterdir()] == ["things"]


def test_what_a_killed_download_left_goes_with_the_next_one(host, tmp_path):
    of_another = tmp_path / ".others-download-abc"
    of_another.mkdir()
    left = tmp_path / ".things-download-abc"
    left.mkdir()
    (left / "things.tar").write_bytes(packed()[:1000])
    assert download.download(host.archives(), tmp_path, offline=False) == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [".others-download-abc", "things"]


def _download(barrier, archives: list[Archive], root: Path, said: Path) -> None:
    barrier.wait()
    (said / str(os.getpid())).write_text(download.download(archives, root, offline=False))


@pytest.mark.slow
def test_processes_that_ask_at_once_download_once(host, tmp_path, capfd):
    said = tmp_path / "said"
    said.mkdir()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(10)
    arguments = (barrier, host.archives(), tmp_path / "root", said)
    processes = [context.Process(target=_download, args=arguments) for _ in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [path.read_text() for path in said.iterdir()] == [""] * 10
    assert capfd.readouterr().err.count("downloading some things from") == 1
    assert (tmp_path / "root" / "things" / "file").read_bytes() == CONTENT
