"""Every method trains from both starts, and, interrupted, ends bit for bit where it ends otherwise."""

import numpy as np
import pytest
import torch
from fitting import OFFER_A_START, SMOKE_RUNS, fit, killed_after, smoke_method
from small_budget import budget_of_file

from bench.training.loop import Trained
from methods.backbones import Conv4
from methods.method import Method

pytestmark = pytest.mark.slow
KILLED = 2
"""Steps of 4."""
QUICKER = {
    "maml": {"inner_steps": 1, "test_steps": 1},
    "reptile": {"inner_steps": 1, "test_steps": 1},
    "siamese_reptile": {"tasks": 1, "inner_steps": 1},
    "mtl": {"random_tasks": 2},  # it is killed among its hard tasks
}
STARTED = ("anil", "mtl", "protonet")
"""Of the methods that can start from a classifier; the others repeat it with `-m soak`."""
RUNS = [
    pytest.param(name, given, marks=pytest.mark.soak if "init" in given and name not in STARTED else ())
    for name, given in SMOKE_RUNS
]


small = budget_of_file(validation_episodes=3, adapted_validation_episodes=2, save_every_s=0.0)


def result(name, given, data, split, folder) -> tuple[Method, Trained]:
    """Train a third as long as preset `smoke` says; what was drawn before must not matter."""
    changes = QUICKER.get(name, {}) | given | {"steps": given.get("steps", 12) // 3}
    method = smoke_method(name, len(split.base), **changes)
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


@pytest.mark.parametrize("name", OFFER_A_START)
def test_two_steps_from_a_classifier(name, tiny, tiny_split, tmp_path):
    """It begins with the classifier's weights, which are validated where they are an answer."""
    method = smoke_method(name, len(tiny_split.base), **QUICKER.get(name, {}), init="pretrained", steps=8)
    torch.manual_seed(0)
    built = next(Conv4(filters=8, image_size=16).parameters())  # what it has from scratch
    start = next(value for value in method.backbone.state_dict().values() if value.shape == built.shape)
    assert not torch.equal(start, built)
    trained = fit(method, tiny, tiny_split, tmp_path)
    assert trained.steps == 2
    assert trained.curves["loss"][:, 0].tolist() == [1, 2] and np.isfinite(trained.curves["loss"]).all()
    assert (0 in trained.curves["accuracy"][:, 0]) == method.starts_trained
