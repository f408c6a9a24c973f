"""RFS: its regression against scikit-learn's, its distillation by hand and through the trainer."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from methods import logistic_regression
from methods.backbones import build
from methods.base_classifier import BaseClassifier
from methods.batches import LabelledBatch, Shuffled
from methods.distillation import distillation_loss
from methods.logistic_head import LogisticHead
from methods.logistic_regression import fit
from methods.pretraining import Pretraining

SETTINGS = [(5, 1), (5, 5), (20, 1), (3, 8), (2, 3)]


def method(backbone: nn.Module | None = None, **changes) -> LogisticHead:
    torch.manual_seed(0)
    backbone = backbone or build("conv4", image_size=16)
    return LogisticHead(backbone, LogisticHead.Hyperparameters(**changes), 8)


def embeddings(episodes: int, way: int, shot: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    """``[E, way, shot, D]`` of length 1, around class centres that overlap, as real ones do."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(dim, generator=rng) + 0.7 * torch.randn(episodes, way, 1, dim, generator=rng)
    return nn.functional.normalize(centres + torch.randn(episodes, way, shot, dim, generator=rng), dim=-1)


def scikit_learn(support: torch.Tensor, query: torch.Tensor, c: float) -> np.ndarray:
    """Logits of one episode, less their mean over the classes: a softmax sees only their differences."""
    way, shot = support.shape[:2]
    labels = np.repeat(np.arange(way), shot)
    # With 2 classes it fits one weight vector, the difference of two that are each penalised half as much.
    theirs = LogisticRegression(C=2 * c if way == 2 else c, solver="newton-cholesky", tol=1e-12, max_iter=500)
    theirs.fit(support.flatten(0, 1).double().numpy(), labels)
    found = theirs.decision_function(query.double().numpy())
    found = np.stack([-found / 2, found / 2], axis=1) if way == 2 else found
    return found - found.mean(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("way, shot", SETTINGS)
@pytest.mark.parametrize("c", [0.01, 1.0, 30.0])
def test_the_answers_are_scikit_learn_s(way, shot, c):
    support, query = embeddings(4, way, shot), embeddings(4, way, 15, seed=1).flatten(1, 2)
    logits = method(c=c).episode_logits(support, query)
    assert logits.shape == (4, way * 15, way) and logits.dtype == torch.float32
    logits = logits - logits.mean(2, keepdim=True)
    for e in range(4):
        expected = scikit_learn(support[e], query[e], c)
        np.testing.assert_allclose(logits[e].numpy(), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        sure = np.diff(np.sort(expected)[:, -2:]).ravel() > 1e-4 * np.abs(expected).max()
        assert (logits[e].argmax(1).numpy() == expected.argmax(1))[sure].all() and sure.mean() > 0.9


@pytest.mark.parametrize("way, shot", SETTINGS)
def test_converged_further_than_float32_can_tell(way, shot):
    support, query = embeddings(3, way, shot), embeddings(1, way, 15, seed=1).flatten(0, 2)
    weight, bias = fit(support, 1.0)
    assert weight.dtype == torch.float64
    for e in range(3):
        logits = (query.double() @ weight[e].T + bias[e]).numpy()
        expected = scikit_learn(support[e], query, 1.0)
        np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected, rtol=0, atol=1e-8)


def gradient(support: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, c: float) -> float:
    """The largest entry of the objective's gradient, over c, by autograd in float64."""
    x = support.double().flatten(1, 2)
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    labels = torch.arange(support.shape[1]).repeat_interleave(support.shape[2]).repeat(len(support))
    logits = (x @ weight.mT + bias[:, None]).flatten(0, 1)
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum") + weight.square().sum() / (2 * c)
    loss.backward()
    return max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))


def hard_cases() -> dict[str, torch.Tensor]:
    plain = embeddings(3, 4, 3)
    contradictory = plain.clone()
    contradictory[:, 1, 0] = contradictory[:, 0, 0]  # one image under two labels
    return {
        "repeated images": plain[:, :, :1].expand(-1, -1, 5, -1),
        "contradictory": contradictory,
        "fewer dimensions than images": embeddings(3, 4, 6, dim=3),
        "all the same": torch.ones(2, 4, 2, 8),
        "long": plain * 300,
        "many classes": embeddings(2, 30, 2),
    }


@pytest.mark.parametrize("name", hard_cases())
@pytest.mark.parametrize("c", [0.1, 10.0, 10_000.0])
def test_the_gradient_vanishes(name, c, monkeypatch):
    monkeypatch.setattr(logistic_regression, "NEWTON_STEPS", 60)
    support = hard_cases()[name]
    weight, bias = fit(support, c)
    start = gradient(support, torch.zeros_like(weight), torch.zeros_like(bias), c)
    assert gradient(support, weight, bias, c) <= 1e-8 * max(start, 1.0)


