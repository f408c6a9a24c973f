"""`bench.Episodes` in the loops of easyfsl and learn2learn."""

import easyfsl.methods
import easyfsl.utils
import learn2learn as l2l
import numpy as np
import pytest
import torch
from pixel_prototypes import Pixels
from torch import nn
from torch.utils.data import DataLoader

import bench
from bench.common.errors import UserError
from bench.data.normalisation import Normaliser
from bench.evaluation import fewshot
from bench.evaluation.embedding import embed_images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("larger_workspace")]


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


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("SimpleShot", {}),
        ("MatchingNetworks", {"feature_dimension": 12}),
        ("Finetune", {"fine_tuning_steps": 5}),
    ],
)
def test_other_methods_of_easyfsl_take_them_too(method, more):
    torch.manual_seed(0)
    colours = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    theirs = getattr(easyfsl.methods, method)(backbone=colours, **more)
    episodes = bench.Episodes("50-50", 5, 2, 6, dataset="folder:images", part="novel", episodes=40)
    loader = DataLoader(episodes, batch_size=None)
    assert easyfsl.utils.evaluate(theirs, loader, device="cpu", use_tqdm=False) > 0.3


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
