"""Runs that are killed at random moments: nothing is damaged, and they end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import write_images

from bench import records
from bench.__main__ import INTERRUPTED
from bench.data import cache

ROUNDS, KILLS = 4, 6
ARGUMENTS = [
    "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--split", "50-50",
    "--preset", "smoke", "--steps", "150", "--device", "cpu", "--precision", "fp32",
    "--set", "classes=4", "--way", "3", "--shot", "2", "--query", "5", "--episodes", "50",
]  # fmt: skip


def runs(folder: Path, kills: list[tuple[int, float]]) -> list[dict]:
    """What became of the runs that are killed as said, and of one more that is not."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"arguments": ARGUMENTS, "kills": kills}))
    script = Path(__file__).with_name("forked_runs.py")
    environment = os.environ | {"FEWSHOT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, plan],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """All of the one record that does not depend on the time, and the arrays beside it."""
    (path,) = (folder / "results").glob("*.json")
    record = records.read(path)
    content = record.model_dump(exclude={"created", "timings", "episode_file_sha256"})
    with np.load(path.with_suffix(".npz")) as arrays:
        return content, dict(arrays)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_images(folder / "images", 8, 40)
    (end,) = runs(folder, [])
    assert end["status"] == 0, end
    return folder, end["seconds"]


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_killed_at_random_moments(round_, uninterrupted, tmp_path):
    whole, seconds = uninterrupted
    rng = random.Random(round_)
    kills = [
        (rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]), rng.uniform(0, seconds))
        for _ in range(KILLS)
    ]
    write_images(tmp_path / "images", 8, 40)
    *killed, end = runs(tmp_path, kills)
    for (kill, _), one in zip(kills, killed, strict=True):
        if one["status"] == 0:  # it was faster than the signal
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
