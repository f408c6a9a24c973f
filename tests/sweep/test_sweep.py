"""Sweeps on real processes: what is killed is made again, nothing is lost, and nothing made twice."""

import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from command_line import bench, descendants, settle
from forked_runs import begin

from bench.common.environment import available_cores
from bench.records import store
from bench.records.commands import command_of
from bench.run.processes import THREADS, start_method
from bench.run.sweep import engines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes under /proc"),
]
STEPS = 10  # a worker or a sweep is killed before the first one
GRID = {
    "dataset": "folder:images",
    "image_size": 16,
    "split": "50-50",
    "preset": "smoke",
    "runs": [
        {"method": ["nearest_centroid", "logistic_head"]},
        {"method": "protonet", "seed": 1, "hyperparameters": {"train_way": 3, "steps": STEPS}},
    ],
}
ALL = [("logistic_head", 0), ("nearest_centroid", 0), ("protonet", 1)]
"""Method and seed of each run of the grid."""
THREADS_OF = {"local": max(1, available_cores() // 2), "ray": 1}
"""Of each run, whatever the environment says."""
WAIT_S = 900.0


@pytest.fixture
def folder(here, monkeypatch):
    root = Path(store.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(THREADS, "3,2")  # for nested loops, as OpenMP allows; `checked` expects none of it
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    Path("methods.py").write_text("raise SystemExit('not this one')")
    return here


@pytest.fixture(scope="module")
def alone(tmp_path_factory, decoded):
    """One of the grid's runs without a sweep, in this process."""
    config = ["--method", "protonet", "--seed", "1", "--set", "train_way=3", "--steps", STEPS]
    rest = ["--dataset", "folder:images", "--image-size", "16", "--split", "50-50", "--preset", "smoke"]
    with pytest.MonkeyPatch.context() as patch:
        settle(decoded, tmp_path_factory.mktemp("alone"), patch)
        answer = bench("run", *config, *rest, "--device", "cpu")
        assert answer.code == 0, answer.err
        (record,) = store.read_all(Path("results"))[0]
    return record


def flags(engine: str) -> list[str]:
    return ["sweep", "grid.yaml", "--engine", engine, "--jobs", "2", "--device", "cpu"]


def until(found, going=lambda: True):
    """What `found` gives as soon as it gives something."""
    end, log = time.monotonic() + WAIT_S, Path("sweep.log")
    while not (there := found()):
        assert time.monotonic() < end and going(), log.read_text() if log.exists() else ""
        time.sleep(0.02)
    return there


def workers(engine: str, sweep: int) -> list[int]:
    """Process ids of those that do jobs or are about to."""
    mark = b"ray::" if engine == "ray" else b"multiprocessing.forkserver"
    found = [pid for pid, line in descendants(sweep) if mark in line and pid != sweep]
    # The local engine's fork from a process that the sweep started.
    return [pid for pid in found if engine == "ray" or parent(pid) != sweep]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def training(seed: int = 1) -> bool:
    """Whether protonet's run has begun, which is about to train."""
    logs = Path("runs", "logs").glob(f"protonet*_s{seed}_*.log")
    return any("measures" in log.read_text() for log in logs)


def kill_a_worker(engine: str, sweep: int, going) -> None:
    """The one that is about to train protonet; with Ray, one that imports torch, as it does for its job."""

    def busy(pid: int) -> bool:
        place = Path("/proc", str(pid))
        with suppress(OSError):  # it has ended
            if engine == "ray":
                return "libtorch" in (place / "maps").read_text()
            return any(one.readlink().name.startswith("protonet") for one in (place / "fd").iterdir())
        return False

    if engine == "local":
        until(training, going)
    os.kill(until(lambda: [pid for pid in workers(engine, sweep) if busy(pid)], going)[0], signal.SIGKILL)


def checked(said: str, runs: list[tuple[str, int]], threads: int) -> None:
    """All runs, each a method and a seed, are recorded once, with so many threads, and are valid."""
    found, problems = store.read_all(Path("results"))
    assert problems == [] and sorted((record.method, record.seed) for record in found) == runs, said
    assert bench("validate").code == 0
    transfer = [record.pretraining for record in found if record.method != "protonet"]
    assert all(one and one == transfer[0] for one in transfer), "trained once"
    assert {record.environment.threads for record in found} == {threads}
    for record in found:
        assert Path("runs", record.run_id, "model.safetensors").is_file()
        assert record.command == shlex.join(command_of(record.config))


def finished(said: str, runs: list[tuple[str, int]], threads: int, alone) -> None:
    """They are recorded, with the numbers of a run without a sweep, and another sweep makes none of them."""
    checked(said, runs, threads)
    own = Path("results", "own")
    once = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    again = bench("sweep", "grid.yaml", "--device", "cpu")
    assert again.code == 0 and f"{len(runs)} recorded, 0 to do" in again.err
    assert {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()} == once
    assert store.read(own / f"{alone.run_id}.json").metrics == alone.metrics


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_worker_loses_nothing(folder, alone, engine):
    """Of one run with Ray, whose processes import torch each."""
    runs, over = ALL, threading.Event()
    if engine == "ray":
        pytest.importorskip("ray")
        Path("grid.yaml").write_text(yaml.safe_dump({**GRID, "runs": GRID["runs"][1:]}))
        runs = ALL[-1:]
    thread = threading.Thread(target=kill_a_worker, args=(engine, os.getpid(), lambda: not over.is_set()))
    thread.start()
    try:
        answer = bench(*flags(engine))
    finally:
        over.set()
        thread.join()
    assert answer.code == 0, answer
    assert answer.err.count("its process was killed; started again") == 1
    finished(answer.err, runs, THREADS_OF[engine], alone)


def test_a_killed_sweep_goes_on(folder, alone):
    """One run is recorded, the second one is about to train; both are there once in the end."""
    runs = [{**GRID["runs"][1], "seed": [1, 2]}]
    Path("grid.yaml").write_text(yaml.safe_dump({**GRID, "runs": runs}))
    command = ["sweep", "grid.yaml", "--jobs", "1", "--device", "cpu"]
    log = Path("sweep.log")
    sweep = begin(command, log)
    try:
        until(lambda: training(2), sweep.is_alive)
        left = workers("local", sweep.pid)
    finally:
        sweep.kill()
        sweep.join()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))  # they notice that it is gone
    rest = bench(*command)
    assert rest.code == 0 and "1 recorded, 1 to do" in rest.err, rest
    finished(rest.err, [("protonet", 1), ("protonet", 2)], available_cores(), alone)


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_sweep_loses_nothing(folder, alone, engine):
    """After one of its workers was killed."""
    if engine == "ray":
        pytest.importorskip("ray")
    log = Path("sweep.log")
    sweep = begin(flags(engine), log)
    try:
        kill_a_worker(engine, sweep.pid, sweep.is_alive)
        until(lambda: "its process was killed; started again" in log.read_text(), sweep.is_alive)
        until(training, sweep.is_alive)
        left = until(lambda: workers(engine, sweep.pid), sweep.is_alive)
        sweep.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))  # they notice that it is gone
    finally:
        sweep.kill()
        sweep.join()
    rest = bench(*flags(engine))
    assert rest.code == 0, rest
    finished(rest.err, ALL, THREADS_OF[engine], alone)


