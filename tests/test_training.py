"""Training: it learns, keeps the best weights, repeats itself, and validates on validation images alone."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting import fit
from small_budget import budget_of_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.evaluation import fewshot
from bench.training.batches import TrainingBatches
from bench.training.callbacks import Curves, Validation
from methods.backbones import Conv4
from methods.batches import Balanced, Episodes, Pairs, Shuffled, Triplets
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

STEPS = 30


small = budget_of_file(validation_episodes=20, validate_every=10)


def protonet(kind: type[ProtoNet] = ProtoNet, steps: int = STEPS, seed: int = 0, **changes) -> ProtoNet:
    torch.manual_seed(seed)
    hp = kind.Hyperparameters(steps=steps, train_way=5, **changes)
    return kind(Conv4(filters=16, image_size=16), hp, 8)


def curve(run_dir, column: str) -> dict[int, float]:
    """A column of the CSV log by step."""
    with (run_dir / "logs" / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


@pytest.fixture(scope="module")
def trained(tiny, tiny_split, tmp_path_factory):
    """One run that several tests look at."""
    run_dir = tmp_path_factory.mktemp("run")
    method = protonet()
    return method, fit(method, tiny, tiny_split, run_dir), run_dir


@pytest.mark.slow
def test_the_loss_goes_down(trained):
    loss = list(curve(trained[2], "train/loss").values())
    assert len(loss) == 10
    assert np.mean(loss[-3:]) < 0.5 * np.mean(loss[:3])


def test_logs(trained):
    """Both logs hold the loss and the validation curve."""
    _, result, run_dir = trained
    events = EventAccumulator(str(run_dir / "logs")).Reload()
    for name in ("train/loss", "validation/accuracy", "validation/5w1s", "validation/5w5s"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert logged == pytest.approx(curve(run_dir, name), abs=1e-6)
    accuracies, one_shot, five_shot = (
        curve(run_dir, f"validation/{name}") for name in ("accuracy", "5w1s", "5w5s")
    )
    assert len(set(accuracies.values())) > 1
    every = min(accuracies)
    assert list(accuracies) == list(range(every, max(accuracies) + 1, every))
    for step, accuracy in accuracies.items():
        assert accuracy == pytest.approx((one_shot[step] + five_shot[step]) / 2, abs=1e-6)
        assert 0.2 < accuracy <= 1
    assert result.best_validation == pytest.approx(max(accuracies.values()), abs=1e-6)


def test_what_a_training_took(trained):
    _, result, _ = trained
    assert result.spent.seconds > 0 and result.spent.processor_s > 0
    assert result.steps == STEPS and result.images == STEPS * 5 * (1 + 4)


@pytest.mark.parametrize(
    "spec, images",
    [(Shuffled(7), 7), (Balanced(3, 4), 12), (Pairs(6), 12), (Triplets(5), 15), (Episodes(3, 2, 4, 2), 36)],
)
def test_images_per_step_are_those_of_a_batch(spec, images, tiny, tiny_split):
    assert spec.size == images
    where = 0, torch.device("cpu")
    batch = next(iter(TrainingBatches(tiny, tiny_split, spec, lambda i: i.float(), *where)))
    assert sum(t.numel() for t in batch if t.ndim > 2) == images * 3 * 16 * 16


class Ruined(ProtoNet):
    """Remembers its weights after 10 and 20 steps, and then forgets everything."""

    def training_step(self, batch, batch_idx):
        if batch_idx in (10, 20):
            self.remembered = [*getattr(self, "remembered", []), copy.deepcopy(self.state_dict())]
        if batch_idx >= 20:
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.zero_()
        return super().training_step(batch, batch_idx)


@pytest.mark.slow
def test_the_best_weights_by_validation_are_kept(tiny, tiny_split, tmp_path, monkeypatch):
    accuracies = []
    usual = Validation.scores

    def recorded(self, method):
        scores = usual(self, method)
        accuracies.append(sum(scores.values()) / len(scores))
        return scores

    monkeypatch.setattr(Validation, "scores", recorded)
    method = protonet(Ruined)
    result = fit(method, tiny, tiny_split, tmp_path)
    assert accuracies[2] == pytest.approx(0.2)  # zeros embed all images alike
    expected = method.remembered[int(accuracies[1] > accuracies[0])]
    assert result.best_validation == pytest.approx(max(accuracies))
    assert all(torch.equal(expected[name], value) for name, value in method.state_dict().items())
    assert result.kept_step == (10 if accuracies[0] >= accuracies[1] else 20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["protonet", pytest.param("siamese", marks=pytest.mark.soak)])
def test_the_same_seed_trains_the_same_weights(kind, tiny, tiny_split, tmp_path):
    def weights(folder: str, seed: int) -> dict[str, torch.Tensor]:
        if kind == "protonet":
            method = protonet(steps=4, seed=1)
        else:
            torch.manual_seed(1)
            hp = SiameseTriplet.Hyperparameters(steps=4, classes=4)
            method = SiameseTriplet(Conv4(filters=16, image_size=16), hp, 8)
        fit(method, tiny, tiny_split, tmp_path / folder, seed=seed)
        return method.state_dict()

    once, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["backbone.0.0.weight"], other["backbone.0.0.weight"])


def test_validation_uses_validation_images_alone(tiny, tiny_split):
    normalise = Normaliser(tiny.images, tiny_split.train)
    validation = Validation(tiny, tiny_split, normalise, "32-true", 1, Curves(1))
    assert torch.equal(validation.images[validation.index], tiny.images[tiny_split.validation_images])
    assert list(validation.lists) == ["5w1s", "5w5s"]
    for episodes in validation.lists.values():
        assert episodes.query.max() < 150 and len(episodes) == 20
    # Any other image may change: the scores do not.
    images = 255 - tiny.images
    images[tiny_split.validation_images] = tiny.images[tiny_split.validation_images]
    changed = Validation(replace(tiny, images=images), tiny_split, normalise, "32-true", 1, Curves(1))
    method = protonet()
    assert changed.scores(method) == validation.scores(method)
    assert method.training


def test_validation_equals_an_evaluation_of_those_images(tiny, tiny_split):
    normalise = Normaliser(tiny.images, tiny_split.train)
    validation = Validation(tiny, tiny_split, normalise, "32-true", 1, Curves(1))
    method = protonet()
    scores = validation.scores(method)
    with torch.no_grad():
        made = method.eval().embed(normalise(tiny.images[tiny_split.validation_images]))
    for name, episodes in validation.lists.items():
        result = fewshot.evaluate(method, made, validation.pool, episodes)
        assert scores[name] == pytest.approx(result.accuracies.mean(), abs=1e-3)


def test_without_enough_validation_images_the_last_weights_count(tiny, tmp_path):
    """Ratio splits of `tiny` have 5 validation images a class, too few for 15 queries."""
    split = resolve(tiny, "47-53")
    torch.manual_seed(0)
    method = ProtoNet(Conv4(filters=16, image_size=16), ProtoNet.Hyperparameters(steps=3, train_way=5), 9)
    result = fit(method, tiny, split, tmp_path)
    assert result.best_validation is None
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert len(curve(tmp_path, "train/loss")) == 3
