"""SimpleShot against easyfsl, scikit-learn and slow numpy."""

import numpy as np
import pytest
import torch
from easyfsl.methods import SimpleShot
from sklearn.neighbors import NearestCentroid as SklearnCentroid
from torch import nn

from methods.base_classifier import BaseClassifier
from methods.nearest_centroid import NearestCentroid
from methods.pretraining import Pretraining

EPISODES, WAY, SHOT, QUERIES, DIM = 3, 4, 5, 11, 16


class Pixels(nn.Module):
    """Images ``[N, 3, 2, 2]`` as they are, flattened."""

    dim = 12

    def forward(self, images):
        return images.flatten(1)


class Layers(nn.Sequential):
    """A small backbone with weights."""

    dim = 4

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, self.dim))


def method(backbone: nn.Module | None = None, **changes) -> NearestCentroid:
    torch.manual_seed(0)
    return NearestCentroid(backbone or Pixels(), NearestCentroid.Hyperparameters(**changes), 6)


@pytest.fixture
def episode() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(EPISODES, WAY, 1, DIM, generator=rng)
    support = centres + torch.randn(EPISODES, WAY, SHOT, DIM, generator=rng)
    query = centres[:, torch.arange(QUERIES) % WAY, 0] + torch.randn(EPISODES, QUERIES, DIM, generator=rng)
    return support, query


def test_equals_easyfsl(episode):
    support, query = episode
    logits = method(distance="cosine").episode_logits(support, query)
    assert logits.shape == (EPISODES, QUERIES, WAY)
    for e in range(EPISODES):
        classifier = SimpleShot(nn.Identity())
        classifier.process_support_set(support[e].flatten(0, 1), torch.arange(WAY).repeat_interleave(SHOT))
        torch.testing.assert_close(logits[e], classifier(query[e]), rtol=1e-4, atol=1e-5)


def test_equals_scikit_learn_s_nearest_centroid(episode):
    """The paper's decision, section 3: the Euclidean distance to the mean of transformed features."""
    support, query = episode
    answers = method(distance="euclidean").episode_logits(support, query).argmax(2)
    labels = np.repeat(np.arange(WAY), SHOT)
    for e in range(EPISODES):
        theirs = SklearnCentroid().fit(support[e].flatten(0, 1).numpy(), labels).predict(query[e].numpy())
        assert answers[e].tolist() == theirs.tolist()


@pytest.mark.parametrize("transform", ["none", "l2", "centre_l2"])
def test_the_transforms_by_hand(transform):
    """UN, L2N and CL2N: Wang et al. 2019, section 3."""
    ours = method(transform=transform)
    ours.mean.copy_(torch.linspace(-1, 1, 12))
    images = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(3)) + 1
    for made, x in zip(ours.embed(images).double().numpy(), images.flatten(1).double().numpy(), strict=True):
        if transform == "centre_l2":
            x = x - np.linspace(-1, 1, 12)
        expected = x if transform == "none" else x / np.sqrt((x**2).sum())
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_it_takes_over_the_network_and_its_mean_feature():
    classifier = BaseClassifier(Layers(), Pretraining(1), 6)
    classifier.mean.copy_(torch.arange(4.0))
    ours = method(Layers(), transform="centre_l2")
    ours.start_from(classifier)
    images = torch.randn(5, 3, 2, 2)
    expected = nn.functional.normalize(classifier.embed(images) - torch.arange(4.0), dim=1)
    torch.testing.assert_close(ours.embed(images), expected)


def test_joint_logits_are_similarities_to_all_class_means(episode):
    support, query = episode[0][0], episode[1][0]
    base = torch.randn(6, DIM, generator=torch.Generator().manual_seed(1))
    logits = method().joint_logits(base, support, query)
    assert logits.shape == (QUERIES, 6 + WAY)
    for q, row in zip(query.double().numpy(), logits.numpy(), strict=True):
        means = [*base.double().numpy(), *(s.double().numpy().mean(0) for s in support)]
        expected = [q @ m / np.linalg.norm(q) / np.linalg.norm(m) for m in means]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    assert method().joint_logits(base, support[:0], query).shape == (QUERIES, 6)


def test_similarity_is_what_class_means_are_compared_by(episode):
    a, b = episode[1][0], episode[1][1]
    for distance in ("cosine", "euclidean"):
        ours = method(distance=distance)
        one_shot = ours.episode_logits(b[None, :, None], a[None])[0].diagonal()
        torch.testing.assert_close(ours.similarity(a, b), one_shot, rtol=1e-4, atol=1e-5)


def test_the_paper_s_classifier():
    paper = {k: v for k, v in NearestCentroid.presets["paper"].items() if k != "backbone"}
    ours = method(**paper)
    assert ours.training_steps == 0
    # 90 epochs of 38,400 images in batches of 256
    expected = Pretraining(90 * 150, 256, "linear", schedule="simpleshot", weight_decay=1e-4)
    assert ours.pretraining == expected
