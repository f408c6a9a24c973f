"""The base-learner of meta-transfer learning against learn2learn and slow loops."""

import learn2learn
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.mtl import MTL, descent

WAY, SHOT, QUERIES, DIM = 4, 3, 7, 6


class Flat(nn.Flatten):
    """A backbone without weights: the images are the embeddings."""

    dim = DIM


def flat(way: int = WAY, **changes) -> MTL:
    """On embeddings instead of images, with a classifier whose first weights have been learned."""
    torch.manual_seed(0)
    given = MTL.presets["smoke"] | {"init": "scratch", "scale_shift": False, "train_way": way} | changes
    hp = MTL.Hyperparameters(**{name: value for name, value in given.items() if name != "backbone"})
    method = MTL(Flat(), hp, 8)
    for own in method.base_learner.parameters():
        nn.init.normal_(own)
    return method


def test_descent_equals_a_slow_loop_for_each_episode():
    torch.manual_seed(0)
    support = torch.randn(3, WAY, SHOT, DIM, dtype=torch.float64)
    weight, bias = torch.randn(WAY, DIM, dtype=torch.float64), torch.randn(WAY, dtype=torch.float64)
    moved, raised = descent(support, weight, bias, steps=40, rate=0.3)
    for e in range(3):
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        for _ in range(40):
            losses = [
                torch.logsumexp(w @ support[e, c, k] + b, 0) - (w[c] @ support[e, c, k] + b[c])
                for c in range(WAY)
                for k in range(SHOT)
            ]
            of_w, of_b = torch.autograd.grad(sum(losses) / len(losses), (w, b))
            w, b = (w - 0.3 * of_w).detach().requires_grad_(), (b - 0.3 * of_b).detach().requires_grad_()
        torch.testing.assert_close(weight + moved[e], w.detach())
        torch.testing.assert_close(bias + raised[e], b.detach())


@pytest.fixture
def adapted():
    """One episode on raw embeddings, and learn2learn's MAML that has adapted to it in float64."""
    method = flat(inner_steps=30, inner_learning_rate=0.2)
    torch.manual_seed(1)
    support = torch.randn(1, WAY, SHOT, DIM, requires_grad=True)
    query = torch.randn(1, QUERIES, DIM, requires_grad=True)
    linear = nn.Linear(DIM, WAY).double()
    linear.load_state_dict(method.base_learner.state_dict())
    learner = learn2learn.algorithms.MAML(linear, lr=0.2, first_order=True)
    clone = learner.clone()
    labels = torch.arange(WAY).repeat_interleave(SHOT)
    for _ in range(30):
        clone.adapt(F.cross_entropy(clone(support[0].detach().double().flatten(0, 1)), labels))
    return method, support, query, learner, clone


def test_adaptation_equals_learn2learn_s_first_order_maml(adapted):
    method, support, query, _, clone = adapted
    logits = method.episode_logits(support, query)[0]
    torch.testing.assert_close(logits.double(), clone(query[0].double()), rtol=1e-5, atol=1e-5)


def test_the_outer_gradient_is_learn2learn_s_first_order_gradient(adapted):
    """To the first weights and the query embeddings; the support embeddings get none."""
    method, support, query, learner, clone = adapted
    answers = torch.arange(QUERIES) % WAY
    F.cross_entropy(method.episode_logits(support, query)[0], answers).backward()
    ours = [method.base_learner.weight.grad, method.base_learner.bias.grad, query.grad]
    there = query[0].detach().double().requires_grad_()
    F.cross_entropy(clone(there), answers).backward()
    theirs = [learner.module.weight.grad, learner.module.bias.grad, there.grad[None]]
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=1e-6)
    assert support.grad is None


def test_classifiers_start_from_the_learned_weights():
    """Without a step it is the learned classifier; with steps, the one that starts there."""
    support, query = torch.randn(2, WAY, SHOT, DIM), torch.randn(2, QUERIES, DIM)
    for steps, same in ((0, True), (1, False)):
        method = flat()
        object.__setattr__(method.hp, "inner_steps", steps)
        untouched = method.base_learner(query)
        assert torch.allclose(method.episode_logits(support, query), untouched, atol=1e-6) == same


def test_episodes_of_another_size_start_where_no_class_is_preferred():
    method = flat()
    support, query = torch.randn(1, WAY + 2, SHOT, DIM), torch.randn(1, QUERIES, DIM)
    logits = method.episode_logits(support, query)
    assert logits.shape == (1, QUERIES, WAY + 2)
    swapped = [5, 3, 0, 1, 4, 2]
    torch.testing.assert_close(
        method.episode_logits(support[:, swapped], query), logits[..., swapped], rtol=1e-4, atol=1e-5
    )
    # So does a classifier of that size whose rows are all alike.
    alike = flat(WAY + 2)
    with torch.no_grad():
        alike.base_learner.weight[:] = torch.randn(DIM)
        alike.base_learner.bias[:] = 3.0
        expected = alike.episode_logits(support, query).softmax(2)
    torch.testing.assert_close(logits.softmax(2), expected, rtol=1e-4, atol=1e-5)


def test_logits_are_in_full_precision_under_autocast():
    method = flat()
    support, query = torch.randn(2, WAY, SHOT, DIM), torch.randn(2, QUERIES, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        inside = method.episode_logits(support, query)
    torch.testing.assert_close(inside, method.episode_logits(support, query))
