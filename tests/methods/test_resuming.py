"""Every method, interrupted, ends bit for bit where it ends when nothing happens."""

import numpy as np
import pytest
import torch
from fitting import SMOKE_RUNS, fit, killed_after, smoke_method

from bench.training import callbacks, checkpoints
from bench.training.loop import Trained
from methods.method import Method

pytestmark = pytest.mark.slow
KILLED = 3
"""Steps of 6."""
STARTED = ("anil", "mtl", "protonet")
"""Of the methods that can start from a classifier; the others repeat it with `-m soak`."""
RUNS = [
    pytest.param(name, given, marks=pytest.mark.soak if "init" in given and name not in STARTED else ())
    for name, given in SMOKE_RUNS
]


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(callbacks, "VALIDATION_EPISODES", 10)
    monkeypatch.setattr(callbacks, "ADAPTED_VALIDATION_EPISODES", 2)


def result(name, given, data, split, folder) -> tuple[Method, Trained]:
    """Train half as long as preset `smoke` says; what was drawn before must not matter."""
    method = smoke_method(name, len(split.base), **given | {"steps": given.get("steps", 12) // 2})
    return method, fit(method, data, split, folder)


@pytest.mark.parametrize("name, given", RUNS, ids=str)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    name, given, tiny, tiny_split, tmp_path, monkeypatch
):
    expected, whole = result(name, given, tiny, tiny_split, tmp_path / "whole")
    with killed_after(KILLED):
        result(name, given, tiny, tiny_split, tmp_path / "killed")
    method, trained = result(name, given, tiny, tiny_split, tmp_path / "killed")
    assert (tmp_path / "killed" / "logs" / f"from-{KILLED}").is_dir()
    for parameter, value in expected.state_dict().items():
        assert torch.equal(method.state_dict()[parameter], value), parameter
    assert trained.curves.keys() == whole.curves.keys()
    for curve, points in whole.curves.items():
        np.testing.assert_array_equal(trained.curves[curve], points, err_msg=curve)
