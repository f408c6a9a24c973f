"""Sweeps on real processes: what is killed is made again, nothing is lost, and nothing made twice."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from command_line import bench, descendants, write_images
from forked_runs import Process, begin

from bench.records import store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes under /proc"),
]
STEPS = 60  # long enough to be killed while it trains
GRID = {
    "dataset": "folder:images",
    "split": "50-50",
    "preset": "smoke",
    "runs": [
        {"method": ["nearest_centroid", "logistic_head"]},
        {"method": "protonet", "seed": [0, 1], "hyperparameters": {"train_way": 3, "steps": STEPS}},
    ],
}
RUNS = 4
WAIT_S = 900.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    root = Path(store.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    write_images(tmp_path / "images", 8, 40)
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One of the grid's runs without a sweep, in this process."""
    place = tmp_path_factory.mktemp("alone")
    write_images(place / "images", 8, 40)
    config = ["--method", "protonet", "--seed", "1", "--set", "train_way=3", "--steps", STEPS]
    rest = ["--dataset", "folder:images", "--split", "50-50", "--preset", "smoke", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", "cache")
        answer = bench("run", *config, *rest)
        assert answer.code == 0, answer.err
        (record,) = store.read_all(Path("results"))[0]
    return record


def start(engine: str) -> Process:
    arguments = ["sweep", "grid.yaml", "--engine", engine, "--jobs", "2", "--device", "cpu"]
    return begin(arguments, Path("sweep.log"))


def until(found, sweep: Process):
    """What `found` gives as soon as it gives something."""
    end = time.monotonic() + WAIT_S
    while not (there := found()):
        assert time.monotonic() < end and sweep.is_alive(), Path("sweep.log").read_text()
        time.sleep(0.02)
    return there


def training() -> bool:
    """Whether one of the long runs has begun."""
    logs = Path("runs", "logs").glob("protonet*.log")
    return any("measures" in log.read_text() for log in logs)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def workers(engine: str, sweep: Process) -> list[int]:
    """Process ids of those that do jobs."""
    mark = b"ray::work" if engine == "ray" else b"multiprocessing.forkserver"
    found = [pid for pid, line in descendants(sweep.pid) if mark in line and pid != sweep.pid]
    # The local engine's fork from a process that the sweep started.
    return [pid for pid in found if parent(pid) != sweep.pid]


def checked(said: str) -> None:
    """All runs are recorded once, and are valid."""
    found, problems = store.read_all(Path("results"))
    assert problems == [] and len(found) == RUNS, said
    assert bench("validate").code == 0
    assert {record.seed for record in found if record.method == "protonet"} == {0, 1}
    centroid, logistic = (
        next(r for r in found if r.method == m) for m in ("nearest_centroid", "logistic_head")
    )
    assert centroid.pretraining and centroid.pretraining == logistic.pretraining, "trained once"
    for record in found:
        assert Path("runs", record.run_id, "model.safetensors").is_file()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_worker_and_a_killed_sweep_lose_nothing(folder, alone, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    sweep = start(engine)
    try:
        until(training, sweep)
        os.kill(workers(engine, sweep)[0], signal.SIGKILL)
        until(lambda: "its process was killed; started again" in Path("sweep.log").read_text(), sweep)
        left = workers(engine, sweep)
        os.kill(sweep.pid, signal.SIGKILL)
        end = time.monotonic() + WAIT_S
        while any(Path(f"/proc/{pid}").exists() for pid in left):  # they notice that the sweep is gone
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        sweep.kill()
        sweep.join()
    if engine == "local":  # in this process, which has imported everything
        finished = bench("sweep", "grid.yaml", "--jobs", "2", "--device", "cpu")
        code, said = finished.code, finished.err
    else:
        sweep = start(engine)
        sweep.join(WAIT_S)
        code, said = sweep.exitcode, Path("sweep.log").read_text()
        sweep.kill()
    assert code == 0, said
    checked(said)
    own = Path("results", "own")
    once = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    again = bench("sweep", "grid.yaml", "--device", "cpu")
    assert again.code == 0 and f"{RUNS} recorded, 0 to do" in again.err
    assert {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()} == once
    assert store.read(own / f"{alone.run_id}.json").metrics == alone.metrics


def test_failed_runs_are_listed_and_the_others_are_made(folder):
    """In a working directory that has a folder of the user's own called `methods`."""
    (folder / "methods").mkdir()
    (folder / "methods" / "__init__.py").write_text("raise SystemExit('not this one')")
    content = {
        **GRID,
        "runs": [*GRID["runs"][:1], {"method": "protonet", "hyperparameters": {"learning_rate": 1e30}}],
    }
    content["runs"][1]["hyperparameters"] |= {"train_way": 3}
    Path("grid.yaml").write_text(yaml.safe_dump(content))
    answer = bench("sweep", "grid.yaml", "--jobs", "2", "--device", "cpu")
    assert answer.code == 1, answer
    (line,) = [line for line in answer.out.splitlines() if "protonet" in line]
    assert "diverged" in line
    assert sum(record.failure is None for record in store.read_all(Path("results"))[0]) == 2
    again = bench("sweep", "grid.yaml", "--device", "cpu")
    assert again.code == 1 and "3 recorded, 0 to do" in again.err and line in again.out
