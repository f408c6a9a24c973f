"""Every method, interrupted twice, ends bit for bit where it ends when nothing happens."""

import io

import numpy as np
import pytest
import torch

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.training import callbacks, checkpoints
from bench.training.checkpoints import Resumable
from bench.training.loop import Trained, train
from methods import registry
from methods.backbones import Conv4
from methods.base_classifier import BaseClassifier
from methods.method import Method

pytestmark = pytest.mark.slow
NAMES = sorted(
    name
    for name, info in registry.available().items()
    if info.source == f"methods.{name}" and info.trains_on != "pretraining"
)
OFFER_A_START = [name for name in NAMES if "init" in registry.available()[name].parameters]
RUNS = [
    *((name, {}) for name in NAMES if name != "mtl"),
    *((name, {"init": "pretrained", "steps": 48}) for name in NAMES if name in OFFER_A_START),
    ("mtl", {"init": "scratch", "scale_shift": False}),
    ("logistic_head", {"distillation": 0.5, "steps": 24}),
    ("easy", {}),
]
"""Methods with changes that make them train 12 steps of their own."""
KILLS = (3, 9)
"""Steps of 12."""


class Killed(Exception):
    """What happens to the process, as far as the training can tell."""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(callbacks, "VALIDATION_EPISODES", 10)
    monkeypatch.setattr(callbacks, "ADAPTED_VALIDATION_EPISODES", 2)


def fit(name, given, data, split, folder) -> tuple[Method, Trained]:
    """Train as preset `smoke` says; what was drawn before must not matter."""
    method_class = registry.load(registry.available()[name])
    changes = {
        key: value for key, value in method_class.presets["smoke"].items() if key != "backbone"
    } | given
    torch.manual_seed(0)
    method = method_class(
        Conv4(filters=8, image_size=16), method_class.Hyperparameters(**changes), len(split.base)
    )
    if method.pretraining:
        method.start_from(
            BaseClassifier(Conv4(filters=8, image_size=16), method.pretraining, len(split.base))
        )
    trained = train(
        method,
        data,
        split,
        Normaliser(data.images, split.train),
        seed=0,
        precision="32-true",
        device=torch.device("cpu"),
        run_dir=folder,
        progress=Progress(io.StringIO()),
    )
    return method, trained


@pytest.mark.parametrize("name, given", RUNS, ids=str)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    name, given, tiny, tiny_split, tmp_path, monkeypatch
):
    expected, whole = fit(name, given, tiny, tiny_split, tmp_path / "whole")
    save = Resumable.on_train_batch_end
    for kill in KILLS:

        def saved_and_killed(self, trainer, *batch, kill=kill):
            save(self, trainer, *batch)
            if trainer.global_step == kill:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Resumable, "on_train_batch_end", saved_and_killed)
            with pytest.raises(Killed):
                fit(name, given, tiny, tiny_split, tmp_path / "killed")
    method, trained = fit(name, given, tiny, tiny_split, tmp_path / "killed")
    assert (tmp_path / "killed" / "logs" / f"from-{KILLS[-1]}").is_dir()
    for parameter, value in expected.state_dict().items():
        assert torch.equal(method.state_dict()[parameter], value), parameter
    assert trained.curves.keys() == whole.curves.keys()
    for curve, points in whole.curves.items():
        np.testing.assert_array_equal(trained.curves[curve], points, err_msg=curve)
