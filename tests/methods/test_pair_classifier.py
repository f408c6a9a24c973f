"""Pair logits against slow loops in double precision, losses against scikit-learn's."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from methods.backbones import build
from methods.batches import Balanced, LabelledBatch, PairBatch, Pairs
from methods.pair_classifier import PairClassifier

DIM = 6
SIGNS = pytest.mark.parametrize("sign", ["mixed", "positive", "negative"])


def classifier(backbone: nn.Module | None = None, num_classes: int = 8, **changes) -> PairClassifier:
    if backbone is None:
        backbone = nn.Identity()
        backbone.dim = DIM
    torch.manual_seed(0)
    return PairClassifier(backbone, PairClassifier.Hyperparameters(**changes), num_classes)


def with_weights(method: PairClassifier, sign: str = "mixed") -> PairClassifier:
    """Random weights in place of the initial ones, which are all the same."""
    rng = torch.Generator().manual_seed(1)
    alpha = torch.randn(len(method.alpha), generator=rng)
    with torch.no_grad():
        method.alpha.copy_({"mixed": alpha, "positive": alpha.abs(), "negative": -alpha.abs()}[sign])
        method.bias.fill_(0.7)
    return method


def slow(method: PairClassifier, a: Tensor, b: Tensor) -> float:
    """sum_j alpha_j |a_j - b_j| + b, term by term."""
    terms = zip(method.alpha.tolist(), a.tolist(), b.tolist(), strict=True)
    return sum(alpha * abs(x - y) for alpha, x, y in terms) + method.bias.item()


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@SIGNS
def test_pair_logits_equal_a_slow_loop(sign):
    method = with_weights(classifier(units=9), sign)
    a, b = vectors(2, 5, 9), vectors(2, 7, 9, seed=1)
    logits = method.pair_logits(a, b)
    assert logits.shape == (2, 5, 7) and logits.dtype == torch.float32
    for e, i, j in product(range(2), range(5), range(7)):
        assert logits[e, i, j].item() == pytest.approx(slow(method, a[e, i], b[e, j]), abs=1e-5)
    rows = method.similarity(a[0], b[0, :5])
    assert rows.tolist() == pytest.approx(
        [slow(method, x, y) for x, y in zip(a[0], b[0, :5], strict=True)], abs=1e-5
    )


@SIGNS
def test_gradients_are_those_of_the_formula(sign):
    method = with_weights(classifier(units=9), sign)
    a, b, towards = vectors(4, 9).requires_grad_(), vectors(5, 9, seed=1), vectors(4, 5, seed=2)
    (method.pair_logits(a, b) * towards).sum().backward()
    alpha, x = method.alpha.detach().double().requires_grad_(), a.detach().double().requires_grad_()
    differences = torch.stack([torch.stack([(u - v).abs() for v in b.double()]) for u in x])
    ((differences * alpha).sum(2) * towards.double()).sum().backward()
    for ours, expected in ((a, x), (method.alpha, alpha)):
        assert ours.grad is not None and expected.grad is not None
        torch.testing.assert_close(ours.grad.double(), expected.grad, rtol=1e-5, atol=1e-5)
    assert method.bias.grad is not None
    assert method.bias.grad.item() == pytest.approx(towards.sum().item(), rel=1e-5)


def labelled() -> LabelledBatch:
    """Five classes of four points."""
    rng = torch.Generator().manual_seed(3)
    centres = torch.randn(5, 1, DIM, generator=rng)
    points = centres + 0.5 * torch.randn(5, 4, DIM, generator=rng)
    return LabelledBatch(points.flatten(0, 1), torch.arange(5).repeat_interleave(4))


def probability(method: PairClassifier, a: Tensor, b: Tensor) -> float:
    """p of two images' features, from the layers' weights in double precision."""
    weight, bias = (p.detach().double().numpy() for p in (method.units.weight, method.units.bias))
    h1, h2 = (1 / (1 + np.exp(-(weight @ x.double().numpy() + bias))) for x in (a, b))
    logit = method.alpha.detach().double().numpy() @ abs(h1 - h2) + method.bias.item()
    return float(1 / (1 + np.exp(-logit)))


def test_the_loss_over_a_batch_equals_scikit_learn_s_with_balanced_weights():
    method, batch = with_weights(classifier(units=9)), labelled()
    pairs = list(combinations(range(20), 2))
    same = [int(batch.labels[i] == batch.labels[j]) for i, j in pairs]
    assert (sum(same), len(same)) == (5 * 6, 190)
    p = [probability(method, batch.images[i], batch.images[j]) for i, j in pairs]
    expected = log_loss(same, p, sample_weight=compute_sample_weight("balanced", same))
    assert method.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-4)
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    mixed = LabelledBatch(batch.images[shuffled], batch.labels[shuffled])
    assert method.training_step(mixed, 0).item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_random_pairs_equals_scikit_learn_s():
    method = with_weights(classifier(units=9, pairs="random"))
    a, b = torch.randn(2, 10, DIM, generator=torch.Generator().manual_seed(0))
    same = torch.tensor([1.0, 0.0] * 5)
    p = [probability(method, x, y) for x, y in zip(a, b, strict=True)]
    loss = method.training_step(PairBatch(a, b, same), 0)
    assert loss.item() == pytest.approx(log_loss(same.numpy(), p), rel=1e-4)


@pytest.mark.parametrize("pairs", ["batch", "random"])
def test_each_image_goes_through_the_backbone_once(pairs):
    calls = []
    backbone = build("conv4")
    backbone.register_forward_hook(lambda module, images, features: calls.append(images[0]))
    method = classifier(backbone, pairs=pairs)
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch: LabelledBatch | PairBatch = LabelledBatch(images, torch.arange(3).repeat_interleave(4))
    if pairs == "random":
        batch = PairBatch(*images.chunk(2), torch.tensor([1.0, 0.0] * 3))
    assert torch.isfinite(method.training_step(batch, 0))
    assert len(calls) == 1 and torch.equal(calls[0], images)


def test_training_tells_same_from_different():
    method, batch = classifier(units=16), labelled()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    with torch.no_grad():
        h = method.embed(batch.images)
        says_same = method.pair_logits(h, h) > 0
    same = batch.labels[:, None] == batch.labels
    assert says_same[same].float().mean() > 0.9 and (~says_same)[~same].float().mean() > 0.9


def test_a_query_is_compared_with_each_support_image_and_the_logits_averaged():
    method = with_weights(classifier(units=9))
    support, query = vectors(2, 4, 3, 9), vectors(2, 5, 9, seed=1)
    logits = method.episode_logits(support, query)
    assert logits.shape == (2, 5, 4)
    for e, q, c in product(range(2), range(5), range(4)):
        expected = np.mean([slow(method, query[e, q], shot) for shot in support[e, c]])
        assert logits[e, q, c].item() == pytest.approx(expected, abs=1e-5)


class Largest(TorchDispatchMode):
    """Records the most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_all_classes_at_once_need_no_more_memory_than_the_queries():
    """One support image of 10 classes against a whole pool: never queries x classes x features."""
    method = with_weights(classifier(units=64))
    support, query = vectors(1, 10, 1, 64), vectors(1, 2000, 64, seed=1)
    with torch.inference_mode(), Largest() as largest:
        logits = method.episode_logits(support, query)
    assert logits.shape == (1, 2000, 10)
    assert 2000 * 10 <= largest.elements <= 2000 * 64


