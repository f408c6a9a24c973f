"""Failures of the machine: one line and exit 2, no half file, and what was there stays whole."""

import contextlib
import errno
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import figure_records
import pytest
from checkpoint_files import spend
from command_line import Answer, bench, complaint
from record_factory import make_episodes, make_record
from small_budget import small_budget

from bench.common.errors import UserError
from bench.records import store
from bench.reporting import report
from bench.reporting.figures import Picture
from bench.run import recording, runner
from bench.run.locks import LOCKS
from bench.training import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unquestioned")]
HERE = [
    "run", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke", "--device", "cpu",
    "--image-size", "16",
]  # fmt: skip
RUN = [*HERE, "--method", "siamese_triplet", "--steps", 6, "--set", "classes=4", "--precision", "fp32"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def often(monkeypatch) -> None:
    """A checkpoint after every step."""
    small_budget(monkeypatch, save_every_s=0.0)


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """The kernel refuses to make any file longer, as it does where the disk ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and LOCKS not in path.parts
    }


def last_line(answer: Answer) -> str:
    """The error of a command that had begun its work."""
    assert answer.code == 2 and answer.out == "", answer
    assert "Traceback" not in answer.err and answer.err.count("error: ") == 1
    return answer.err.splitlines()[-1]


def test_no_room_for_a_checkpoint(workspace, often):
    with files_end_at(100_000):
        line = last_line(bench(*RUN, "--seed", 1, "--results", "none", "--runs", "cramped"))
    assert line.startswith("error: --runs cramped/siamese-triplet")
    assert line.endswith(": must be writable (File too large)")
    assert not contents(Path("none"))
    assert not list(Path("cramped").rglob("*.tmp")) and not list(Path("cramped").rglob("*.ckpt"))


def test_no_room_for_the_next_checkpoint_and_then_there_is(workspace, often, monkeypatch):
    """The last whole checkpoint stays, and the same command resumes from it."""
    save = checkpoints.CheckedFiles.save_checkpoint

    def fills_up(self, checkpoint, path, storage_options=None):
        if checkpoint["global_step"] == 4:
            raise FULL
        save(self, checkpoint, path, storage_options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.CheckedFiles, "save_checkpoint", fills_up)
        line = last_line(bench(*RUN, "--seed", 2))
    assert line.endswith(": must be writable (No space left on device)")
    (last,) = Path("runs").glob("siamese-triplet*_s2_*/checkpoints/*")
    assert spend(last, 1000.0)["global_step"] == 3
    assert bench(*RUN, "--seed", 2, "--results", "gone-on").code == 0
    (logs,) = Path("runs").glob("siamese-triplet*_s2_*/logs")
    assert [path.name for path in logs.glob("from-*")] == ["from-3"]
    (path,) = Path("gone-on").glob("*.json")
    timings = store.read(path).timings
    assert timings.total_s > timings.train_s > 1000
    assert bench("validate", "--results", "gone-on").code == 0


def test_no_room_for_logs(workspace, monkeypatch):
    def full(self):
        raise FULL

    monkeypatch.setattr("pytorch_lightning.loggers.CSVLogger.save", full)
    line = last_line(bench(*RUN, "--seed", 3))
    assert line.startswith("error: --runs runs/siamese-triplet") and "No space left" in line


def test_a_record_that_cannot_be_written_costs_no_training(workspace, often, monkeypatch):
    """Neither it nor its arrays are there; the same command evaluates again and does not train again."""
    results, write = Path("crowded"), store.write

    def full(descriptor: int) -> None:
        raise FULL

    with monkeypatch.context() as patch:

        def fills_up(*record_and_arrays: Any) -> Path:
            patch.setattr(os, "fsync", full)
            return write(*record_and_arrays)

        patch.setattr(store, "write", fills_up)
        line = last_line(bench(*RUN, "--seed", 4, "--results", results))
    assert line.startswith("error: --results crowded/siamese-triplet") and "No space left" in line
    assert not contents(results)
    assert bench(*RUN, "--seed", 4, "--results", results).code == 0
    (logs,) = Path("runs").glob("siamese-triplet*_s4_*/logs")
    assert [path.name for path in logs.glob("from-*")] == ["from-6"]  # of 6 steps
    assert bench("validate", "--results", results).code == 0


@pytest.mark.parametrize("flag", ["--results", "--runs"])
def test_a_read_only_folder_is_found_before_any_work(workspace, monkeypatch, flag):
    Path("locked").mkdir(exist_ok=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    assert complaint(*RUN, "--seed", 5, flag, "locked/inner") == (
        f"{flag} locked/inner: must be a writable folder ({Path('locked').absolute()} is not writable)"
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    figure_records.write(folder / "results")
    return folder


@pytest.mark.parametrize(
    ("command", "output"),
    [("leaderboard", "leaderboard.md"), ("report", "report.html"), ("figures", "figures"), ("docs", "pages")],
)
def test_no_room_for_what_is_made_from_records(recorded, monkeypatch, command, output):
    """What was there before is there still."""
    monkeypatch.chdir(recorded)
    collect = sys.modules["bench.reporting.figures.collect"]
    every = collect.collect
    for module in (collect, report):  # one picture is slow enough
        monkeypatch.setattr(
            module, "collect", lambda *where: [p for p in every(*where) if type(p) is Picture][:1]
        )
    arguments = (command, "--results", "results", "--output", output)
    assert bench(*arguments).code == 0
    before = contents(recorded)
    figure_records.write(recorded / "results", method="another", accuracy=0.7)
    with files_end_at(1000):
        line = last_line(bench(*arguments))
    assert line.startswith(f"error: --output {output}") and "(File too large)" in line
    assert contents(recorded).items() >= before.items() and not list(recorded.rglob("*.tmp"))


def test_arrays_of_a_record_that_cannot_be_replaced_are_not_taken_for_its_own(tmp_path, monkeypatch):
    """They were renamed already when the record cannot be: its SHA-256 of them says so."""
    store.write(make_record(), tmp_path, make_episodes(seed=1))
    before = contents(tmp_path)
    rename = Path.replace

    def full(self, target):
        if str(target).endswith(".json"):
            raise FULL
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"--results .*\.json: .*No space left on device"):
        store.write(make_record(command="again"), tmp_path, make_episodes(seed=2))
    after = contents(tmp_path)
    changed = {path for path in before if before[path] != after[path]}
    assert after.keys() == before.keys() and all(str(path).endswith(".npz") for path in changed)
    monkeypatch.undo()
    assert bench("validate", "--results", tmp_path).code == 1
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError):
        store.write(make_record(run_id="another"), tmp_path, make_episodes(seed=2))
    assert contents(tmp_path) == after


def test_a_hub_out_of_reach_is_one_line(workspace, monkeypatch):
    """Of timm's weights; for data sets see tests/data/test_hub.py."""
    from huggingface_hub import constants

    asked = []

    def nobody(host, *arguments, **options):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between retries
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(workspace / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    finetune = [*HERE, "--method", "finetune", "--backbone", "timm:test_resnet"]
    line = complaint(*finetune, "--set", "pretrained=true")
    assert line.startswith("--backbone timm:test_resnet: the weights of timm:test_resnet ")
    assert "cannot be had" in line and "--weights FILE" in line and asked


def test_a_clock_that_goes_backwards(workspace, monkeypatch):
    """An hour back whenever anybody looks."""
    now = datetime.now(UTC).timestamp()

    def backwards() -> float:
        nonlocal now
        now -= 3600
        return now

    class Backwards(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(backwards(), tz)

    monkeypatch.setattr(time, "time", backwards)
    for module in (runner, recording):
        monkeypatch.setattr(module, "datetime", Backwards)
    answer = bench(*RUN, "--seed", 6, "--results", "yesterday")
    assert answer.code == 0, answer.err
    (record,) = store.read_all(Path("yesterday"))[0]
    assert record.created < datetime.now(UTC) - timedelta(minutes=59)
    assert all(value > 0 for value in record.timings.model_dump(exclude_none=True).values())
    assert bench("validate", "--results", "yesterday").code == 0
