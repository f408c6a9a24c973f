"""Reptile against its formula with torch's own Adam, and what it promises."""

import copy

import numpy as np
import pytest
import torch
from meta_learning import answers, batch, fit, on_conv4
from torch import nn
from torch.nn import functional as F

from bench.config.run_config import resolve
from methods import support_norm
from methods.batches import EpisodeBatch, Episodes
from methods.pretraining import Pretraining
from methods.reptile import Learner, Reptile, adam, minibatches

SMALL = {"train_way": 3, "inner_steps": 3, "inner_batch": 4, "test_steps": 3, "inner_learning_rate": 0.01}


def reptile(**changes) -> Reptile:
    return on_conv4(Reptile, **SMALL | changes)


def train(method: Reptile, steps: int) -> torch.optim.Optimizer:
    """Steps as the trainer makes them, on batches that differ."""
    found = method.configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    for step in range(steps):
        given = batch(shot=5)
        given = given._replace(support=given.support + step)
        method.outer_step(given, optimizer)
        schedule.step()
    return optimizer


def by_formula(method: Reptile, steps: int) -> nn.Module:
    """theta <- theta + epsilon (mean of theta_i - theta), theta_i by one Adam that outlives the tasks."""
    network = nn.Sequential(copy.deepcopy(method.backbone), copy.deepcopy(method.head))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    inner = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, 0.999))
    labels, updates = torch.arange(3).repeat_interleave(5), 0
    for step in range(steps):
        theta = [p.detach().clone() for p in network.parameters()]
        total = [torch.zeros_like(p) for p in theta]
        order = torch.Generator().manual_seed(updates)
        supports = batch(shot=5).support + step
        for support in supports:
            for parameter, value in zip(network.parameters(), theta, strict=True):
                parameter.data = value.clone()
            for index in minibatches(15, 4, 3, order):
                inner.zero_grad()
                F.cross_entropy(network(support.flatten(0, 1)[index]), labels[index]).backward()
                inner.step()
                updates += 1
            total = [t + p.detach() for t, p in zip(total, network.parameters(), strict=True)]
        epsilon = method.hp.meta_step * (1 - step / method.hp.steps)
        for parameter, value, summed in zip(network.parameters(), theta, total, strict=True):
            parameter.data = value + epsilon * (summed / len(supports) - value)
    return network


def test_the_update_equals_its_formula():
    method = reptile(head="learned", meta_step=0.7, steps=4)
    before = copy.deepcopy(method.state_dict())
    expected = by_formula(method, 3)
    train(method, 3)
    found = [*method.backbone.parameters(), *method.head.parameters()]
    for own, parameter in zip(found, expected.parameters(), strict=True):
        torch.testing.assert_close(own, parameter, rtol=1e-8, atol=1e-10)
    assert not torch.allclose(before["head.weight"], method.head.weight)


def test_adam_equals_torch_s_without_momentum():
    torch.manual_seed(0)
    weights = {"a": torch.randn(3, 2).double(), "b": torch.randn(4).double()}
    parameters = [nn.Parameter(w.clone()) for w in weights.values()]
    theirs = torch.optim.Adam(parameters, lr=0.02, betas=(0.0, 0.999))
    learner = Learner(weights, {k: torch.zeros_like(w) for k, w in weights.items()}, 0)
    for _ in range(6):
        gradients = {k: torch.randn_like(w) for k, w in weights.items()}
        for parameter, gradient in zip(parameters, gradients.values(), strict=True):
            parameter.grad = gradient.clone()
        theirs.step()
        learner = adam(learner, gradients, 0.02)
    for own, parameter in zip(learner.weights.values(), parameters, strict=True):
        torch.testing.assert_close(own, parameter.detach(), rtol=1e-12, atol=1e-12)
    assert learner.updates == 6


def test_the_inner_optimizer_s_state_persists_and_is_restored_after_evaluation():
    method = reptile(head="learned", steps=10)
    train(method, 2)
    assert int(method.updates) == 2 * 2 * 3  # steps, tasks, inner steps
    assert all(moment.abs().max() > 0 for moment in method.moments.buffers())
    before, drawn = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    assert int(before["updates"]) == 12 and "moments.backbone/0/0/weight" in before
    given = batch()
    first = answers(method, given)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(answers(method, given), first)
    # An episode starts with that state: another one gives other answers.
    for moment in method.moments.buffers():
        moment.mul_(100)
    assert not torch.allclose(answers(method, given), first)
    # A checkpoint holds it.
    loaded = reptile(head="learned", steps=10)
    loaded.load_state_dict(before)
    assert torch.equal(answers(loaded, given), first)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["support", "running", "transductive"])
def test_episodes_at_once_are_answered_as_one_by_one(batch_norm, monkeypatch):
    method = reptile(head="learned", batch_norm=batch_norm, steps=10)
    train(method, 2)
    for shot in (1, 4):
        given = batch(episodes=3, way=3, shot=shot)
        one_by_one = answers(method, given)
        assert one_by_one.shape == (3, 12, 3)
        alone = answers(method, EpisodeBatch(*(part[1:2] for part in given)))
        torch.testing.assert_close(alone, one_by_one[1:2])
        with monkeypatch.context() as patch:
            patch.setattr(support_norm, "ONE_BY_ONE", set())
            torch.testing.assert_close(answers(method, given), one_by_one)


