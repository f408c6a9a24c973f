"""Meta-transfer learning: what each stage may and may not change, hard tasks, and whole trainings."""

import copy

import pytest
import torch
from fitting import fit
from small_budget import budget_of_file
from torch import nn

from methods.backbones import build
from methods.base_classifier import BaseClassifier
from methods.batches import EpisodeBatch, Episodes
from methods.mtl import MTL
from methods.pretraining import Pretraining
from methods.scale_shift import ScaleShiftConv

small = budget_of_file(validation_episodes=20, validate_every=4)
CLASSES = 8
SCRATCH = {"init": "scratch", "scale_shift": False}
SMOKE = {name: value for name, value in MTL.presets["smoke"].items() if name != "backbone"}


def mtl(seed: int = 0, **changes) -> MTL:
    torch.manual_seed(seed)
    return MTL(build("conv4", 16), MTL.Hyperparameters(**(SMOKE | changes)), CLASSES)


def episodes(seed: int = 3, count: int = 2, way: int = 5, shot: int = 2, query: int = 3) -> EpisodeBatch:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randperm(way * query, generator=rng) % way for _ in range(count)])
    classes = torch.stack([torch.randperm(CLASSES, generator=rng)[:way] for _ in range(count)])
    return EpisodeBatch(
        torch.randn(count, way, shot, 3, 16, 16, generator=rng),
        torch.randn(count, way * query, 3, 16, 16, generator=rng),
        labels,
        classes,
    )


def stepped(method: MTL, batches: list) -> MTL:
    """The method after a step on each of these batches."""
    optimizer = method.configure_optimizers()["optimizer"]
    for batch in batches:
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    return method


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def state(module: nn.Module) -> dict:
    return copy.deepcopy(module.state_dict())


def test_first_weights_are_zeros_or_the_authors_random_numbers():
    plain, theirs = mtl(), mtl(head="kaiming", train_way=8)
    assert not plain.base_learner.weight.any() and not plain.base_learner.bias.any()
    weight = theirs.base_learner.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.1)
    assert not theirs.base_learner.bias.any()
    assert MTL.presets["paper"]["head"] == "kaiming"


def test_it_starts_from_the_pretrained_network():
    classifier = BaseClassifier(build("conv4", 16), Pretraining(1), CLASSES)
    images = episodes().query[0]
    classifier.train().embed(images)  # moves the running statistics
    for changes in ({}, {"scale_shift": False}, SCRATCH):
        method = mtl(**changes)
        method.start_from(classifier)
        torch.testing.assert_close(method.eval().embed(images), classifier.eval().embed(images))


def test_on_episodes_only_scales_shifts_and_the_base_learner_change():
    method = mtl()
    before = state(method)
    moved = changed(before, stepped(method, [episodes(5), episodes(6)]).state_dict())
    scales_and_shifts = {f"backbone.{block}.0.{kind}" for block in range(4) for kind in ("scale", "shift")}
    assert moved == scales_and_shifts | {"base_learner.weight", "base_learner.bias"}


def test_without_scale_shift_only_the_base_learner_changes():
    method = mtl(scale_shift=False)
    assert not any(isinstance(module, ScaleShiftConv) for module in method.modules())
    before = state(method)
    moved = changed(before, stepped(method, [episodes(5)]).state_dict())
    assert moved == {"base_learner.weight", "base_learner.bias"}


def test_from_scratch_episodes_train_everything():
    method = mtl(**SCRATCH)
    before = state(method)
    assert changed(before, stepped(method, [episodes(5)]).state_dict()) == before.keys()


@pytest.mark.parametrize("changes", [{}, {"scale_shift": False}])
def test_batch_norm_stays_frozen_when_the_harness_returns_from_validation(changes):
    method = mtl(**changes).train()
    method.training_step(episodes(), 0)
    for _ in range(2):
        assert method.training and not any(module.training for module in method.backbone.modules())
        method.eval()
        assert not method.training
        method.train()  # as after a validation
    images = episodes().query[0]  # whose embeddings do not depend on each other in training either
    torch.testing.assert_close(method.embed(images)[:1], method.embed(images[:1]), rtol=1e-4, atol=1e-5)


def test_from_scratch_batch_norm_learns():
    method = mtl(**SCRATCH)
    method.training_step(episodes(), 0)
    method.eval()
    method.train()
    assert all(module.training for module in method.modules())


