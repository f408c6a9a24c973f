"""Several at once on one folder of records and one cache: nothing is lost, and nothing done twice."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from command_line import bench, settle, write_images
from forked_runs import together

from bench.common.errors import UserError
from bench.common.files import write_files
from bench.data import cache
from bench.records import store
from bench.run.locks import exclusive

pytestmark = pytest.mark.slow
SEEDS = 2
COMMAND = [
    "run", "--method", "protonet", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke",
    "--image-size", "16", "--steps", "2", "--set", "train_way=3", "--measure", "pairs", "--device", "cpu",
]  # fmt: skip


@pytest.mark.parametrize("runs", [4, pytest.param(30, marks=pytest.mark.soak)])
def test_runs_of_two_configurations_train_twice(tmp_path, monkeypatch, runs):
    write_images(tmp_path / "images", 8, 40)
    seeds = [number % SEEDS for number in range(runs)]
    ends = together([[*COMMAND, "--seed", str(seed)] for seed in seeds], tmp_path)
    assert [end["status"] for end in ends] == [0] * runs, ends
    monkeypatch.chdir(tmp_path)

    found, problems = store.read_all(Path("results"))
    assert problems == [] and [record.seed for record in found] == list(range(SEEDS))
    for seed, end in zip(seeds, ends, strict=True):  # each was told its record
        assert end["said"].splitlines()[-1] == f"results/own/{found[seed].run_id}.json"
    assert len({str(record.metrics) for record in found}) == SEEDS
    said = "".join(end["said"] for end in ends)
    assert said.count("training: 2/2 steps") == SEEDS
    assert said.count("is already recorded") == runs - SEEDS
    assert bench("validate").code == 0

    assert said.count("decoding images: 320/320") == 1 and "warning" not in said
    (decoded,) = Path("cache").glob("*.safetensors")
    assert len(cache.read(decoded)) == 320
    assert not list(Path().rglob("*.tmp"))


@pytest.fixture(scope="module")
def two_seeds(decoded, tmp_path_factory):
    """Records of two runs."""
    place = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        settle(decoded, place, patch)
        assert bench(*COMMAND, "--seed", "0,1").code == 0
    return place / "results" / "own"


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_of_another_process_is_left_for_later(two_seeds, here, unquestioned, killed):
    """A thread plays the other process: it has the first run of the grid until the second is recorded."""
    results, grid = here / "results" / "own", [*COMMAND, "--seed", "0,1"]
    shutil.copytree(two_seeds, results)
    first, second = sorted(Path("results", "own").glob("*.json"))
    theirs = first.read_bytes()
    first.unlink()
    second.unlink()
    taken, seen = threading.Event(), []

    def other() -> None:
        with exclusive(first.stem, results, here / "runs"):
            taken.set()
            while not second.exists():
                time.sleep(0.01)
            seen.append(first.exists())
            if not killed:
                first.write_bytes(theirs)

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait()
    answer = bench(*grid)
    thread.join()
    assert answer.code == 0, answer.err
    assert seen == [False] and "postponed" in answer.err
    assert answer.out.splitlines()[-2:] == [f"results/own/{second.name}", f"results/own/{first.name}"]
    assert answer.err.count("training: 2/2 steps") == 1 + killed
    assert (first.read_bytes() == theirs) != killed


def test_two_folders_of_runs_and_one_of_results_give_one_record(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 8, 40)
    commands = [[*COMMAND, "--runs", "one"], [*COMMAND, "--runs", "other", "--overwrite"]]
    ends = together(commands, tmp_path)
    assert [end["status"] for end in ends] == [0] * 2, ends
    monkeypatch.chdir(tmp_path)
    (record,) = map(str, Path("results").rglob("*.json"))
    assert [end["said"].splitlines()[-1] for end in ends] == [record] * 2
    assert "".join(end["said"] for end in ends).count("training: 2/2 steps") == 1
    assert bench("validate").code == 0


def test_writers_of_one_file_leave_each_other_alone(tmp_path):
    """Such as several `leaderboard` commands: the file is at all times one that one of them wrote."""
    path, problems = tmp_path / "board.md", []

    def write(letter: bytes) -> None:
        try:
            for _ in range(30):
                write_files({path: letter * 5000}, "--output")
                assert len(set(path.read_bytes())) == 1
        except (AssertionError, UserError) as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(bytes([65 + number]),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [found.name for found in tmp_path.iterdir()] == ["board.md"]


@pytest.mark.parametrize("hours", [0, 2])
def test_half_a_file_goes_when_its_writer_is_surely_gone(tmp_path, hours):
    left = tmp_path / ".board.md.12345678.tmp"
    left.write_text("half")
    then = left.stat().st_mtime - 3600 * hours
    os.utime(left, (then, then))
    write_files({tmp_path / "board.md": b"whole"}, "--output")
    assert left.exists() == (hours == 0)
    write_files({tmp_path / "board.md": b"whole"}, "--output", exclusive=True)
    assert not left.exists()


@pytest.mark.parametrize("flag", ["--results", "--runs"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path, flag):
    (tmp_path / "file").touch()
    places = {"--results": tmp_path / "a", "--runs": tmp_path / "b"} | {flag: tmp_path / "file"}
    with pytest.raises(UserError, match=f"^{flag} .*file: must be a writable folder"):
        exclusive("r", *places.values()).__enter__()
