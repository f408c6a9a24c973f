"""Prototypical networks against learn2learn, easyfsl and slow numpy."""

import copy

import numpy as np
import pytest
import torch
from easyfsl.methods import PrototypicalNetworks
from learn2learn.nn import PrototypicalClassifier
from torch import nn

from methods.backbones import build
from methods.batches import EpisodeBatch, Episodes
from methods.protonet import ProtoNet

EPISODES, WAY, SHOT, QUERIES, DIM = 3, 4, 5, 11, 16


def protonet(backbone: nn.Module | None = None, num_classes: int = 8, **changes) -> ProtoNet:
    return ProtoNet(backbone or nn.Identity(), ProtoNet.Hyperparameters(**changes), num_classes)


@pytest.fixture
def episode() -> tuple[torch.Tensor, torch.Tensor]:
    """Support ``[E, way, shot, D]`` around class centres, and queries."""
    torch.manual_seed(0)
    centres = torch.randn(EPISODES, WAY, 1, DIM)
    return centres + torch.randn(EPISODES, WAY, SHOT, DIM), torch.randn(EPISODES, QUERIES, DIM)


def labels() -> torch.Tensor:
    return torch.arange(WAY).repeat_interleave(SHOT)


def test_equals_learn2learn(episode):
    """learn2learn's "euclidean" is the squared distance, as ours."""
    support, query = episode
    logits = protonet().episode_logits(support, query)
    assert logits.shape == (EPISODES, QUERIES, WAY)
    for e in range(EPISODES):
        theirs = PrototypicalClassifier(support[e].flatten(0, 1), labels())(query[e])
        torch.testing.assert_close(logits[e], theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[e].softmax(1), theirs.softmax(1), rtol=1e-4, atol=1e-6)
        assert (logits[e].argmax(1) == theirs.argmax(1)).all()


def test_mirror_images_count_at_the_test_alone():
    torch.manual_seed(0)
    backbone, images = build("conv4", image_size=16), torch.randn(6, 3, 16, 16)
    mirrored = torch.from_numpy(images.numpy()[..., ::-1].copy())
    with torch.no_grad():
        for training in (False, True):
            ours = protonet(backbone, mirror=True).train(training)
            plain = protonet(backbone).train(training)
            expected = plain.embed(images)
            if not training:
                expected = (expected.double() + plain.embed(mirrored).double()) / 2
            torch.testing.assert_close(ours.embed(images).double(), expected.double(), rtol=1e-5, atol=1e-6)
            assert torch.allclose(ours.embed(images), ours.embed(mirrored)) is not training


def test_cosine_equals_learn2learn(episode):
    support, query = episode
    logits = protonet(distance="cosine").episode_logits(support, query)
    for e in range(EPISODES):
        theirs = PrototypicalClassifier(support[e].flatten(0, 1), labels(), distance="cosine")(query[e])
        torch.testing.assert_close(logits[e], theirs, rtol=1e-4, atol=1e-5)


def test_equals_easyfsl(episode):
    """easyfsl scores with the distance itself, whose square is ours: the answers are the same."""
    support, query = episode
    logits = protonet().episode_logits(support, query)
    for e in range(EPISODES):
        classifier = PrototypicalNetworks()
        classifier.process_support_set(support[e].flatten(0, 1), labels())
        theirs = classifier(query[e])
        torch.testing.assert_close(logits[e], -theirs.square(), rtol=1e-4, atol=1e-4)
        assert (logits[e].argmax(1) == theirs.argmax(1)).all()


SLOW = {
    "l2": lambda q, p: -sum((q - p) ** 2),
    "cosine": lambda q, p: sum(q * p) / (sum(q * q) ** 0.5 * sum(p * p) ** 0.5),
    "dot": lambda q, p: sum(q * p),
}