def test_what_is_asked_for():
    ours = mtl(steps=100, train_shot=5)
    assert ours.batches() == Episodes(5, 5, 5, 2) and ours.training_steps == 25
    assert ours.pretraining == Pretraining(round(75 * 100 / 128))
    scratch = mtl(**SCRATCH, train_query=15, episodes=1, steps=100)
    assert scratch.batches() == Episodes(5, 1, 15, 1)
    assert scratch.pretraining is None and scratch.training_steps == 100
    assert mtl(**SCRATCH, train_way=30).batches().way == CLASSES


def test_scales_and_shifts_are_of_pretrained_filters():
    with pytest.raises(ValueError, match="scale_shift adjusts pretrained filters"):
        mtl(init="scratch")


def test_the_paper_s_learning_rates():
    """Adam with two rates, halved every 10 epochs of 100 tasks."""
    preset = {name: value for name, value in MTL.presets["paper"].items() if name != "backbone"}
    backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    backbone.dim = 2
    method = MTL(backbone, MTL.Hyperparameters(**preset), 64)
    assert method.batches() == Episodes(5, 1, 15, 1) and method.training_steps == 10_000
    assert method.pretraining == Pretraining(100 * 300, head="linear", schedule="mtl")
    found = method.configure_optimizers()
    adam, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    assert isinstance(adam, torch.optim.Adam)
    base_learner, others = ({id(p) for p in group["params"]} for group in adam.param_groups)
    assert base_learner == {id(p) for p in method.base_learner.parameters()}
    assert others == {id(p) for p in method.scales_and_shifts()}
    assert schedule.step_size == 10 * 100
    adam.step()
    for _ in range(schedule.step_size - 1):
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1e-3, 1e-4])
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([5e-4, 5e-5])


def test_the_rounds_go_on_from_a_checkpoint():
    method = mtl(random_tasks=4, hard_tasks=4)
    for classes in ([1, 2], [3, 4]):
        assert method.next_classes() is None
        method.rounds.collect(torch.tensor(classes))
    method.next_classes()
    checkpoint: dict = {}
    method.on_save_checkpoint(checkpoint)
    again = mtl(seed=9, random_tasks=4, hard_tasks=4)
    again.on_load_checkpoint(copy.deepcopy(checkpoint))
    assert torch.equal(again.next_classes(), method.next_classes())
    assert again.next_classes() is None


def test_training_fills_the_pool_and_the_next_tasks_come_from_it():
    method = mtl(random_tasks=4, hard_tasks=2)
    failed = []
    for seed in (1, 2):
        assert method.next_classes() is None
        batch = episodes(seed)
        method.training_step(batch, 0)
        made = method.embed(batch.support.flatten(0, 2)).unflatten(0, (2, 5, 2))
        logits = method.episode_logits(made, method.embed(batch.query.flatten(0, 1)).unflatten(0, (2, -1)))
        for e in range(2):
            accuracies = [
                (logits[e].argmax(1)[batch.labels[e] == c] == c).float().mean().item() for c in range(5)
            ]
            # Of several worst classes any will do.
            failed.append({batch.classes[e, c].item() for c in range(5) if accuracies[c] == min(accuracies)})
    assert len(method.rounds.failed) == 4
    assert all(own in allowed for own, allowed in zip(method.rounds.failed, failed, strict=True))
    wanted = method.next_classes()
    assert wanted.shape == (2, 5)
    distinct = set(method.rounds.failed)
    for episode in wanted.tolist():
        assert distinct <= set(episode) if len(distinct) <= 5 else set(episode) <= distinct


def test_without_hard_task_batch_all_tasks_are_random():
    method = mtl(hard_task_batch=False)
    for _ in range(30):
        assert method.next_classes() is None
    method.training_step(episodes(), 0)
    assert method.rounds.failed == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        SCRATCH,
        pytest.param({"hard_task_batch": False}, marks=pytest.mark.soak),
        pytest.param({"scale_shift": False}, marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_it_trains_in_the_harness(changes, tiny, tiny_split, tmp_path):
    method = mtl(**changes, steps=12 if changes == SCRATCH else 48)
    steps, drawn = [], []
    step, ask = method.training_step, method.next_classes

    def watched(batch, batch_idx):
        steps.append(method.trainer.global_step)
        return step(batch, batch_idx)

    def asked():
        drawn.append(ask())
        return drawn[-1]

    method.training_step, method.next_classes = watched, asked
    trained = fit(method, tiny, tiny_split, tmp_path)
    assert steps == list(range(12))  # exactly one optimizer step per batch
    assert trained.best_validation is not None and trained.best_validation > 0.2
    hard = method.hp.hard_task_batch
    assert [classes is not None for classes in drawn] == [False, False, hard, hard] * 3
