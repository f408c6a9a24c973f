"""What cannot train is found before anything trains, and looking changes no number."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from bad_inputs import refusal
from command_line import bench
from torch import nn

from bench.common.errors import UserError
from bench.records import store
from bench.run import runner
from bench.run.preparation import _check_takes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("workspace")]
DATA = ["--dataset", "folder:images", "--split", "50-50", "--device", "cpu", "--precision", "fp32"]
RUN = ["run", "--preset", "smoke", *DATA]


@pytest.mark.parametrize("method", ["nearest_centroid", "finetune"])
def test_a_batch_that_the_backbone_cannot_train_on(method):
    """Batch normalisation needs more than one value per channel; 32 pixels become one here."""
    said = refusal(*RUN, "--method", method, "--set", "images=1", "--backbone", "timm:resnet18")
    what = f"cannot take a training step with {method} on images of 32x32: Expected more than 1 value"
    assert said.startswith(f"--backbone timm:resnet18: {what}")


def test_the_last_run_of_a_grid_is_rehearsed_before_the_first_one_trains(workspace):
    (workspace / "runs.yaml").write_text(
        "runs:\n- {method: nearest_centroid, preset: smoke}\n"
        "- {method: nearest_centroid, preset: smoke, backbone: 'timm:resnet18',"
        " hyperparameters: {images: 1}}\n"
    )
    said = refusal("run", "--config", "runs.yaml", *DATA)
    assert said.startswith("--backbone timm:resnet18: cannot take a training step with nearest_centroid")


@pytest.mark.parametrize("method", ["siamese_triplet", "mtl", pytest.param("maml", marks=pytest.mark.soak)])
def test_numbers_are_those_of_a_run_without_it(method, monkeypatch):
    quick = {"siamese_triplet": ["classes=4"], "maml": ["inner_steps=1", "test_steps=1"]}
    sets = [word for change in quick.get(method, []) for word in ("--set", change)]
    numbers = []
    for results in ("with", "without"):
        where = ["--results", results, "--runs", f"runs-{results}"]
        answer = bench(*RUN, "--method", method, "--steps", "2", "--measure", "5w1s", *sets, *where)
        assert answer.code == 0, answer.err
        record = store.read(Path(answer.out.splitlines()[-1]))
        numbers.append((record.model, record.metrics))
        monkeypatch.setattr(runner, "rehearse", lambda one: None)
    assert numbers[0] == numbers[1]


def test_images_that_the_backbone_cannot_take(tiny):
    with pytest.raises(UserError, match=r"^--backbone conv4: cannot process images of 16x16: "):
        _check_takes(nn.AvgPool2d(32), tiny, SimpleNamespace(backbone="conv4"))
