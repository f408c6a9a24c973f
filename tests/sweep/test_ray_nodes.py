"""A sweep on two Ray nodes of this machine that share no folder of runs or results, one of which dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.records import store

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not shutil.which("unshare") or os.geteuid() != 0, reason="needs a mount namespace of its own"
    ),
]
WAIT_S = 300
RAY = Path(sys.executable).with_name("ray")
METHODS = ["logistic_head", "nearest_centroid"]
GRID = {"dataset": "glyphs", "split": "90-10", "preset": "smoke", "seed": [0, 1], "method": METHODS}
OPEN = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def until(found: Callable[[], object], sweep: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + WAIT_S
    while not found():
        assert sweep is None or sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


@contextmanager
def node(*given: str, private: Sequence[Path] = ()) -> Iterator[subprocess.Popen]:
    """A Ray node of one core, which sees folders of its own at the paths of `private`."""
    ray = [str(RAY), "start", "--block", "--num-cpus", "1", "--node-ip-address", "127.0.0.1", *given]
    mounts = "".join(f"mount -t tmpfs none {folder} && " for folder in private)
    command = ["unshare", "--mount", "bash", "-c", f'{mounts}exec "$@"', "bash", *ray] if private else ray
    with subprocess.Popen(command, env=os.environ | OPEN, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def kill_all_that_see(pid: int) -> None:
    """Kill every process with the file system of this one."""
    view = Path("/proc", str(pid), "ns", "mnt").readlink()

    def seen() -> list[int]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                if (place / "ns" / "mnt").readlink() == view:
                    found.append(int(place.name))
        return found

    while left := seen():
        for one in left:
            with suppress(OSError):
                os.kill(one, signal.SIGKILL)


def test_records_of_all_nodes_are_collected_although_one_dies(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    runs, results = folders = [tmp_path / name for name in ("runs", "results")]
    for folder in folders:
        folder.mkdir()
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    status = [str(RAY), "status", "--address", address]
    sweep = [sys.executable, "-m", "bench", "sweep", "grid.yaml", "--engine", "ray", "--address", address]
    sweep += ["--runs", str(runs), "--results", str(results), "--device", "cpu"]
    piped: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        node("--head", "--port", address.partition(":")[2], "--include-dashboard", "false"),
        node("--address", address, private=folders) as second,
    ):
        until(lambda: "0.0/2.0 CPU" in subprocess.run(status, env=os.environ | OPEN, **piped).stdout)
        with subprocess.Popen(sweep, env=os.environ | OPEN, **piped) as process:
            try:
                there = Path("/proc", str(second.pid), "root", *runs.parts[1:])
                until(lambda: all([*folder.glob("*/model.json")] for folder in (runs, there)), process)
                kill_all_that_see(second.pid)
                assert second.wait(WAIT_S) == -signal.SIGKILL
                _, said = process.communicate(timeout=WAIT_S)
            finally:
                process.kill()
    assert process.returncode == 0, said
    found, problems = store.read_all(results)
    made = sorted((record.method, record.seed) for record in found)
    assert problems == [] and made == [(method, seed) for method in METHODS for seed in (0, 1)]
    assert "done 6/6" in said