def test_the_embedding_is_a_layer_of_sigmoid_units():
    backbone = build("conv4").eval()
    method = classifier(backbone, units=20).eval()
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = method.embed(images)
        by_hand = 1 / (1 + (-(backbone(images) @ method.units.weight.T + method.units.bias)).exp())
    assert made.shape == (5, 20)
    torch.testing.assert_close(made, by_hand)


def test_inside_autocast_all_digits_are_kept():
    method, batch = with_weights(classifier(units=9)), labelled()
    a, b = vectors(5, 9), vectors(5, 9, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = method.embed(batch.images), method.pair_logits(a, b), method.similarity(a, b)
        loss = method.training_step(batch, 0)
    outside = method.embed(batch.images), method.pair_logits(a, b), method.similarity(a, b)
    for ours, expected in zip(inside, outside, strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, expected)
    assert loss.item() == method.training_step(batch, 0).item()


@pytest.mark.parametrize("too_few", [{"classes": 1}, {"images": 1}])
def test_batches_without_both_kinds_of_pair_are_refused(too_few):
    with pytest.raises(ValueError, match="at least 2"):
        classifier(**too_few)
    classifier(pairs="random", **too_few)  # which asks for neither


def test_one_base_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 base classes"):
        classifier(num_classes=1)


def test_batches():
    assert classifier(num_classes=64).batches() == Balanced(32, 4)
    assert classifier(num_classes=10, images=6).batches() == Balanced(10, 6)
    assert classifier(pairs="random", random_pairs=99).batches() == Pairs(99)
    paper = {k: v for k, v in PairClassifier.presets["paper"].items() if k != "backbone"}
    assert classifier(**paper).batches() == Pairs(128)
