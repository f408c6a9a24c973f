"""SimpleShot against easyfsl, scikit-learn and slow numpy."""

import copy

import numpy as np
import pytest
import torch
from easyfsl.methods import SimpleShot
from sklearn.neighbors import NearestCentroid as SklearnCentroid
from torch import nn

from methods.backbones import build
from methods.method import LabelledBatch, Shuffled
from methods.nearest_centroid import NearestCentroid

EPISODES, WAY, SHOT, QUERIES, DIM = 3, 4, 5, 11, 16


class Pixels(nn.Module):
    """Images ``[N, 3, 2, 2]`` as they are, flattened."""

    dim = 12

    def forward(self, images):
        return images.flatten(1)


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


def batch(seed: int = 3, count: int = 8) -> LabelledBatch:
    rng = torch.Generator().manual_seed(seed)
    return LabelledBatch(
        torch.randn(count, 3, 2, 2, generator=rng) + 1, torch.randint(6, (count,), generator=rng)
    )


@pytest.mark.parametrize("transform", ["none", "l2", "centre_l2"])
def test_the_transforms_by_hand(transform):
    """UN, L2N and CL2N: Wang et al. 2019, section 3."""
    ours = method(transform=transform)
    ours.mean.copy_(torch.linspace(-1, 1, 12))
    images = batch().images
    for made, x in zip(ours.embed(images).double().numpy(), images.flatten(1).double().numpy(), strict=True):
        if transform == "centre_l2":
            x = x - np.linspace(-1, 1, 12)
        expected = x if transform == "none" else x / np.sqrt((x**2).sum())
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_is_that_of_the_last_batches():
    ours = method()
    expected = np.zeros(12)
    for seed in range(40):
        ours.training_step(batch(seed), seed)
        expected = 0.9 * expected + 0.1 * batch(seed).images.flatten(1).double().numpy().mean(0)
    np.testing.assert_allclose(ours.mean.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert ours.mean.grad_fn is None and ours.mean.dtype == torch.float32
    # Of the pixels' true mean 1, what is missing is the beginning's 0.9^40.
    assert ours.mean.mean().item() == pytest.approx(1 - 0.9**40, abs=0.1)


def test_the_mean_belongs_to_the_weights_of_its_checkpoint():
    backbone = build("conv4", image_size=16)
    ours = method(backbone, transform="centre_l2")
    images = torch.randn(8, 3, 16, 16)
    ours.training_step(LabelledBatch(images, torch.arange(8) % 6), 0)
    saved = copy.deepcopy(ours.state_dict())
    with torch.no_grad():
        before = ours.eval().embed(images)
        ours.train()
        ours.training_step(LabelledBatch(images + 5, torch.arange(8) % 6), 1)
        assert not torch.allclose(ours.eval().embed(images), before)
        ours.load_state_dict(saved)
        assert torch.equal(ours.eval().embed(images), before)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_loss_by_hand(head):
    ours = method(head=head, scale=16.0)
    given = batch()
    loss = ours.training_step(given, 0).item()
    weight = ours.head.weight.detach().double().numpy()
    losses = []
    for x, label in zip(given.images.flatten(1).double().numpy(), given.labels.tolist(), strict=True):
        if head == "linear":
            logits = weight @ x + ours.head.bias.detach().double().numpy()
        else:
            logits = 16 * (weight / np.linalg.norm(weight, axis=1, keepdims=True)) @ (x / np.linalg.norm(x))
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


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


def test_it_asks_for_shuffled_images_and_the_paper_s_rates():
    paper = {k: v for k, v in NearestCentroid.presets["paper"].items() if k != "backbone"}
    ours = method(**paper)
    assert ours.batches() == Shuffled(256)
    made = ours.configure_optimizers()
    found = []
    for _ in range(9901):
        found.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    # 90 epochs of 38,400 images in batches of 256; tenths at epochs 45 and 66.
    assert [found[i] for i in (0, 6749, 6750, 9899, 9900)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
