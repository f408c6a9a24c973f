"""Hallucinated prototypes against learn2learn's classifier, and the generator against numpy."""

import copy

import numpy as np
import pytest
import torch
from learn2learn.nn import PrototypicalClassifier
from torch import Tensor, nn

from methods.backbones import build
from methods.batches import EpisodeBatch, Episodes
from methods.protonet import ProtoNet
from methods.protonet_hallucination import ProtoNetHallucination

EPISODES, WAY, SHOT, QUERIES, DIM = 2, 4, 3, 9, 6


def hallucinating(
    backbone: nn.Module | None = None, num_classes: int = 8, **changes
) -> ProtoNetHallucination:
    if backbone is None:
        backbone = nn.Identity()
        backbone.dim = DIM
    torch.manual_seed(0)
    return ProtoNetHallucination(backbone, ProtoNetHallucination.Hyperparameters(**changes), num_classes)


def lived_in(method: ProtoNetHallucination) -> ProtoNetHallucination:
    """A generator that has moved away from the identity, in evaluation mode."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in method.generator.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=rng))
    return method.eval()


def silent(method: ProtoNetHallucination) -> ProtoNetHallucination:
    """Without noise, in evaluation mode."""
    method.noise.zero_()
    return method.eval()


@pytest.fixture
def episode() -> tuple[Tensor, Tensor]:
    """Features that are not negative, as those that end in ReLU."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(EPISODES, WAY, SHOT, DIM, generator=rng), torch.rand(
        EPISODES, QUERIES, DIM, generator=rng
    )


