"""`python -m bench demo`: what it says, where it listens, how it ends."""

import importlib.util
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command_line import complaint

from bench.common.errors import UserError
from bench.demo.server import serving
from bench.serving.shipped import SHIPPED, shipped

ROOT = Path(__file__).parents[2]
COMMAND = """if True:
    import runpy, signal, sys
    from bench.demo import page

    def blocks(self, made=page.Page.blocks):
        found = made(self)
        assert "torch" not in sys.modules  # it takes seconds, in which the page can be open already
        return found

    page.Page.blocks = blocks
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    sys.argv = ["bench", "demo", "--no-browser"]
    runpy.run_module("bench", run_name="__main__")"""


@pytest.mark.slow
def test_it_serves_this_machine_alone_until_ctrl_c():
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("gradio")
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address, said = process.stdout.readline().split(" ", 1)
        assert (address[:17], said) == ("http://127.0.0.1:", "(press Ctrl-C to stop)\n")
        assert "fewshot-bench" in httpx.get(address).raise_for_status().text
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", urlsplit(address).port), 5):
            pass
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, *rest) == (0, "", "")


def test_bad_flags_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing else writes there
    assert "--port 80: must be 1024 to 65535" in complaint("demo", "--port", 80)
    assert "no such folder" in complaint("demo", "--run", "x", "--results", tmp_path / "none")


def test_it_says_how_to_install_gradio(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else find(name, *more)
    )
    said = complaint("demo")
    assert said.startswith("demo: gradio is missing; install the extra demo ") and "--extra demo" in said


@pytest.fixture
def gradio(monkeypatch):
    """Gradio; where it keeps uploads is set by the server, and taken back here."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    return pytest.importorskip("gradio")


@pytest.mark.slow
def test_a_taken_port_is_refused(gradio, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"^--port {port}: is taken; without"),
            serving(None, tmp_path, tmp_path, None, port, False),
        ):
            pass


@pytest.mark.slow
def test_a_run_that_cannot_compare_is_refused_before_the_page_opens(gradio, tmp_path):
    record = shipped().record
    copy = tmp_path / record.run_id
    shutil.copytree(shipped().folder, copy)
    card = json.loads((copy / "model.json").read_text()) | {"thresholds": {}}
    (copy / "model.json").write_text(json.dumps(card))
    with (
        pytest.raises(UserError, match="measured no pairs"),
        serving(record.run_id, SHIPPED, tmp_path, None, None, False),
    ):
        pass
