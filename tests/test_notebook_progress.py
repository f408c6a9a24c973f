"""In a notebook, whose streams are not terminals, one line is redrawn."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import write_images

import bench
from bench.common import progress
from bench.common.progress import Progress


class OutStream(io.StringIO):
    """As the kernel's: no terminal."""


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel.iostream", SimpleNamespace(OutStream=OutStream))
    return OutStream()


def test_a_line_is_redrawn_and_ends_full(stream, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    work = Progress(stream)
    work.start("training", 40, "steps")
    for _ in range(40):
        clock.now += 0.25
        work.advance(1, loss="0.5")
    work.stop()
    work.start("evaluating", 4, "episodes")
    work.advance(1)
    work.stop()
    first, second, end = stream.getvalue().split("\n")
    drawn = first.split("\r")
    assert len(drawn) == 1 + 1 + 20 and end == ""  # at the start, and every half second of ten
    assert drawn[1].startswith("░" * 16 + " training: 0/40 steps") and "left" not in drawn[1]
    assert drawn[11].startswith("█" * 8 + "░" * 8 + " training: 20/40 steps  4.0/s  0:05 left  loss 0.5")
    assert drawn[-1].rstrip() == "█" * 16 + " training: 40/40 steps  4.0/s  in 0:10  loss 0.5"
    assert second.split("\r")[-1].startswith("█" * 4 + "░" * 12 + " evaluating: 1/4 episodes")


def test_other_streams_get_lines(stream):
    other = io.StringIO()
    work = Progress(other)
    work.start("training", 2, "steps")
    work.advance(2)
    work.stop()
    assert "\r" not in other.getvalue() and other.getvalue().startswith("training: 2/2 steps")


BAR = """
from bench.common.progress import Progress
work = Progress()
work.start("reading", 3, "images")
work.advance(3)
work.stop()
"""
RUN = """
import bench
few = {"dataset": "folder:images", "image_size": 16, "preset": "smoke", "steps": 3, "measure": ["allw1s"]}
bench.run("nearest_centroid", "50-50", device="cpu", **few)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "result", "tasks"),
    [
        pytest.param(BAR, "", ["reading: 3/3 images"], id="bar"),
        pytest.param(
            RUN,
            "nearest_centroid (smoke",
            ["decoding images: 144/144 items", "pretraining: 3/3 steps"],
            id="run",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_the_cell_of_a_notebook_shows_a_bar(tmp_path, monkeypatch, cell, result, tasks):
    """In a kernel of its own, as Jupyter starts it; a whole run there, which imports torch, is for soak."""
    from jupyter_client.manager import start_new_kernel

    for name in ("FEWSHOT_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(bench.__file__).parents[1]), *sys.path]))
    write_images(tmp_path / "images", classes=6, each=24)
    said = {"result": ""}

    def listen(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            said[content["name"]] = said.get(content["name"], "") + content["text"]
        elif message["msg_type"] == "execute_result":
            said["result"] = content["data"]["text/plain"]

    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        reply = client.execute_interactive(cell, output_hook=listen, timeout=300)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply
    assert said["result"].startswith(result)
    for task in tasks:
        (line,) = (line for line in said["stderr"].split("\n") if task in line)
        drawn = line.split("\r")
        assert drawn[1].startswith("░" * 16) and drawn[-1].startswith("█" * 16 + f" {task}"), drawn
