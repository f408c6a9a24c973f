"""Runs that are killed at random moments: nothing is damaged, and they end as if nothing had happened."""

import builtins
import random
import signal
import sys
from pathlib import Path

import forked_runs
import numpy as np
import pytest
from command_line import bench, write_images

from bench.__main__ import INTERRUPTED
from bench.data import cache
from bench.records import store

pytestmark = pytest.mark.slow
AIMS = [(0, 0.2), (0.2, 0.9)]
"""When each run of a round is killed, in parts of the shortest run: one that has trained already.

The first one is aimed at the decoding and the last one at the end. What is trained stays, so that the others
come ever later in the work.
"""
ROUNDS = [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 10))]
ARGUMENTS = [
    "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--split", "50-50",
    "--image-size", "16", "--preset", "smoke", "--steps", "12", "--device", "cpu", "--precision", "fp32",
    "--set", "classes=4", "--way", "3", "--shot", "2", "--query", "5", "--episodes", "50",
]  # fmt: skip


OF_THE_MOMENT: dict = dict.fromkeys(("created", "timings"), True)
# Somebody may commit while this runs.
OF_THE_MOMENT["environment"] = {"git_commit", "git_dirty"}


def runs(folder: Path, kills: list[tuple[int, float]]) -> list[dict]:
    """What became of the runs that are killed as said, and of one more that is not."""
    return forked_runs.killed(ARGUMENTS, folder, kills)


def numbers(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """All of the one record that does not depend on the moment, and the arrays beside it."""
    (path,) = (folder / "results").rglob("*.json")
    record = store.read(path)
    content = record.model_dump(exclude=OF_THE_MOMENT)
    with np.load(path.with_suffix(".npz")) as arrays:
        return content, dict(arrays)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_images(folder / "images", 8, 24)
    (end,) = runs(folder, [])
    assert end["status"] == 0, end
    (path,) = (folder / "results").rglob("*.json")
    timings = store.read(path).timings
    return folder, end["seconds"] * (1 - timings.train_s / timings.total_s)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's clock of another process")
@pytest.mark.parametrize("round_", ROUNDS)
def test_killed_at_random_moments(round_, uninterrupted, tmp_path):
    whole, shortest = uninterrupted
    rng = random.Random(round_)
    kills = [
        (rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]), shortest * rng.uniform(*aim))
        for aim in AIMS
    ]
    write_images(tmp_path / "images", 8, 24)
    *killed, end = runs(tmp_path, kills)
    for (kill, _), one in zip(kills, killed, strict=True):
        if one["status"] == 0 and one is killed[-1]:  # it was faster than the signal
            continue
        assert one["status"] == (-signal.SIGKILL if kill == signal.SIGKILL else 130), one
        if kill != signal.SIGKILL:
            assert one["last"] == f"error: {INTERRUPTED}"
    assert end["status"] == 0, end
    expected, arrays = numbers(whole)
    found, own = numbers(tmp_path)
    assert found == expected
    assert own.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(own[name], arrays[name], err_msg=name)
    assert not [path for path in tmp_path.rglob("*.tmp")]
    for path in (tmp_path / "cache").glob("*.safetensors"):
        cache.read(path)


def test_ctrl_c_before_the_command_line_is_read(monkeypatch):
    """Imports take longer than many a command."""
    real = builtins.__import__

    def interrupted(name, *rest):
        if name == "bench.cli.commands":
            raise KeyboardInterrupt
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    answer = bench("list", "methods")
    assert (answer.code, answer.out, answer.err) == (130, "", f"error: {INTERRUPTED}\n")