def test_episodes_fitted_together_are_fitted_alone():
    """An easy episode waits for a hard one, and stays where it is."""
    support = torch.cat([embeddings(2, 5, 5), 30 * embeddings(1, 5, 5, seed=7)])
    weight, bias = fit(support, 10.0)
    for e in range(3):
        own, own_bias = fit(support[e : e + 1], 10.0)
        torch.testing.assert_close(weight[e], own[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(bias[e], own_bias[0], rtol=1e-6, atol=1e-6)


def test_inside_autocast_and_inference_mode():
    support, query = embeddings(2, 5, 5), embeddings(2, 5, 3, seed=1).flatten(1, 2)
    expected = method().episode_logits(support, query)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(method().episode_logits(support.clone(), query.clone()), expected)


@pytest.mark.parametrize("normalise", [True, False])
def test_features_of_length_one(normalise):
    ours = method(normalise=normalise).eval()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        made, features = ours.embed(images), ours.backbone(images)
    lengths = features.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(made.double(), features.double() / (lengths if normalise else 1))


def test_a_mirrored_image_is_the_same_image():
    """With `mirror` an image, its mirror image, and their mean feature all point one way; without, not."""
    images = torch.randn(4, 3, 16, 16)
    mirrored = torch.from_numpy(images.numpy()[..., ::-1].copy())
    with torch.no_grad():
        ours = method(mirror=True).eval()
        assert torch.equal(ours.embed(images), ours.embed(mirrored))
        plain = method(normalise=False).eval()
        each = torch.stack([plain.embed(images), plain.embed(mirrored)]).double()
    assert not torch.allclose(each[0], each[1], rtol=0.01)
    expected = nn.functional.normalize(each.mean(0), dim=1)
    torch.testing.assert_close(ours.embed(images).double(), expected, rtol=1e-5, atol=1e-6)


def test_bad_values():
    for changes, message in (
        ({"c": 0.0}, "c must be above 0"),
        ({"distillation": 1.5}, "distillation must be at most 1"),
        ({"distillation": 0.5, "steps": 1}, "distillation needs at least 2 steps"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            method(**changes)
        assert "\n" not in str(caught.value)


def test_the_distillation_loss_by_hand():
    """T^2 sum_c t_c log(t_c / s_c) of answers softened by T = 4; RFS, eq. 5."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 6, 8)) * 5

    def soft(logits):
        raised = np.exp(logits / 4)
        return raised / raised.sum(1, keepdims=True)

    s, t = soft(student), soft(teacher)
    expected = 16 * (t * np.log(t / s)).sum(1).mean()
    assert distillation_loss(*map(torch.tensor, (student, teacher))).item() == pytest.approx(expected)


def teacher() -> BaseClassifier:
    torch.manual_seed(7)
    return BaseClassifier(build("conv4", image_size=16), Pretraining(1), 8)


def test_without_distillation_it_answers_with_the_classifier():
    ours, classifier = method().eval(), teacher().eval()
    assert ours.training_steps == 0 and ours.pretraining == Pretraining(4000)
    ours.start_from(classifier)
    images = torch.randn(4, 3, 16, 16)
    expected = nn.functional.normalize(classifier.embed(images), dim=1)
    torch.testing.assert_close(ours.embed(images), expected)


def test_a_student_learns_from_labels_and_teacher():
    ours, classifier = method(distillation=0.3).train(), teacher()
    batch = LabelledBatch(torch.randn(8, 3, 16, 16), torch.arange(8))
    before = copy.deepcopy(ours.state_dict())
    ours.start_from(classifier)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, before[name]), name
    student = nn.Sequential(copy.deepcopy(ours.backbone), copy.deepcopy(ours.head)).train()
    loss = ours.training_step(batch, 5)
    logits, known = student(batch.images), classifier.eval().head(classifier.embed(batch.images))
    expected = 0.7 * nn.functional.cross_entropy(logits, batch.labels) + 0.3 * distillation_loss(
        logits, known
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in ours.teacher[0].parameters())
    assert len(list(ours.parameters())) == len(list(student.parameters()))


@pytest.mark.parametrize("schedule", ["one_cycle", "rfs"])
def test_both_generations_have_the_whole_schedule(schedule):
    ours = method(steps=121, schedule=schedule, distillation=0.5, images=64)
    assert ours.training_steps == 61 and ours.pretraining == Pretraining(60, 64, schedule=schedule)
    assert ours.batches() == Shuffled(64)
    made, found = ours.configure_optimizers(), []
    for _ in range(61):
        found.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert max(found) == pytest.approx(0.1, rel=0.02) and found[-1] <= 0.001
