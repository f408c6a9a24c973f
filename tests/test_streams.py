"""Standard streams that nobody reads: the work is done, without a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked_runs import with_streams
from record_factory import make_episodes, make_record

from bench.__main__ import INTERRUPTED
from bench.common.streams import Tolerant
from bench.records import store

ROOT = Path(__file__).parents[1]
RUN = [
    "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--split", "50-50",
    "--image-size", "16",
    "--preset", "smoke", "--steps", "1", "--set", "classes=4", "--measure", "pairs", "--device", "cpu",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def shell(command: str, *arguments: str) -> subprocess.CompletedProcess:
    """What `python -m bench` says in a shell that puts `command` after it."""
    line = f'"$0" -m bench "$@" {command}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *arguments], capture_output=True, text=True, timeout=120
    )


def read_by_nobody(*arguments: str) -> subprocess.Popen:
    """The command after it has written into a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    process.said = process.communicate(timeout=120)[1]  # type: ignore[attr-defined]
    return process


class Broken:
    """A stream whose every write fails."""

    closed = False

    def write(self, text):
        raise OSError(28, "No space left on device")

    flush = write


def test_a_failed_write_is_swallowed_and_remembered():
    stream = Tolerant(Broken())
    print("lost", file=stream, flush=True)
    assert stream.failed.errno == 28


def test_a_mistake_is_not_taken_for_a_failed_write(tmp_path):
    with (tmp_path / "x").open("w", encoding="ascii") as file, pytest.raises(UnicodeEncodeError):
        print("ü", file=Tolerant(file))


def test_stdout_that_is_closed(folder):
    done = shell(">&-", "list", "splits")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_stdout_on_a_full_disk(folder):
    done = shell(">/dev/full", "list", "splits")
    assert done.returncode == 2
    assert done.stderr == "error: stdout: cannot be written (No space left on device)\n"


def test_stdout_whose_reader_leaves(folder):
    process = read_by_nobody("list", "splits")
    assert (process.returncode, process.said) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_stderr_that_is_closed_or_full(folder, stderr):
    store.write(make_record(), folder / "results", make_episodes())
    (folder / "results" / "broken.json").write_text("{}")
    done = shell(stderr, "leaderboard")
    assert (done.returncode, done.stdout) == (1, "leaderboard.md\n")
    assert store.read_all(Path("results"))[1]  # nothing was written into a file by its number


def closed():
    os.close(1)
    os.close(2)


def on_a_full_disk():
    full = os.open("/dev/full", os.O_WRONLY)
    for number in (1, 2):
        os.dup2(full, number)


def without_a_reader():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "code"),
    [pytest.param(closed, 0, marks=pytest.mark.soak), (on_a_full_disk, 2), (without_a_reader, 0)],
)
def test_a_training_does_not_end_with_its_streams(here, streams, code):
    assert with_streams(RUN, here, streams) == code
    records, problems = store.read_all(Path("results"))
    assert len(records) == 1 and not problems


EXITING = """
import atexit, time
import bench.__main__ as program

def work():
    print("begun", flush=True)
    time.sleep(60)

atexit.register(time.sleep, 60)
program._run = work
program.main()
"""


def test_the_second_ctrl_c_prints_nothing_more(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", EXITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    first = process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert (first + rest, process.returncode) == (f"error: {INTERRUPTED}\n", 130)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["methods", "yaml", pytest.param("typer", marks=pytest.mark.soak)])
def test_modules_of_the_working_directory_are_not_imported(folder, name):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    done = shell("", "list", "splits")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell("", "run", "--method", "protonet", "--split", "99")
    assert done.returncode == 2 and done.stderr.startswith("error: --split 99: ")
