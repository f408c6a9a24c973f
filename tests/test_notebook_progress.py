"""In a notebook, whose streams are no terminals, one line is redrawn."""

import io
import sys
from types import SimpleNamespace

import pytest

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