def sweep_with_a_worker(told: Path) -> None:
    """What `Local` starts, but forked from this process."""
    environment = {**os.environ, THREADS: "1"}
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), engines._begin, (environment,))
    told.write_text(str(pool.submit(os.getpid).result()))
    time.sleep(WAIT_S)


def test_a_worker_ends_when_the_sweep_s_process_is_killed(tmp_path):
    told = tmp_path / "pid"
    sweep = multiprocessing.get_context(start_method()).Process(target=sweep_with_a_worker, args=(told,))
    sweep.start()
    worker = Path("/proc", until(lambda: told.exists() and told.read_text(), sweep.is_alive))
    assert worker.exists()
    sweep.kill()
    sweep.join()
    until(lambda: not worker.exists())


def test_failed_runs_are_listed_and_the_others_are_made(folder):
    """In a working directory that has a folder of the user's own called `methods`."""
    (folder / "methods").mkdir()
    (folder / "methods" / "__init__.py").write_text("raise SystemExit('not this one')")
    content = {
        **GRID,
        "runs": [
            {"method": "nearest_centroid"},
            {"method": "protonet", "hyperparameters": {"learning_rate": 1e30, "train_way": 3}},
        ],
    }
    Path("grid.yaml").write_text(yaml.safe_dump(content))
    answer = bench("sweep", "grid.yaml", "--jobs", "2", "--device", "cpu")
    assert answer.code == 1, answer
    (line,) = [line for line in answer.out.splitlines() if "protonet" in line]
    assert "diverged" in line
    assert sum(record.failure is None for record in store.read_all(Path("results"))[0]) == 1
    again = bench("sweep", "grid.yaml", "--device", "cpu")
    assert again.code == 1 and "2 recorded, 0 to do" in again.err and line in again.out
