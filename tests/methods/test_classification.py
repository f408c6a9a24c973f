"""Classifiers of the base classes and their optimizer, against Chen et al.'s formula and torch's own."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from methods.classification import CosineHead, LinearHead, classifier, configure_classifier
from methods.pretraining import Pretraining

DIM, CLASSES = 7, 5


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(6, DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def test_linear_head_by_hand(features):
    head = LinearHead(DIM, CLASSES)
    nn.init.uniform_(head.bias)
    weight, bias, x = (t.detach().double().numpy() for t in (head.weight, head.bias, features))
    expected = [[sum(w * f) + b for w, b in zip(weight, bias, strict=True)] for f in x]
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_cosine_head_by_hand(features):
    head = CosineHead(DIM, CLASSES, scale=16.0)
    weight, x = (t.detach().double().numpy() for t in (head.weight, features))
    expected = [[16 * sum(f * w) / math.sqrt(sum(f * f) * sum(w * w)) for w in weight] for f in x]
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_cosine_head_counts_no_lengths(features):
    head = CosineHead(DIM, CLASSES, scale=10.0)
    before = head(features)
    with torch.no_grad():
        head.weight *= torch.rand(CLASSES, 1) + 0.5
    torch.testing.assert_close(head(features * 30), before, rtol=1e-5, atol=1e-5)
    assert before.abs().max() <= 10


@pytest.mark.parametrize("learn", [False, True])
def test_the_scale_is_learned_only_if_asked_to(features, learn):
    head = CosineHead(DIM, CLASSES, 10.0, learn_scale=learn)
    assert ("scale" in dict(head.named_parameters())) is learn
    assert "scale" in head.state_dict()
    head(features)[0, 0].backward()
    if learn:  # d(s cos)/ds = cos
        assert head.scale.grad.item() == pytest.approx(head(features)[0, 0].item() / 10, rel=1e-5)


@pytest.mark.parametrize("head", [LinearHead(DIM, CLASSES), CosineHead(DIM, CLASSES, 16.0)])
def test_float32_inside_autocast(features, head):
    """bfloat16 features in, the same logits out as outside of autocast: nothing is rounded again."""
    rounded = features.bfloat16()
    expected = head(rounded.float())
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(rounded)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)


def test_the_cosine_head_s_directions_are_spread_evenly():
    weight = CosineHead(3, 20_000, 1.0).weight
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(20_000))
    assert weight.mean(0).norm() < 0.03
    torch.testing.assert_close(weight.T @ weight / 20_000, torch.eye(3) / 3, rtol=0, atol=0.01)


def test_heads_by_name():
    assert isinstance(classifier("linear", DIM, CLASSES, 16.0), LinearHead)
    cosine = classifier("cosine", DIM, CLASSES, 12.0)
    assert isinstance(cosine, CosineHead) and cosine.scale == 12 and cosine.weight.shape == (CLASSES, DIM)


def rates(made: dict, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        if "lr_scheduler" in made:
            assert made["lr_scheduler"]["interval"] == "step"
            made["lr_scheduler"]["scheduler"].step()
    return found


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("simpleshot", [0.1] * 45 + [0.01] * 21 + [0.001] * 24),
        ("rfs", [0.1] * 45 + [0.01] * 15 + [0.001] * 15 + [0.0001] * 15),
        ("mtl", [0.1] * 27 + [0.02] * 27 + [0.004] * 27 + [0.0008] * 9),
    ],
)
def test_schedules_of_papers(schedule, expected):
    head = LinearHead(DIM, CLASSES)
    made = configure_classifier(head.parameters(), Pretraining(90, schedule=schedule))
    assert rates(made, 90) == pytest.approx(expected)
    assert isinstance(made["optimizer"], torch.optim.SGD)
    decays = {group["weight_decay"]: group["params"] for group in made["optimizer"].param_groups}
    assert decays[5e-4][0] is head.weight and decays[0.0][0] is head.bias


def test_one_cycle_and_constant():
    def made(schedule, **changes):
        hp = Pretraining(50, schedule=schedule, learning_rate=0.2, **changes)
        return configure_classifier(LinearHead(DIM, 2).parameters(), hp)

    one_cycle = rates(made("one_cycle"), 50)
    assert max(one_cycle) == pytest.approx(0.2, rel=0.01) and one_cycle[-1] < 1e-3
    assert one_cycle.index(max(one_cycle)) == pytest.approx(10, abs=1)
    assert rates(made("constant"), 50) == [0.2] * 50
    assert isinstance(made("constant", optimizer="adam")["optimizer"], torch.optim.Adam)
