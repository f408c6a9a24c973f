"""The Python API as a notebook uses it: run and evaluate."""

import inspect
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import bench as command
from command_line import write_images
from small_budget import budget_of_file
from torch import nn

import bench
from bench.api import runs
from bench.common.errors import UserError
from bench.records import store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("larger_workspace")]
IMAGES = {"dataset": "folder:images", "split": "50-50"}
small = budget_of_file(pairs=1000)


@pytest.fixture(scope="module")
def result():
    return bench.run(
        "nearest_centroid", **IMAGES, preset="smoke", measure=["5w1s"], seed=1, device="cpu",
        precision="fp32", scale=8.0, steps=3,
    )  # fmt: skip


def test_run_returns_what_it_recorded(result):
    assert result.record == store.read(result.path)
    assert result.record.hyperparameters["scale"] == 8.0 and result.record.seed == 1
    assert result.metrics["fewshot/5w1s"] == result.record.metrics["fewshot/5w1s"]
    table = result.table()
    assert isinstance(table, pd.DataFrame) and list(table.columns) == ["value", "low", "high", "n"]
    row = table.loc["fewshot/5w1s"]
    assert row["low"] <= row["value"] == result.metrics["fewshot/5w1s"].value <= row["high"]
    assert str(result) == repr(result) and str(result).startswith("nearest_centroid (smoke")
    assert bench.results()["run_id"].tolist() == [result.run_id]
    assert bench.load(result).card.run_id == result.run_id


def test_its_command_makes_the_same_run(result):
    assert result.record.command.startswith("python -m bench run --method nearest_centroid --split 50-50 ")
    answer = command(*shlex.split(result.record.command)[3:], "--device", "cpu")
    assert answer.code == 0 and f"{result.run_id} is already recorded" in answer.err


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"method": "protonett"}, "method protonett: did you mean protonet"),
        ({"method": "protonet", "split": "cifarfs"}, "split cifarfs: did you mean cifar-fs"),
        ({"method": "protonet", "stepz": 3}, "hyperparameters.stepz.*did you mean steps"),
        ({"method": "protonet", "steps": "many"}, "steps"),
        ({"method": "protonet", "seed": -1}, "seed -1: must be at least 0"),
        ({"method": "protonet", "device": "gpu"}, "--device gpu"),
    ],
)
def test_run_says_what_is_wrong(given, problem):
    with pytest.raises(UserError, match=problem):
        bench.run(**({"dataset": "folder:images", "split": "50-50"} | given))


def test_run_is_a_function_and_a_package():
    """In a process that has imported neither; what the function does is checked above."""
    code = """
import sys
import bench
function = bench.run
import bench.run.locks
from bench.run import locks
import bench.run.locks as again
assert bench.run is function and callable(function) and bench.run.locks is locks is again
assert "torch" not in sys.modules
"""
    root = str(Path(store.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": root}
    )
    assert done.returncode == 0, done.stderr
    assert inspect.signature(bench.run) == inspect.signature(runs.run)
    assert inspect.getdoc(bench.run) == inspect.getdoc(runs.run)


# evaluate


class Colours(nn.Module):
    """Mean colour of each quarter of the image."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.weight * self.pool(images).flatten(1)


PAIRS = {**IMAGES, "measure": ["pairs"], "device": "cpu", "precision": "fp32"}
MEASURED = {**PAIRS, "measure": ["5w1s", "pairs"]}


@pytest.fixture(scope="module")
def evaluated():
    return bench.evaluate(Colours(), name="colours", **MEASURED)


def test_an_encoder_is_answered_as_nearest_centroid_says(evaluated):
    episodes = bench.Episodes("50-50", 5, 1, dataset="folder:images", part="novel")
    assert evaluated.record.episodes["5w1s"].sha256 == episodes.drawn.sha256()
    right = []
    for support, _, query, labels, _ in (episodes[i] for i in range(300)):
        made, asked = (nn.functional.normalize(Colours()(own), dim=1) for own in (support, query))
        right.append(float(((asked @ made.T).argmax(1) == labels).float().mean()))
    with np.load(evaluated.path.with_suffix(".npz")) as arrays:
        np.testing.assert_allclose(arrays["5w1s"][:300] / arrays["5w1s/queries"], right, atol=1e-6)
    metric = evaluated.metrics["fewshot/5w1s"]
    assert metric.n == 10_000 and metric.low < metric.value < metric.high


def test_its_record_is_valid_marked_and_on_the_leaderboard_without_a_rank(evaluated):
    record = evaluated.record
    assert record.external_data and not record.trained and record.backbone == "encoder:colours"
    answer = command("validate")
    assert answer.code == 0, answer.out
    assert command("leaderboard").code == 0
    board = Path("leaderboard.md").read_text()
    assert "encoder:colours" in board and "external data" in board and record.command in board
    row = bench.results().set_index("run_id").loc[record.run_id]
    assert row["marks"].startswith("external data") and pd.isna(row["track"])


def test_another_encoder_or_transform_is_another_run(evaluated):
    again = bench.evaluate(Colours(), name="colours", **MEASURED)
    assert again.run_id == evaluated.run_id and again.record.created == evaluated.record.created
    other = Colours()
    other.weight.data *= 2
    made = [bench.evaluate(encoder, name="colours", **PAIRS) for encoder in (Colours(), other)]
    made.append(
        bench.evaluate(Colours(), name="colours", transform=lambda pixels: pixels.float() / 255 + 1, **PAIRS)
    )
    assert len({result.run_id for result in made}) == 3


def test_any_function_and_any_model_of_timm_and_torchvision():
    import timm
    from torchvision.models import ResNet18_Weights, resnet18

    found = bench.evaluate(lambda images: images[:, :, ::8, ::8].flatten(1), name="some pixels", **PAIRS)
    assert found.metrics["novel/pair_accuracy"].value > 0.5
    model = timm.create_model("test_resnet.r160_in1k", pretrained=False, num_classes=0)
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    write_images(Path("few"), classes=4, each=12)
    found = bench.evaluate(model, **PAIRS | {"dataset": "folder:few"})
    assert found.record.backbone == "encoder:test_resnet.r160_in1k"
    assert {tuple(size) for size in sizes} == {(160, 160)}

    model, seen = resnet18(weights=None), []
    model.fc = nn.Identity()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    transform = ResNet18_Weights.DEFAULT.transforms(resize_size=72, crop_size=64)
    found = bench.evaluate(model, transform=transform, **PAIRS | {"dataset": "folder:few"})
    assert found.record.backbone == "encoder:ResNet" and found.record.external_data
    assert {images.shape[1:] for images in seen} == {(3, 64, 64)}
    assert -3 < min(images.min() for images in seen) < 0 < max(images.max() for images in seen) < 3


@pytest.mark.parametrize(
    ("encoder", "more", "problem"),
    [
        (lambda images: images, {}, r"must return features \[N, D\], but returned \[64, 3, 32, 32\]"),
        (lambda images: images.flatten(1) - images.flatten(1).mean(0), {}, "depend only on its own image"),
        (Colours(), {"method": "protonet"}, "method protonet: trains"),
        (Colours(), {"method": "maml"}, "method maml: trains"),
        (Colours(), {"split": "cifr-fs"}, "split cifr-fs"),
        (Colours(), {"measure": ["6w"]}, "measure 6w"),
    ],
)
def test_encoders_that_cannot_be_evaluated(encoder, more, problem):
    with pytest.raises(UserError, match=problem):
        bench.evaluate(encoder, **{**MEASURED, "name": "x", **more})
