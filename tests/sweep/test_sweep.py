"""Sweeps on real processes: what is killed is made again, nothing is lost, and nothing made twice."""

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from command_line import bench, descendants, write_images
from forked_runs import Process, begin

from bench.records import store
from bench.records.commands import command_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes under /proc"),
]
STEPS = 40  # long enough to be killed while it trains
GRID = {
    "dataset": "folder:images",
    "image_size": 16,
    "split": "50-50",
    "preset": "smoke",
    "runs": [
        {"method": ["nearest_centroid", "logistic_head"]},
        {"method": "protonet", "seed": [0, 1], "hyperparameters": {"train_way": 3, "steps": STEPS}},
    ],
}
WAIT_S = 900.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    root = Path(store.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    write_images(tmp_path / "images", 8, 40)
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    Path("methods.py").write_text("raise SystemExit('not this one')")
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One of the grid's runs without a sweep, in this process."""
    place = tmp_path_factory.mktemp("alone")
    write_images(place / "images", 8, 40)
    config = ["--method", "protonet", "--seed", "1", "--set", "train_way=3", "--steps", STEPS]
    rest = ["--dataset", "folder:images", "--image-size", "16", "--split", "50-50", "--preset", "smoke"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", "cache")
        answer = bench("run", *config, *rest, "--device", "cpu")
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


def checked(said: str, runs: list[tuple[str, int]]) -> None:
    """All runs, each a method and a seed, are recorded once, and are valid."""
    found, problems = store.read_all(Path("results"))
    assert problems == [] and sorted((record.method, record.seed) for record in found) == runs, said
    assert bench("validate").code == 0
    transfer = [record.pretraining for record in found if record.method != "protonet"]
    assert transfer[0] and all(one == transfer[0] for one in transfer), "trained once"
    for record in found:
        assert Path("runs", record.run_id, "model.safetensors").is_file()
        assert record.command == shlex.join(command_of(record.config))


@pytest.mark.parametrize(
    "engine, killed", [("local", True), ("ray", False), pytest.param("ray", True, marks=pytest.mark.soak)]
)
def test_a_killed_worker_and_a_killed_sweep_lose_nothing(folder, alone, engine, killed):
    """With Ray, each of whose processes takes seconds to import torch: two runs, and one sweep."""
    runs = [("logistic_head", 0), ("nearest_centroid", 0), ("protonet", 0), ("protonet", 1)]
    if engine == "ray":
        pytest.importorskip("ray")
        content = {**GRID, "runs": [{"method": "nearest_centroid"}, {**GRID["runs"][1], "seed": 1}]}
        Path("grid.yaml").write_text(yaml.safe_dump(content))
        del runs[0], runs[1]
    sweep = start(engine)
    try:
        until(training, sweep)
        os.kill(workers(engine, sweep)[0], signal.SIGKILL)
        until(lambda: "its process was killed; started again" in Path("sweep.log").read_text(), sweep)
        if not killed:
            sweep.join(WAIT_S)
        left = workers(engine, sweep)
        code, said = sweep.exitcode, Path("sweep.log").read_text()
        sweep.kill()
        end = time.monotonic() + WAIT_S
        while any(Path(f"/proc/{pid}").exists() for pid in left):  # they notice that the sweep is gone
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        sweep.kill()
        sweep.join()
    if killed and engine == "local":  # in this process, which has imported everything
        rest = bench("sweep", "grid.yaml", "--jobs", "2", "--device", "cpu")
        code, said = rest.code, rest.err
    elif killed:
        sweep = start(engine)
        sweep.join(WAIT_S)
        code, said = sweep.exitcode, Path("sweep.log").read_text()
        sweep.kill()
    assert code == 0, said
    checked(said, runs)
    own = Path("results", "own")
    once = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    again = bench("sweep", "grid.yaml", "--device", "cpu")
    assert again.code == 0 and f"{len(runs)} recorded, 0 to do" in again.err
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
