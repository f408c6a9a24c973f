"""The Python API as a notebook uses it: run, Episodes, evaluate."""

import shlex
import subprocess
import sys
from pathlib import Path

import easyfsl.methods
import easyfsl.utils
import learn2learn as l2l
import numpy as np
import pandas as pd
import pytest
import torch
from command_line import bench as command
from command_line import write_images
from pixel_prototypes import Pixels
from torch import nn
from torch.utils.data import DataLoader

import bench
from bench.common.errors import UserError
from bench.data.normalisation import Normaliser
from bench.evaluation import fewshot
from bench.evaluation.embedding import embed_images
from bench.records import store

pytestmark = pytest.mark.slow
IMAGES = {"dataset": "folder:images", "split": "50-50"}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A working directory with images of 16 classes."""
    folder = tmp_path_factory.mktemp("api")
    write_images(folder / "images", classes=16, each=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        yield folder


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
    assert str(result).startswith("nearest_centroid (smoke")
    assert bench.results()["run_id"].tolist() == [result.run_id]
    assert result.load().card.run_id == bench.load(result).card.run_id == result.run_id


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
import bench
function = bench.run
import bench.run.locks
from bench.run import locks
import bench.run.locks as again
assert bench.run is function and callable(function) and bench.run.locks is locks is again
"""
    root = str(Path(store.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": root}
    )
    assert done.returncode == 0, done.stderr


# Episodes


def test_an_episode_is_normalised_images_of_its_classes():
    episodes = bench.Episodes("50-50", 3, 2, 4, dataset="folder:images")
    support, support_labels, query, query_labels, classes = episodes[7]
    assert support.shape == (6, 3, 32, 32) and query.shape == (12, 3, 32, 32)
    assert support_labels.tolist() == [0, 0, 1, 1, 2, 2] and query_labels.bincount().tolist() == [4, 4, 4]
    assert support.is_contiguous() and support.dtype == torch.float32
    data, normalise = episodes.data, Normaliser(episodes.data.images, episodes.split.train)
    assert set(classes) <= set(episodes.split.base)
    for image, label in zip(
        torch.cat([support, query]), torch.cat([support_labels, query_labels]), strict=True
    ):
        own = data.images[(data.labels == classes[label]) & ~data.held_out]
        assert (normalise(own) == image).flatten(1).all(1).sum() == 1
    again = bench.Episodes("50-50", 3, 2, 4, dataset="folder:images")[7]
    assert torch.equal(again.query_images, query) and again.class_ids == classes
    other = bench.Episodes("50-50", 3, 2, 4, dataset="folder:images", seed=1)[7]
    assert not torch.equal(other.query_images, query)
    with pytest.raises(IndexError):
        episodes[len(episodes)]


def test_easyfsl_takes_them_as_they_are_and_finds_our_accuracy():
    """Prototypes of raw pixels, by easyfsl's classifier in easyfsl's loop and by the bench."""
    episodes = bench.Episodes("50-50", 5, 2, 6, dataset="folder:images", part="novel", episodes=40)
    theirs = easyfsl.methods.PrototypicalNetworks(backbone=PixelBackbone())
    loader = DataLoader(episodes, batch_size=None)
    found = easyfsl.utils.evaluate(theirs, loader, device="cpu", use_tqdm=False)
    ours = Pixels().eval()
    normalise = Normaliser(episodes.data.images, episodes.split.train)
    made = embed_images(ours, episodes.data.images, episodes.index, normalise, "32-true")
    expected = fewshot.evaluate(ours, made, episodes.pool, episodes.drawn)
    assert found == pytest.approx(expected.accuracies.mean(), abs=1e-9)
    assert 0.2 < found < 1


class PixelBackbone(nn.Module):
    def forward(self, images):
        return Pixels().embed(images)


def fast_adapt(batch, learner, loss, adaptation_steps, shots, ways, device):
    """Copied from learn2learn's examples/vision/maml_miniimagenet.py."""
    data, labels = batch
    data, labels = data.to(device), labels.to(device)
    adaptation_indices = np.zeros(data.size(0), dtype=bool)
    adaptation_indices[np.arange(shots * ways) * 2] = True
    evaluation_indices = torch.from_numpy(~adaptation_indices)
    adaptation_indices = torch.from_numpy(adaptation_indices)
    adaptation_data, adaptation_labels = data[adaptation_indices], labels[adaptation_indices]
    evaluation_data, evaluation_labels = data[evaluation_indices], labels[evaluation_indices]
    for _ in range(adaptation_steps):
        train_error = loss(learner(adaptation_data), adaptation_labels)
        learner.adapt(train_error)
    predictions = learner(evaluation_data)
    valid_error = loss(predictions, evaluation_labels)
    accuracy = (predictions.argmax(dim=1) == evaluation_labels).sum().float() / evaluation_labels.size(0)
    return valid_error, accuracy


def test_learn2learns_maml_trains_on_them_as_they_are():
    torch.manual_seed(0)
    tasks = bench.Episodes("50-50", way=4, shot=3, query=3, dataset="folder:images")
    maml = l2l.algorithms.MAML(l2l.vision.models.CNN4(4, embedding_size=64 * 4, layers=4), lr=0.1)
    optimizer = torch.optim.Adam(maml.parameters(), 0.003)
    errors = []
    for _ in range(12):
        optimizer.zero_grad()
        error, accuracy = fast_adapt(tasks.sample(), maml.clone(), nn.CrossEntropyLoss(), 1, 3, 4, "cpu")
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert np.mean(errors[-4:]) < np.mean(errors[:4]) and accuracy >= 0


def test_tasks_hold_each_class_together_and_divide_as_learn2learn_does():
    equal = bench.Episodes("50-50", 3, 2, 2, dataset="folder:images")
    images, labels = equal.tasks[5]
    episode = equal[5]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and len(equal.tasks) == len(equal)
    assert torch.equal(images[::2], episode.support_images)
    for label in range(3):
        assert torch.equal(images[1::2][2 * label :][:2], episode.query_images[episode.query_labels == label])
    other = bench.Episodes("50-50", 3, 1, 5, dataset="folder:images")
    images, labels = next(iter(DataLoader(other.tasks, shuffle=False)))  # as its ProtoNet example does
    assert torch.equal(images[0][::6], other[0].support_images) and labels.shape == (1, 18)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"way": 9}, "way 9: must be 2 to 8, for the base classes of 50-50"),
        ({"shot": 30, "query": 30}, r"shot \+ query 60: must be 2 to 34"),
        ({"shot": 0}, "must be at least 1"),
        ({"part": "test"}, "part test: allowed: base, validation, novel"),
        ({"split": "91-10"}, "split 91-10: "),
    ],
)
def test_episodes_that_cannot_be_drawn(given, problem):
    with pytest.raises(UserError, match=problem):
        bench.Episodes(**({"dataset": "folder:images", "split": "50-50"} | given))


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


def test_any_function_and_any_model_of_timm():
    import timm

    found = bench.evaluate(lambda images: images[:, :, ::8, ::8].flatten(1), name="some pixels", **PAIRS)
    assert found.metrics["novel/pair_accuracy"].value > 0.5
    model = timm.create_model("test_resnet.r160_in1k", pretrained=False, num_classes=0)
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    write_images(Path("few"), classes=4, each=12)
    found = bench.evaluate(model, **PAIRS | {"dataset": "folder:few"})
    assert found.record.backbone == "encoder:test_resnet.r160_in1k"
    assert {tuple(size) for size in sizes} == {(160, 160)}


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