def by_hand(method: ProtoNetHallucination, features: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """One generated feature: the three layers on features and noise appended, in double precision."""
    weights = {name: value.double().numpy() for name, value in method.generator.state_dict().items()}
    first = np.hstack([weights["of_features.weight"], weights["of_noise.weight"]])
    x = np.maximum(first @ np.concatenate([features, noise]) + weights["of_features.bias"], 0)
    x = np.maximum(weights["middle.weight"] @ x + weights["middle.bias"], 0)
    return np.maximum(weights["last.weight"] @ x + weights["last.bias"], 0)


@pytest.mark.parametrize("hidden", [None, DIM, 11])
def test_generated_features_equal_numpy_s(episode, hidden):
    """Feature m comes from noise m and from the support images in turn, by their mean feature."""
    support, _ = episode
    method = lived_in(hallucinating(generated=5, hidden=hidden))
    with torch.no_grad():
        made = method.hallucinate(support)
    assert made.shape == (EPISODES, WAY, 5, DIM) and made.dtype == torch.float32
    noise = method.noise.double().numpy()
    for e in range(EPISODES):
        for c in range(WAY):
            images = sorted(support[e, c].double().numpy(), key=np.mean)
            expected = [by_hand(method, images[m % SHOT], noise[m]) for m in range(5)]
            np.testing.assert_allclose(made[e, c].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (made > 0).any() and made.std(dim=2).max() > 0.1


@pytest.mark.parametrize("distance", ["l2", "cosine", "dot"])
@pytest.mark.parametrize("generated", [1, 10, 100])
def test_a_prototype_is_the_mean_of_real_and_generated_features(episode, distance, generated):
    """learn2learn's classifier of both, as if both were real."""
    support, query = episode
    method = lived_in(hallucinating(distance=distance, generated=generated))
    with torch.no_grad():
        logits, made = method.episode_logits(support, query), method.hallucinate(support)
    assert logits.shape == (EPISODES, QUERIES, WAY)
    for e in range(EPISODES):
        features = torch.cat([support[e].flatten(0, 1), made[e].flatten(0, 1)])
        labels = torch.cat([torch.arange(WAY).repeat_interleave(n) for n in (SHOT, generated)])
        name = {"l2": "euclidean", "cosine": "cosine"}.get(distance)
        if name is None:
            prototypes = torch.stack([features[labels == c].mean(0) for c in range(WAY)])
            theirs = torch.stack([torch.stack([q.dot(p) for p in prototypes]) for q in query[e]])
        else:
            theirs = PrototypicalClassifier(features, labels, distance=name)(query[e])
        torch.testing.assert_close(logits[e], theirs, rtol=1e-4, atol=1e-4)


def test_without_noise_it_starts_as_a_prototypical_network(episode):
    support, query = episode
    method = silent(hallucinating(distance="l2", generated=6, hidden=10))
    with torch.no_grad():
        logits = method.episode_logits(support, query)
    for e in range(EPISODES):  # 6 copies of 3 images, so that every image counts alike
        theirs = PrototypicalClassifier(
            support[e].flatten(0, 1), torch.arange(WAY).repeat_interleave(SHOT), distance="euclidean"
        )
        torch.testing.assert_close(logits[e], theirs(query[e]), rtol=1e-4, atol=1e-5)


def test_support_images_take_turns(episode):
    support, _ = episode
    order = support.mean(3).argsort(2)
    with torch.no_grad():
        made = silent(hallucinating(generated=5)).hallucinate(support)
    for m in range(5):
        turn = order[:, :, m % SHOT]
        expected = torch.stack([torch.stack([support[e, c, turn[e, c]] for c in range(4)]) for e in (0, 1)])
        torch.testing.assert_close(made[:, :, m], expected)


def test_new_classes_are_hallucinated_where_they_join_the_base_classes(episode):
    support, query = episode
    method = lived_in(hallucinating(distance="l2"))
    base = torch.rand(7, DIM, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        logits = method.joint_logits(base, support[0], query[0])
        none = method.joint_logits(base, support[0, :0], query[0])
        new = method.episode_logits(support[:1], query[:1])[0]
        shot = support.shape[2]
        repeated = base[None, :, None].expand(-1, -1, shot, -1)  # a mean that counts as many images
        known = method.episode_logits(repeated, query[:1])[0]
    torch.testing.assert_close(logits[:, :7], known)
    torch.testing.assert_close(logits[:, 7:], new)
    torch.testing.assert_close(none, logits[:, :7])


def test_evaluation_draws_no_random_numbers(episode):
    support, query = episode
    method = lived_in(hallucinating())
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = method.episode_logits(support, query)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(8)
        assert torch.equal(method.episode_logits(support, query), first)
        swapped = method.episode_logits(support.flip(0), query.flip(0)).flip(0)
    torch.testing.assert_close(swapped, first)


def test_the_noise_is_the_same_for_every_class_and_whatever_the_seed(episode):
    torch.manual_seed(99)
    backbone = nn.Identity()
    backbone.dim = DIM
    other = ProtoNetHallucination(backbone, ProtoNetHallucination.Hyperparameters(), 8)
    method = lived_in(hallucinating())
    assert torch.equal(other.noise, method.noise)
    assert method.noise.std() == pytest.approx(1, abs=0.3)
    with torch.no_grad():
        made = method.hallucinate(episode[0][:, :1].expand(-1, WAY, -1, -1))
    torch.testing.assert_close(made, made[:, :1].expand_as(made))
    assert (made[:, 0, 0] - made[:, 0, SHOT]).abs().max() > 0.01  # of one image, by two noises


@pytest.mark.parametrize("count", [1, 4, 40])
def test_the_number_at_the_test_is_its_own(episode, count):
    """Training and weights are the same; the test has the prototypes of a method trained with that number."""
    support, query = episode
    ours, trained, asked = (
        lived_in(hallucinating(generated=made, test_generated=tested))
        for made, tested in ((4, count), (4, None), (count, None))
    )
    assert ours.state_dict().keys() == trained.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(ours.episode_logits(support, query), asked.episode_logits(support, query))
        assert ours.hallucinate(support).shape[2] == count
        torch.manual_seed(3)
        drawn = ours.train().hallucinate(support)
        torch.manual_seed(3)
        assert torch.equal(drawn, trained.train().hallucinate(support)) and drawn.shape[2] == 4


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_without_generated_features_it_is_a_prototypical_network(episode, distance):
    support, query = episode
    method = lived_in(hallucinating(test_generated=0, distance=distance))
    theirs = ProtoNet(method.backbone, ProtoNet.Hyperparameters(distance=distance), 8).eval()
    base = torch.rand(7, DIM, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert method.hallucinate(support).shape == (EPISODES, WAY, 0, DIM)
        torch.testing.assert_close(
            method.episode_logits(support, query), theirs.episode_logits(support, query)
        )
        joined = (one.joint_logits(base, support[0], query[0]) for one in (method, theirs))
        torch.testing.assert_close(*joined)


def test_models_that_hold_the_noise_still_load(episode):
    method, other = hallucinating(), lived_in(hallucinating(test_generated=3))
    method.load_state_dict(other.state_dict() | {"noise": torch.zeros(10, DIM)})
    assert torch.equal(method.generator.last.weight, other.generator.last.weight)
    assert method.noise.shape == (10, DIM) and method.noise.abs().min() > 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_draws_fresh_noise(episode, dropout):
    method = hallucinating(dropout=dropout)
    support = episode[0][:1, :1].expand_as(episode[0])  # the same in every class
    torch.manual_seed(1)
    first, second = method.hallucinate(support), method.hallucinate(support)
    torch.manual_seed(1)
    assert torch.equal(method.hallucinate(support), first)
    assert not torch.equal(first, second)
    assert (first - first[:, :1]).abs().max() > 0 and (first[0] - first[1]).abs().max() > 0
    with torch.no_grad():
        assert torch.equal(*(method.eval().hallucinate(support) for _ in range(2)))


def test_dropout_acts_in_training_on_both_hidden_layers(episode):
    """Of copies, half are dropped twice, and the quarter that is left is four times as large."""
    method = hallucinating(dropout=0.5, generated=200)
    with torch.no_grad():
        method.generator.of_noise.weight.zero_()
        made = method.hallucinate(episode[0][:, :, :1])
    dropped = made == 0
    assert dropped.float().mean() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(made[~dropped], (4 * episode[0][:, :, :1]).expand_as(made)[~dropped])


def given(episodes: int) -> EpisodeBatch:
    rng = torch.Generator().manual_seed(3)
    return EpisodeBatch(
        torch.randn(episodes, 4, 2, 3, 32, 32, generator=rng),
        torch.randn(episodes, 12, 3, 32, 32, generator=rng),
        torch.stack([torch.randperm(12, generator=rng) % 4 for _ in range(episodes)]),
        torch.arange(4).expand(episodes, 4),
    )


@pytest.mark.parametrize("episodes", [1, 2])
def test_the_loss_by_hand_reaches_the_generator(episodes):
    """Cross-entropy of softmax over scaled cosines to the prototypes of this step's own noise."""
    method = hallucinating(build("conv4"), generated=4)
    backbone = copy.deepcopy(method.backbone)
    batch = given(episodes)
    torch.manual_seed(2)
    loss = method.training_step(batch, 0)
    loss.backward()
    made = backbone(torch.cat([*(s.flatten(0, 1) for s in batch.support), *batch.query])).detach()
    support = made[: episodes * 8].view(episodes, 4, 2, -1)
    torch.manual_seed(2)
    generated = method.hallucinate(support).detach().double()
    terms = []
    for e in range(episodes):
        prototypes = torch.cat([support[e].double(), generated[e]], dim=1).mean(1)
        for i, label in enumerate(batch.labels[e].tolist()):
            query = made[episodes * 8 + e * 12 + i].double()
            scores = [10 * (query @ p / (query.norm() * p.norm())).item() for p in prototypes]
            terms.append(np.log(np.sum(np.exp(scores))) - scores[label])
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_inside_autocast_all_digits_are_kept(episode):
    method = lived_in(hallucinating())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        inside = method.episode_logits(*episode)
    with torch.no_grad():
        assert inside.dtype == torch.float32 and torch.equal(inside, method.episode_logits(*episode))


@pytest.mark.parametrize(
    "changes, message",
    [({"hidden": DIM - 1}, "hidden must be at least 6"), ({"dropout": 1.0}, "dropout must be below 1")],
)
def test_generators_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        hallucinating(**changes)


def test_training_episodes_are_protonet_s():
    assert hallucinating(num_classes=8).batches() == Episodes(way=8, shot=1, query=4, episodes=1)
    assert hallucinating(num_classes=64).batches() == Episodes(way=30, shot=1, query=4, episodes=1)
