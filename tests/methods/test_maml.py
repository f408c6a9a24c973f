"""MAML against gradients written out by hand, learn2learn's own loop, and what it promises."""

import copy

import learn2learn as l2l
import numpy as np
import pytest
import torch
from meta_learning import TwoLayers, answers, batch, fit, gradients, on_conv4
from torch import nn
from torch.nn import functional as F

from bench.config.run_config import resolve
from methods import support_norm
from methods.batches import EpisodeBatch
from methods.maml import MAML

RATE, STEPS = 0.5, 3
HEADS = ("zero", "learned")


def loss_by_hand(theta: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Cross-entropy of softmax(V tanh(W x + b) + c), and its gradient, by the chain rule."""
    w, b, v, c = theta
    hidden = np.tanh(x @ w.T + b)
    logits = hidden @ v.T + c
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    error = (p - np.eye(len(v))[y]) / len(y)
    below = (error @ v) * (1 - hidden**2)
    return loss, [below.T @ x, below.sum(0), error.T @ hidden, error.sum(0)]


def query_losses(theta: list[np.ndarray], given: EpisodeBatch) -> tuple[float, list[np.ndarray]]:
    """Mean query loss after the inner loop, and its gradient at the adapted weights (first order)."""
    losses, found = [], []
    for support, query, labels in zip(given.support, given.query, given.labels, strict=True):
        images = support.flatten(0, 1).flatten(1).numpy()
        classes = np.repeat(np.arange(support.shape[0]), support.shape[1])
        adapted = theta
        for _ in range(STEPS):
            _, gradient = loss_by_hand(adapted, images, classes)
            adapted = [t - RATE * g for t, g in zip(adapted, gradient, strict=True)]
        loss, gradient = loss_by_hand(adapted, query.flatten(1).numpy(), labels.numpy())
        losses.append(loss)
        found.append(gradient)
    return np.mean(losses), [np.mean(parts, axis=0) for parts in zip(*found, strict=True)]


def second_order_by_hand(theta: list[np.ndarray], given: EpisodeBatch) -> list[np.ndarray]:
    """Derivative of the query loss by each initial weight: central differences through the inner loop."""
    found, h = [], 1e-5
    for k, part in enumerate(theta):
        slope = np.zeros_like(part)
        for index in np.ndindex(part.shape):
            ends = []
            for sign in (1, -1):
                moved = [t.copy() for t in theta]
                moved[k][index] += sign * h
                ends.append(query_losses(moved, given)[0])
            slope[index] = (ends[0] - ends[1]) / (2 * h)
        found.append(slope)
    return found


@pytest.fixture
def by_hand():
    """A method on two layers, its weights as arrays, and a batch of episodes."""
    torch.manual_seed(0)

    def make(first_order: bool) -> tuple[MAML, list[np.ndarray], EpisodeBatch]:
        hp = MAML.Hyperparameters(
            train_way=3,
            inner_steps=STEPS,
            inner_learning_rate=RATE,
            first_order=first_order,
            head="learned",
        )
        method = MAML(TwoLayers(), hp, 8).double()
        theta = [
            p.detach().numpy().copy() for p in (*method.backbone.parameters(), *method.head.parameters())
        ]
        return method, theta, batch(size=2)

    return make


@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_by_hand(by_hand, first_order):
    method, theta, given = by_hand(first_order)
    loss, found = gradients(method, given)
    expected_loss, first = query_losses(theta, given)
    second = second_order_by_hand(theta, given)
    assert loss == pytest.approx(expected_loss, rel=1e-10)
    expected, other = (first, second) if first_order else (second, first)
    assert len(found) == 4
    for own, wanted, unwanted in zip(found.values(), expected, other, strict=True):
        np.testing.assert_allclose(own.numpy(), wanted, rtol=1e-6, atol=1e-9)
        assert np.abs(own.numpy() - unwanted).max() > 1e-3


@pytest.mark.parametrize("first_order", [False, True])
def test_equals_learn2learn_s_own_loop(first_order):
    """With running batch-norm statistics and a head that is a layer like any other."""
    method = on_conv4(
        MAML, train_way=3, inner_steps=2, head="learned", batch_norm="running", first_order=first_order
    )
    given = batch()
    network = nn.Sequential(copy.deepcopy(method.backbone).eval(), copy.deepcopy(method.head))
    theirs = l2l.algorithms.MAML(network, lr=0.01, first_order=first_order)
    labels, losses = torch.arange(3).repeat_interleave(2), []
    for e in range(2):
        learner = theirs.clone()
        for _ in range(2):
            learner.adapt(F.cross_entropy(learner(given.support[e].flatten(0, 1)), labels))
        losses.append(F.cross_entropy(learner(given.query[e]), given.labels[e]))
    expected = torch.stack(losses).mean()
    expected.backward()
    loss, found = gradients(method, given)
    assert loss == pytest.approx(expected.item())
    for own, parameter in zip(found.values(), network.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad)


@pytest.mark.slow
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("batch_norm", ["support", "running", "transductive"])
def test_all_tasks_at_once_have_the_gradient_of_task_by_task(batch_norm, first_order, monkeypatch):
    method = on_conv4(
        MAML, train_way=3, inner_steps=2, batch_norm=batch_norm, first_order=first_order, head="learned"
    )
    given = batch(episodes=2)
    loss, expected = gradients(method, given)
    one_by_one = answers(method, given)
    monkeypatch.setattr(support_norm, "ONE_BY_ONE", set())
    together, found = gradients(method, given)
    assert together == pytest.approx(loss)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    torch.testing.assert_close(answers(method, given), one_by_one)


def test_the_meta_gradient_flows_through_the_support_statistics():
    """Central differences of the loss in a direction drawn at random, on a network without kinks."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)]
    backbone = nn.Sequential(*layers, nn.Tanh(), nn.Flatten())
    backbone.dim = 5 * 2 * 2
    hp = MAML.Hyperparameters(train_way=3, inner_steps=2, inner_learning_rate=0.1, feature_length=3.0)
    method, given = MAML(backbone, hp, 8).double(), batch(size=6)
    _, found = gradients(method, given)
    direction = {name: torch.randn_like(p) for name, p in method.named_parameters()}
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(method)
        for name, parameter in moved.named_parameters():
            parameter.data += sign * 1e-6 * direction[name]
        ends.append(gradients(moved, given)[0])
    slope = sum((found[name] * direction[name]).sum().item() for name in found)
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("batch_norm", ["support", "running", "transductive"])
def test_evaluation_leaves_everything_as_it_was(batch_norm, head):
    method = on_conv4(MAML, batch_norm=batch_norm, test_steps=2, head=head).eval()
    before, drawn = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    first = answers(method, batch())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert torch.equal(answers(method, batch()), first)


def test_running_statistics_follow_the_support_images_alone():
    method = on_conv4(MAML, inner_steps=1)
    given = batch()
    backbone = copy.deepcopy(method.backbone).train()
    backbone(given.support.flatten(0, 2))
    gradients(method, given)
    for own, expected in zip(method.backbone.buffers(), backbone.buffers(), strict=True):
        torch.testing.assert_close(own, expected)


def test_a_head_from_zero_treats_classes_alike():
    method = on_conv4(MAML, test_steps=3)
    given, order = batch(), [2, 0, 1]
    logits = answers(method, given)
    permuted = answers(method, given._replace(support=given.support[:, order]))
    torch.testing.assert_close(permuted, logits[:, :, order])


def test_a_learned_head_of_another_number_of_classes_starts_at_its_mean():
    method = on_conv4(MAML, train_way=3, head="learned")
    same, other = method.network(3), method.network(4)
    assert same.weight is method.head.weight and same.bias is method.head.bias
    mean = method.head.weight.mean(0)
    assert all(torch.equal(row, mean) for row in other.weight)
    assert torch.equal(other.bias, method.head.bias.mean().expand(4))


def test_features_get_the_length_asked_for():
    network = on_conv4(MAML, feature_length=7.0).eval().network(3)
    with torch.no_grad():
        network.weight.copy_(torch.randn_like(network.weight))
        images = batch().query[0]
        features = network.backbone(images)
        expected = 7 * features / features.norm(dim=1, keepdim=True) @ network.weight.T
        torch.testing.assert_close(network(images), expected)


def test_the_meta_learning_rate():
    method = on_conv4(MAML, steps=40, init="pretrained", learning_rate=0.01, schedule="linear")
    found = method.configure_optimizers()
    schedule, rates = found["lr_scheduler"]["scheduler"], []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        found["optimizer"].step()
        schedule.step()
    assert rates == pytest.approx([0.01 * (1 - k / 10) for k in range(10)])


def test_the_paper_s_optimizer_is_adam_at_a_constant_rate():
    method = on_conv4(MAML, **{k: v for k, v in MAML.presets["paper"].items() if k != "backbone"})
    found = method.configure_optimizers()
    assert isinstance(found["optimizer"], torch.optim.Adam) and "lr_scheduler" not in found
    assert {group["lr"] for group in found["optimizer"].param_groups} == {1e-3}
    assert all(group["weight_decay"] == 0 for group in found["optimizer"].param_groups)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["support", pytest.param("running", marks=pytest.mark.soak)])
def test_a_short_training(batch_norm, tiny, tiny_split, tmp_path, monkeypatch):
    changes = {"steps": 12, "inner_steps": 2, "batch_norm": batch_norm, "learning_rate": 0.006}
    loss = fit(MAML, tiny, tiny_split, tmp_path, monkeypatch, **changes)[1].curves["loss"]
    assert loss[-3:, 1].mean() < loss[0, 1] - 0.08  # untrained weights stay within 0.01


def test_the_paper_s_steps_on_mini_imagenet():
    """Finn et al. 2017, appendix A.1."""
    hp = resolve({"method": "maml", "preset": "paper"}, {}, {}).hyperparameters
    names = ("steps", "episodes", "train_query", "inner_steps", "test_steps", "inner_learning_rate")
    assert [hp[name] for name in names] == [60000, 4, 15, 5, 10, 0.01]
