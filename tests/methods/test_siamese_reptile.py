"""Reptile on triplets: the update by hand in float64, its losses, and a short training."""

import copy
from itertools import product
from math import exp, log, log1p

import numpy as np
import pytest
import torch
from fitting import fit
from small_budget import small_budget
from torch import Tensor, nn

from bench.data.normalisation import Normaliser
from bench.training import callbacks
from bench.training.batches import TrainingBatches
from methods.backbones import build
from methods.batches import AnchorTasks, ClassTasks, TaskBatch, TripletBatch
from methods.siamese_reptile import SiameseReptile

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("distance", ["cosine", "euclidean"])
PAPER = {name: value for name, value in SiameseReptile.presets["original"].items() if name != "backbone"}


def siamese(backbone: nn.Module | None = None, **changes) -> SiameseReptile:
    return SiameseReptile(backbone or nn.Identity(), SiameseReptile.Hyperparameters(**changes), 8)


def alike(distance: str, a: Tensor, b: Tensor) -> Tensor:
    if distance == "cosine":
        return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())
    return -((a - b) ** 2).sum().sqrt()


class Small(nn.Sequential):
    """A layer and batch norm: all that Reptile has to move."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.BatchNorm1d(5))
        self.dim = 5


def tasks(count: int, steps: int, triplets: int, seed: int = 0) -> TaskBatch:
    rng = torch.Generator().manual_seed(seed)
    shape = (count, steps, triplets, 3, 2, 2)
    centres = torch.randn(count, 1, 1, 3, 2, 2, generator=rng)
    noise = [0.7 * torch.randn(shape, generator=rng) for _ in range(3)]
    return TaskBatch(centres + noise[0], centres + noise[1], torch.randn(shape, generator=rng) + noise[2])


def by_hand(start: dict[str, Tensor], batch: TaskBatch, method: SiameseReptile, meta_step: float) -> dict:
    """theta + meta-step / T x sum of (theta_task - theta), every derivative and step spelt out in float64."""
    hp, moved = method.hp, {name: torch.zeros_like(value) for name, value in start.items()}
    for anchors, positives, negatives in zip(*(part.double() for part in batch), strict=True):
        theta = {name: value.clone() for name, value in start.items()}
        velocity = {name: torch.zeros_like(value) for name, value in start.items()}
        for images in zip(anchors, positives, negatives, strict=True):
            x = torch.cat(images).flatten(1)
            trained = [theta[name].requires_grad_() for name in ("1.weight", "2.weight", "2.bias")]
            made = x @ trained[0].T
            mean, variance = made.mean(0), ((made - made.mean(0)) ** 2).mean(0)
            out = (made - mean) / (variance + 1e-5).sqrt() * trained[1] + trained[2]
            a, p, n = out.split(len(x) // 3)
            gradients = torch.autograd.grad(slow_loss(method, a, p, n), trained)
            with torch.no_grad():
                for name, gradient in zip(("1.weight", "2.weight", "2.bias"), gradients, strict=True):
                    decay = hp.weight_decay if name == "1.weight" else 0.0
                    slope = gradient + decay * theta[name]
                    velocity[name] = 0.9 * velocity[name] + slope
                    theta[name] = theta[name] - hp.learning_rate * (slope + 0.9 * velocity[name])
                unbiased = variance * len(x) / (len(x) - 1)
                theta["2.running_mean"] = 0.9 * theta["2.running_mean"] + 0.1 * mean
                theta["2.running_var"] = 0.9 * theta["2.running_var"] + 0.1 * unbiased
        moved = {name: moved[name] + (theta[name].detach() - start[name]) for name in moved}
    return {name: value + meta_step * moved[name] / len(batch.anchors) for name, value in start.items()}


def slow_loss(method: SiameseReptile, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    hp = method.hp
    if hp.mining == "random":
        margin = hp.margin or {"cosine": 0.3, "euclidean": 1.0}[hp.distance]
        terms = [
            alike(hp.distance, x, z) - alike(hp.distance, x, y) + margin
            for x, y, z in zip(a, p, n, strict=True)
        ]
        return torch.stack([term.clamp(min=0) for term in terms]).mean()
    terms, own, t = [], [*a, *p], hp.temperature
    for i, j in product(range(len(own)), repeat=2):
        if i != j:
            total = sum((alike(hp.distance, own[i], z) / t).exp() for z in n)
            terms.append((1 + total * (-alike(hp.distance, own[i], own[j]) / t).exp()).log())
    return torch.stack(terms).mean()


UPDATES = {  # (distance, mining): tasks, steps and meta-step of all but `-m soak`
    ("cosine", "soft"): (3, 2, 0.5),
    ("euclidean", "random"): (1, 3, 0.01),
    ("euclidean", "soft"): (1, 1, 1.0),
    ("cosine", "random"): (3, 2, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "distance, mining, count, steps, meta_step",
    [
        pytest.param(*kind, *size, marks=() if size == usual else pytest.mark.soak)
        for kind, usual in UPDATES.items()
        for size in ((1, 1, 1.0), (1, 3, 0.01), (3, 2, 0.5))
    ],
)
def test_the_update_is_reptile_s_formula(distance, mining, count, steps, meta_step):
    torch.manual_seed(0)
    method = siamese(
        Small(), distance=distance, mining=mining, meta_step=meta_step, temperature=0.5, weight_decay=0.1
    )
    start = {
        name: value.clone() for name, value in method.backbone.state_dict().items() if "tracked" not in name
    }
    batch = tasks(count, steps, triplets=4)
    expected = by_hand({name: value.double() for name, value in start.items()}, batch, method, meta_step)
    optimizer = method.configure_optimizers()["optimizer"]
    method.outer_step(batch, optimizer)
    after = method.backbone.state_dict()
    for name, value in start.items():
        moved, wanted = (after[name] - value).double(), expected[name] - value.double()
        # A shift of all embeddings changes no Euclidean distance.
        assert wanted.norm() > 1e-5 or (distance, name) == ("euclidean", "2.bias")
        assert (moved - wanted).norm() < 1e-3 * wanted.norm() + 1e-6, name


@pytest.mark.slow
def test_a_training_follows_the_formula_with_a_meta_step_that_falls_to_0(tiny, tiny_split, tmp_path):
    """Against clones trained one by one, each with the state that the last meta-step left."""
    hp = {"steps": 4, "tasks": 2, "inner_steps": 2, "triplets": 3, "meta_step": 0.8}
    torch.manual_seed(0)
    method = siamese(build("conv4"), **hp)
    reference, learner = copy.deepcopy(method.backbone), copy.deepcopy(method)
    normalise = Normaliser(tiny.images, tiny_split.train)
    batches = iter(TrainingBatches(tiny, tiny_split, method.batches(), normalise, 0, CPU))
    for step in range(4):
        reference.train()
        before, learned = copy.deepcopy(reference.state_dict()), []
        for task in zip(*next(batches), strict=True):
            clone = copy.deepcopy(reference)
            learner.learn(clone, *task)
            learned.append(clone.state_dict())
        for name, value in before.items():
            if value.is_floating_point():
                there = sum(state[name] for state in learned) / 2
                value += 0.8 * (1 - step / 4) * (there - value)
        reference.load_state_dict(before)
    fit(method, tiny, tiny_split, tmp_path)
    for name, value in method.backbone.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, reference.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_it_learns(tiny, tiny_split, tmp_path, monkeypatch):
    small_budget(monkeypatch, validation_episodes=60)
    torch.manual_seed(0)
    method = siamese(build("conv4-16", 16), steps=20, tasks=2, inner_steps=2, triplets=6)
    normalise = Normaliser(tiny.images, tiny_split.train)
    scored = callbacks.Validation(tiny, tiny_split, normalise, "32-true", 1, callbacks.Curves(1))
    untrained = np.mean(list(scored.scores(method).values()))
    result = fit(method, tiny, tiny_split, tmp_path)
    loss = [value for _, value in result.curves["loss"]]
    assert np.mean(loss[-3:]) < 0.7 * np.mean(loss[:3])
    assert result.best_validation is not None and result.best_validation > untrained


@pytest.mark.slow
def test_inner_steps_see_the_last_step_s_weights_inside_autocast():
    """Autocast keeps the weights it has cast; a step of the inner optimizer makes them stale."""
    torch.manual_seed(0)
    method = siamese(build("conv4"), inner_steps=3, learning_rate=0.2)
    rng = torch.Generator().manual_seed(0)
    images = [torch.randn(3, 4, 3, 16, 16, generator=rng) for _ in range(3)]
    inside, alone = (copy.deepcopy(method.backbone) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        method.learn(inside, *images)
    filters = [p for p in alone.parameters() if p.ndim > 1]
    others = [p for p in alone.parameters() if p.ndim <= 1]
    groups = [{"params": filters, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True)
    for batch in zip(*images, strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.triplet_loss(*alone(torch.cat(batch)).float().chunk(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(inside.parameters(), alone.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "distance, mining",
    [
        ("cosine", "soft"),
        ("euclidean", "random"),
        pytest.param("euclidean", "soft", marks=pytest.mark.soak),
        pytest.param("cosine", "random", marks=pytest.mark.soak),
    ],
)
def test_a_class_is_learned_by_adam_on_fixed_statistics(distance, mining):
    """Against Adam's formulas (Kingma and Ba 2015, algorithm 1) in float64; batch norm's mean stays."""
    torch.manual_seed(0)
    method = siamese(
        Small(), distance=distance, mining=mining, temperature=0.5, adapt_learning_rate=0.01
    ).eval()
    method.backbone[2].running_mean.normal_()
    method.backbone[2].running_var.uniform_(0.5, 2)
    before = {name: value.clone() for name, value in method.backbone.state_dict().items()}
    batches = [TripletBatch(*images) for images in zip(*(part[0] for part in tasks(1, 4, 6)), strict=True)]
    images = torch.randn(5, 3, 2, 2)
    found = method.learn_class(iter(batches))(images)
    assert all(torch.equal(value, before[name]) for name, value in method.backbone.state_dict().items())

    names = ("1.weight", "2.weight", "2.bias")
    theta = {name: before[name].double() for name in names}
    moments = {name: [torch.zeros_like(value) for _ in range(2)] for name, value in theta.items()}
    mean, var = (before[f"2.running_{name}"].double() for name in ("mean", "var"))

    def embed(x: Tensor) -> Tensor:
        scaled = (x.double().flatten(1) @ theta["1.weight"].T - mean) / (var + 1e-5).sqrt()
        return scaled * theta["2.weight"] + theta["2.bias"]

    for step, batch in enumerate(batches, 1):
        trained = [theta[name].requires_grad_() for name in names]
        gradients = torch.autograd.grad(slow_loss(method, *map(embed, batch)), trained)
        for name, gradient in zip(names, gradients, strict=True):
            first, second = moments[name]
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient**2, 0.001)
            size = (second / (1 - 0.999**step)).sqrt() + 1e-8
            theta[name] = theta[name].detach() - 0.01 * first / (1 - 0.9**step) / size
    found, expected = found.detach().double(), embed(images).detach()
    if distance == "cosine":
        expected = expected / expected.norm(dim=1, keepdim=True)
    else:  # a shift of all embeddings changes no Euclidean distance, and Adam follows its rounding errors
        found, expected = found - found.mean(0), expected - expected.mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert (found - method.embed(images).detach()).abs().max() > 0.01


@BOTH
def test_soft_mining_equals_a_slow_loop(distance):
    a, p, n = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    method, own, terms = siamese(distance=distance), [*a, *p], []
    for i, j in product(range(12), repeat=2):
        if i != j:
            negatives = sum(exp(alike(distance, own[i], z) / 0.1) for z in n)
            terms.append(log1p(exp(log(negatives) - alike(distance, own[i], own[j]) / 0.1)))
    assert method.triplet_loss(a, p, n).item() == pytest.approx(sum(terms) / 132, rel=1e-4)


@BOTH
@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_random_triplets_by_hand(distance, margin):
    a, p, n = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(0))
    used = margin or {"cosine": 0.3, "euclidean": 1.0}[distance]
    terms = [
        float(alike(distance, x, z) - alike(distance, x, y)) + used for x, y, z in zip(a, p, n, strict=True)
    ]
    assert min(terms) < 0 < max(terms)
    loss = siamese(distance=distance, mining="random", margin=margin).triplet_loss(a, p, n)
    assert loss.item() == pytest.approx(sum(max(0.0, term) for term in terms) / 40, rel=1e-4)


def meta_steps(method: SiameseReptile, steps) -> list[float]:
    """The share of the way that a meta-step goes, at these steps."""
    found = method.configure_optimizers()["lr_scheduler"]["scheduler"]
    return [rate * found.lr_lambdas[0](step) for rate in found.base_lrs for step in steps]


def test_the_source_s_numbers():
    method = siamese(Small(), **PAPER)
    assert method.batches() == AnchorTasks(tasks=1, batches=30, triplets=128)
    assert SiameseReptile.presets["original"]["backbone"] == "resnet56"
    assert (method.hp.steps, method.hp.learning_rate, method.margin) == (10_000, 1e-3, 0.3)
    assert meta_steps(method, (0, 5000, 9999)) == pytest.approx([0.01, 0.005, 1e-6])
    hp = SiameseReptile.Hyperparameters(adapt_to_class=True)
    assert SiameseReptile(nn.Identity(), hp, 8).class_tasks == ClassTasks(30, 128, 0.7)
    assert hp.adapt_learning_rate == 1e-3 and siamese().class_tasks is None
    falling = siamese(Small(), steps=10, meta_step=0.5)
    assert meta_steps(falling, (0, 5, 10)) == pytest.approx([0.5, 0.25, 0.0])
    assert "lr_scheduler" not in siamese(Small(), schedule="constant").configure_optimizers()