@pytest.mark.parametrize("distance", SLOW)
def test_every_distance_equals_slow_numpy(episode, distance):
    support, query = (tensor.double().numpy() for tensor in episode)
    logits = protonet(distance=distance).episode_logits(*episode)
    for e in range(EPISODES):
        prototypes = [sum(support[e, c]) / SHOT for c in range(WAY)]
        expected = [[SLOW[distance](q, p) for p in prototypes] for q in query[e]]
        np.testing.assert_allclose(logits[e].numpy(), expected, rtol=1e-4, atol=1e-4)
    rows = protonet(distance=distance).similarity(
        *(tensor[0, :4] for tensor in (episode[1], episode[0][:, 0]))
    )
    expected = [SLOW[distance](q, s) for q, s in zip(query[0], support[0, 0, :4], strict=False)]
    np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-4, atol=1e-4)


def batch(episodes: int, way: int, shot: int, query: int) -> EpisodeBatch:
    rng = torch.Generator().manual_seed(3)
    order = torch.stack([torch.randperm(way * query, generator=rng) % way for _ in range(episodes)])
    return EpisodeBatch(
        torch.randn(episodes, way, shot, 3, 16, 16, generator=rng),
        torch.randn(episodes, way * query, 3, 16, 16, generator=rng),
        order,
        torch.arange(way).expand(episodes, way),
    )


@pytest.mark.parametrize("scale", [1.0, 7.0])
@pytest.mark.parametrize("episodes", [1, 2])
def test_the_loss_by_hand(episodes, scale):
    """Cross-entropy of softmax over scaled negative squared distances, Snell et al. 2017, eq. 2."""
    torch.manual_seed(0)
    backbone = build("conv4")
    given = batch(episodes, way=4, shot=2, query=3)
    loss = protonet(copy.deepcopy(backbone), scale=scale).training_step(given, 0)
    # Batch norm sees all images of the step, so they go through the backbone together here too.
    made = backbone(torch.cat([*(s.flatten(0, 1) for s in given.support), *given.query])).double()
    losses = []
    for e in range(episodes):
        support = made[e * 8 : (e + 1) * 8].view(4, 2, -1)
        query = made[episodes * 8 + e * 12 : episodes * 8 + (e + 1) * 12]
        for q, label in zip(query, given.labels[e].tolist(), strict=True):
            terms = torch.stack([-scale * ((q - support[c].mean(0)) ** 2).sum() for c in range(4)])
            losses.append(terms.exp().sum().log() - terms[label])
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_training_episodes_are_cut_to_the_base_classes():
    assert protonet(num_classes=8).batches() == Episodes(way=8, shot=1, query=4, episodes=1)
    assert protonet(num_classes=64).batches() == Episodes(way=30, shot=1, query=4, episodes=1)
    asked = protonet(num_classes=64, train_way=20, train_shot=5, train_query=15, episodes=2)
    assert asked.batches() == Episodes(20, 5, 15, 2)


@pytest.mark.slow
def test_the_paper_s_learning_rate_halves_every_2000_steps():
    backbone = nn.Linear(2, 2)
    backbone.dim = 2
    method = protonet(backbone, **{k: v for k, v in ProtoNet.presets["paper"].items() if k != "backbone"})
    found = method.configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]
    assert isinstance(optimizer, torch.optim.Adam) and schedule["interval"] == "step"
    rates = []
    optimizer.step()  # which a schedule waits for
    for _ in range(4001):
        rates.append(schedule["scheduler"].get_last_lr()[0])
        schedule["scheduler"].step()
    assert [rates[i] for i in (0, 1999, 2000, 3999, 4000)] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4])


@pytest.mark.parametrize("distance", SLOW)
def test_new_prototypes_join_those_of_the_base_classes(episode, distance):
    """The mean embeddings of base classes are prototypes like any; logits are as in an episode of all."""
    (support, query), base = (tensor[0] for tensor in episode), torch.randn(6, DIM)
    logits = protonet(distance=distance).joint_logits(base, support, query)
    prototypes = [*base.double().numpy(), *(sum(own) / SHOT for own in support.double().numpy())]
    expected = [[SLOW[distance](q, p) for p in prototypes] for q in query.double().numpy()]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-4)
    alone = protonet(distance=distance).joint_logits(base, support[:0], query)
    torch.testing.assert_close(alone, logits[:, :6])
