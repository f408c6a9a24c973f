"""The classifier of the base classes, by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from methods.base_classifier import BaseClassifier
from methods.batches import LabelledBatch, Shuffled
from methods.pretraining import Pretraining


class Pixels(nn.Module):
    """Images ``[N, 3, 2, 2]`` as they are, flattened."""

    dim = 12

    def forward(self, images):
        return images.flatten(1)


def made(**changes) -> BaseClassifier:
    torch.manual_seed(0)
    return BaseClassifier(Pixels(), Pretraining(20, **changes), 6)


def batch(seed: int = 3, count: int = 8) -> LabelledBatch:
    rng = torch.Generator().manual_seed(seed)
    return LabelledBatch(
        torch.randn(count, 3, 2, 2, generator=rng) + 1, torch.randint(6, (count,), generator=rng)
    )


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_loss(head):
    ours = made(head=head, scale=16.0)
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


def test_the_mean_is_that_of_the_last_batches():
    ours = made()
    expected = np.zeros(12)
    for seed in range(40):
        ours.training_step(batch(seed), seed)
        expected = 0.9 * expected + 0.1 * batch(seed).images.flatten(1).double().numpy().mean(0)
    np.testing.assert_allclose(ours.mean.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert ours.mean.grad_fn is None and ours.mean.dtype == torch.float32
    # Of the pixels' true mean 1, what is missing is the beginning's 0.9^40.
    assert ours.mean.mean().item() == pytest.approx(1 - 0.9**40, abs=0.1)


def test_it_answers_by_the_cosine_to_class_means():
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(2, 4, 3, 12)), rng.normal(size=(2, 5, 12))
    logits = made().episode_logits(*(torch.tensor(a, dtype=torch.float32) for a in (support, query)))
    for e in range(2):
        directions = support[e] / np.linalg.norm(support[e], axis=2, keepdims=True)
        means = directions.mean(1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        expected = query[e] @ means.T / np.linalg.norm(query[e], axis=1, keepdims=True)
        np.testing.assert_allclose(logits[e].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_what_it_trains_on():
    assert made(images=64).batches() == Shuffled(64)
    assert made().training_steps == 20 and made().pretraining is None