def test_a_whole_meta_step_ends_at_the_mean_of_the_tasks():
    method = reptile(steps=8, meta_step=1.0)
    start, given = copy.deepcopy(method), batch(shot=5)
    train(method, 1)
    expected = by_formula_from_zero_head(start, given)
    for own, parameter in zip(method.backbone.parameters(), expected, strict=True):
        torch.testing.assert_close(own.detach(), parameter, rtol=1e-8, atol=1e-10)


def by_formula_from_zero_head(method: Reptile, given: EpisodeBatch) -> list[torch.Tensor]:
    """Mean backbone after one batch of tasks, each with a head from zero: what a whole meta-step reaches."""
    backbone = method.backbone
    head = nn.Linear(backbone.dim, 3).double()
    inner = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01, betas=(0.0, 0.999))
    theta, order = copy.deepcopy(backbone.state_dict()), torch.Generator().manual_seed(0)
    labels, reached = torch.arange(3).repeat_interleave(5), []
    for support in given.support:
        backbone.load_state_dict(theta)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        for index in minibatches(15, 4, 3, order):
            inner.zero_grad()
            # In training mode batch norm takes the batch's own statistics.
            logits = head(backbone.train()(support.flatten(0, 1)[index]))
            F.cross_entropy(logits, labels[index]).backward()
            inner.step()
        reached.append([p.detach().clone() for p in backbone.parameters()])
    return [torch.stack(parts).mean(0) for parts in zip(*reached, strict=True)]


@pytest.mark.parametrize("init, steps", [("scratch", 10), ("pretrained", 40)])
def test_the_meta_step_falls_linearly_to_zero(init, steps):
    method = reptile(steps=steps, init=init, meta_step=0.8)
    found = method.configure_optimizers()
    rates = []
    for _ in range(10):
        rates.append(found["optimizer"].param_groups[0]["lr"])
        found["optimizer"].step(learned=[{p: p for p in method.parameters()}])
        found["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.08 * left for left in range(10, 0, -1)])


@pytest.mark.parametrize("images, size, steps", [(15, 4, 9), (5, 5, 3), (25, 15, 7), (5, 15, 2)])
def test_batches_take_each_image_once_an_order(images, size, steps):
    found = minibatches(images, size, steps, torch.Generator().manual_seed(0))
    assert found.shape == (steps, min(size, images))
    flat = found.flatten().tolist()
    for first in range(0, len(flat), images):
        order = flat[first : first + images]
        assert len(set(order)) == len(order)
    again = minibatches(images, size, steps, torch.Generator().manual_seed(1))
    assert not torch.equal(found, again)


def test_a_test_batch_of_its_own_for_one_shot():
    """With five images a step, three steps see 15 images; the larger batch is cut to the support set."""
    seen = []

    class Counting(Reptile):
        def learn(self, network, learner, support, steps):
            seen.append(tuple(steps.shape))
            return super().learn(network, learner, support, steps)

    method = on_conv4(Counting, test_steps=2).eval()
    for shot in (1, 2, 5):
        method.adapt(batch(episodes=1, way=5, shot=shot).support)
    assert seen == [(2, 5), (2, 10), (2, 15)]


def test_a_head_of_another_number_of_classes_takes_the_mean_state():
    method = reptile(head="learned", steps=10)
    train(method, 1)
    learner = method.learner(method.network(5))
    mean = method.moments.get_buffer("weight").mean(0)
    assert learner.weights["weight"].shape == learner.moments["weight"].shape == (5, method.dim)
    assert all(torch.equal(row, mean) for row in learner.moments["weight"])
    assert answers(method, batch(way=5)).shape == (2, 20, 5)


def test_what_it_trains_on():
    episodes = Episodes(5, 15, 0, 5)
    assert on_conv4(Reptile).batches() == episodes
    pretrained = on_conv4(Reptile, steps=1092, init="pretrained")
    assert pretrained.batches() == episodes and pretrained.training_steps == 273
    assert pretrained.pretraining == Pretraining(2400)  # 2,399.4: as maml's


@pytest.mark.slow
def test_a_short_training(tiny, tiny_split, tmp_path, monkeypatch):
    changes = {"steps": 12, "inner_steps": 3, "inner_learning_rate": 0.02}
    method, trained = fit(Reptile, tiny, tiny_split, tmp_path, monkeypatch, **changes)
    assert trained.curves["loss"][-3:, 1].mean() < np.log(5)  # what guessing costs
    assert int(method.updates) == 12 * 2 * 3


def test_the_paper_s_steps_on_mini_imagenet():
    """Nichol et al. 2018, appendix A."""
    hp = resolve({"method": "reptile", "preset": "paper"}, {}, {}).hyperparameters
    training = ("steps", "episodes", "train_shot", "inner_steps", "inner_batch", "meta_step")
    assert [hp[name] for name in training] == [100000, 5, 15, 8, 10, 1.0]
    assert [hp[name] for name in ("test_steps", "test_batch_1shot", "test_batch")] == [50, 5, 15]
