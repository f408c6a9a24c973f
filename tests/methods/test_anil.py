"""ANIL against learn2learn's adaptation of the head, and what it promises."""

import copy

import learn2learn as l2l
import pytest
import torch
from meta_learning import batch, fit, gradients, on_conv4
from torch import nn
from torch.nn import functional as F

from methods.anil import ANIL

EPISODES, WAY, SHOT, QUERIES, DIM, RATE, STEPS = 3, 4, 2, 9, 6, 0.3, 5
LABELS = torch.arange(WAY).repeat_interleave(SHOT)


class Features(nn.Flatten):
    """A backbone for images that are features already."""

    dim = DIM


def anil(**changes) -> ANIL:
    torch.manual_seed(0)
    hp = ANIL.Hyperparameters(train_way=WAY, inner_learning_rate=RATE, **changes)
    backbone = Features()
    backbone.register_parameter("none", nn.Parameter(torch.zeros(())))
    return ANIL(backbone, hp, 8)


@pytest.fixture
def episode() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support ``[E, way, shot, D]`` around class centres, queries and their labels."""
    rng = torch.Generator().manual_seed(1)
    centres = torch.randn(EPISODES, WAY, 1, DIM, generator=rng)
    support = centres + torch.randn(EPISODES, WAY, SHOT, DIM, generator=rng)
    query = torch.randn(EPISODES, QUERIES, DIM, generator=rng)
    return support, query, torch.randint(WAY, (EPISODES, QUERIES), generator=rng)


def theirs(head: nn.Linear, support: torch.Tensor, query: torch.Tensor, first_order: bool) -> torch.Tensor:
    """One episode through learn2learn: logits of ``[Q, D]`` after adaptation to ``[way, shot, D]``."""
    learner = l2l.algorithms.MAML(head, lr=RATE, first_order=first_order).clone()
    for _ in range(STEPS):
        learner.adapt(F.cross_entropy(learner(support.flatten(0, 1)), LABELS))
    return learner(query)


def head_of(method: ANIL) -> nn.Linear:
    """A head of the episodes before adaptation."""
    if method.hp.head == "learned":
        return copy.deepcopy(method.head)
    head = nn.Linear(DIM, WAY)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


@pytest.mark.parametrize("head", ["zero", "learned"])
def test_all_episodes_at_once_equal_learn2learn_one_by_one(episode, head):
    support, query, _ = episode
    method = anil(head=head, test_steps=STEPS)
    with torch.no_grad():
        logits = method.episode_logits(support, query)
    assert logits.shape == (EPISODES, QUERIES, WAY)
    for e in range(EPISODES):
        expected = theirs(head_of(method), support[e], query[e], first_order=True)
        torch.testing.assert_close(logits[e], expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("head", ["zero", "learned"])
def test_the_meta_gradient_equals_learn2learn_s(episode, head, first_order):
    """With respect to the features, that is to the backbone, and to the learned head."""
    support, query, labels = episode
    method = anil(head=head)
    inputs = [support.clone().requires_grad_(), query.clone().requires_grad_()]
    logits = method.answer(*inputs, STEPS, first_order)
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    start = head_of(method)
    others = [support.clone().requires_grad_(), query.clone().requires_grad_()]
    losses = [
        F.cross_entropy(theirs(start, others[0][e], others[1][e], first_order), labels[e])
        for e in range(EPISODES)
    ]
    torch.stack(losses).mean().backward()
    torch.testing.assert_close(inputs[1].grad, others[1].grad, rtol=1e-4, atol=1e-6)
    if first_order:
        assert inputs[0].grad is None and others[0].grad is None
    else:
        assert others[0].grad.abs().max() > 1e-3
        torch.testing.assert_close(inputs[0].grad, others[0].grad, rtol=1e-4, atol=1e-6)
    if head == "learned":
        for own, other in zip(method.head.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_training_step_is_the_query_loss_over_all_images_in_one_forward():
    method = on_conv4(ANIL, train_way=3, inner_learning_rate=RATE, inner_steps=2, feature_length=5.0).float()
    given = batch(dtype=torch.float32)
    backbone = copy.deepcopy(method.backbone).train()
    loss, found = gradients(method, given)
    features = backbone(torch.cat([given.support.flatten(0, 2), given.query.flatten(0, 1)]))
    features = 5 * F.normalize(features, dim=1)
    support, query = features[:12].view(2, 6, -1), features[12:].view(2, 12, -1)
    losses = []
    for e in range(2):
        weight = torch.zeros(3, backbone.dim, requires_grad=True)
        bias = torch.zeros(3, requires_grad=True)
        for _ in range(2):
            own = F.cross_entropy(support[e] @ weight.T + bias, torch.arange(3).repeat_interleave(2))
            slopes = torch.autograd.grad(own, [weight, bias], create_graph=True)
            weight, bias = weight - RATE * slopes[0], bias - RATE * slopes[1]
        losses.append(F.cross_entropy(query[e] @ weight.T + bias, given.labels[e]))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for own, parameter in zip(found.values(), backbone.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-3, atol=1e-5)
    for own, buffer in zip(method.backbone.buffers(), backbone.buffers(), strict=True):
        torch.testing.assert_close(own, buffer)


def test_any_number_of_classes_and_features():
    method = anil(head="learned", test_steps=STEPS)
    support, query = torch.randn(2, 7, 1, DIM), torch.randn(2, 5, DIM)
    logits = method.episode_logits(support, query)
    start = nn.Linear(DIM, 7)
    start.weight.data = method.head.weight.data.mean(0).expand(7, -1).clone()
    start.bias.data = method.head.bias.data.mean().expand(7).clone()
    learner = l2l.algorithms.MAML(start, lr=RATE).clone()
    for _ in range(STEPS):
        learner.adapt(F.cross_entropy(learner(support[0, :, 0]), torch.arange(7)))
    torch.testing.assert_close(logits[0], learner(query[0]), rtol=1e-4, atol=1e-5)
    assert anil().episode_logits(torch.randn(1, 3, 1, 11), torch.randn(1, 2, 11)).shape == (1, 2, 3)


def test_evaluation_draws_nothing_and_changes_nothing(episode):
    method = anil(head="learned").eval()
    before, drawn = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    first = method.episode_logits(*episode[:2])
    assert torch.equal(method.episode_logits(*episode[:2]), first)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


@pytest.mark.parametrize("head", ["zero", "learned"])
def test_random_features_are_guessed(head):
    """Queries stand sorted by class, as a learner that leaks their order would like them."""
    rng = torch.Generator().manual_seed(2)
    support = torch.randn(400, WAY, 1, DIM, generator=rng)
    query = torch.randn(400, 8, DIM, generator=rng)
    logits = anil(head=head).episode_logits(support, query)
    hits = (logits.argmax(2) == torch.arange(WAY).repeat_interleave(2)).float().mean().item()
    assert hits == pytest.approx(1 / WAY, abs=0.03)


@pytest.mark.slow
def test_a_short_training(tiny, tiny_split, tmp_path, monkeypatch):
    changes = {"steps": 20, "episodes": 4}
    loss = fit(ANIL, tiny, tiny_split, tmp_path, monkeypatch, **changes)[1].curves["loss"]
    assert loss[-3:, 1].mean() < loss[0, 1] - 0.3  # untrained weights stay within 0.1
