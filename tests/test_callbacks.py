"""Checkpoints: an interrupted training resumes as if nothing had happened; a diverging one stops."""

import io
import time

import numpy as np
import pytest
import torch
from checkpoint_files import spend
from small_budget import budget_of_file

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.training import checkpoints
from bench.training.callbacks import Diverged
from bench.training.checkpoints import saved_step
from bench.training.loop import train
from methods.abilities import ChoosesClasses
from methods.backbones import Conv4
from methods.batches import Episodes
from methods.pretraining import Pretraining
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

STEPS = 20


class Killed(Exception):
    """What happens to the process, as far as the training can tell."""


class Drawing(ChoosesClasses, ProtoNet):
    """Draws random numbers in training, and asks for classes by what it has seen."""

    kill_at = 0

    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("seen", torch.zeros(8))

    def batches(self):
        return Episodes(4, 1, 2)

    def next_classes(self):
        return self.seen.argsort(stable=True)[None, :4]

    def training_step(self, batch, batch_idx):
        if self.global_step == self.kill_at:
            raise Killed
        self.seen[batch.classes[0]] += torch.rand(4)
        return super().training_step(batch, batch_idx)


class Siamese(SiameseTriplet):
    kill_at = 0

    def training_step(self, batch, batch_idx):
        if self.global_step == self.kill_at:
            raise Killed
        return super().training_step(batch, batch_idx)


KINDS = {Drawing: {"train_way": 4}, Siamese: {"classes": 4}}


small = budget_of_file(validation_episodes=20, validate_every=4, save_every_s=0.0)


def fit(kind, data, split, run_dir, kill_at=-1, stamp="made by"):
    torch.manual_seed(5)
    method = kind(Conv4(filters=8, image_size=16), kind.Hyperparameters(steps=STEPS, **KINDS[kind]), 8)
    method.kill_at = kill_at
    stream = io.StringIO()
    result = train(
        method,
        data,
        split,
        Normaliser(data.images, split.train),
        seed=3,
        precision="32-true",
        device=torch.device("cpu"),
        run_dir=run_dir,
        progress=Progress(stream),
        stamp=stamp,
    )
    return method, result


@pytest.fixture(scope="module")
def uninterrupted(tiny, tiny_split, tmp_path_factory):
    return {kind: fit(kind, tiny, tiny_split, tmp_path_factory.mktemp("whole")) for kind in KINDS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, kills",
    [
        (Drawing, [1]),
        (Drawing, [19]),
        (Drawing, [3, 6, 12]),
        *(pytest.param(Siamese, kills, marks=pytest.mark.soak) for kills in ([1], [19], [3, 6, 12])),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    kind, kills, uninterrupted, tiny, tiny_split, tmp_path
):
    for kill_at in kills:
        with pytest.raises(Killed):
            fit(kind, tiny, tiny_split, tmp_path, kill_at)
        assert saved_step(tmp_path / "checkpoints" / "last.ckpt", "made by") == kill_at
        time.sleep(0.01)
    method, result = fit(kind, tiny, tiny_split, tmp_path)
    expected, whole = uninterrupted[kind]
    for name, value in expected.state_dict().items():
        assert torch.equal(method.state_dict()[name], value), name
    assert result.best_validation == whole.best_validation
    assert result.curves.keys() == whole.curves.keys() >= {"loss", "accuracy", "5w1s", "5w5s"}
    for name, curve in whole.curves.items():
        np.testing.assert_array_equal(result.curves[name], curve)


def test_the_curves_are_what_the_log_says(uninterrupted, tiny, tiny_split, tmp_path):
    _, whole = uninterrupted[Siamese]
    assert whole.curves["loss"][:, 0].tolist() == list(range(2, STEPS + 1, 2))
    assert whole.curves["accuracy"][:, 0].tolist() == [4, 8, 12, 16, 20]
    mean = (whole.curves["5w1s"][:, 1] + whole.curves["5w5s"][:, 1]) / 2
    np.testing.assert_allclose(whole.curves["accuracy"][:, 1], mean)
    assert whole.best_validation == pytest.approx(whole.curves["accuracy"][:, 1].max())


class Spoiled(Siamese):
    """Starts from a network that its own steps ruin."""

    pretraining = Pretraining(1)

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            for parameter in self.backbone.parameters():
                parameter.mul_(0.3).add_(torch.randn_like(parameter))
        return super().training_step(batch, batch_idx)


@pytest.mark.slow
def test_what_a_training_starts_from_may_be_kept(uninterrupted, tiny, tiny_split, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, Spoiled, KINDS[Siamese] | {"learning_rate": 0.0})
    start = uninterrupted[Siamese][0]

    class Started(Spoiled):
        def on_fit_start(self):
            self.load_state_dict(start.state_dict())

    monkeypatch.setitem(KINDS, Started, KINDS[Spoiled])
    method, result = fit(Started, tiny, tiny_split, tmp_path)
    assert result.kept_step == 0 and result.steps == STEPS
    assert result.curves["accuracy"][:, 0].tolist() == [0, 4, 8, 12, 16, 20]
    assert result.best_validation == result.curves["accuracy"][0, 1]
    for name, value in start.state_dict().items():
        assert torch.equal(method.state_dict()[name], value), name


@pytest.mark.slow
def test_time_before_the_interruption_counts(tiny, tiny_split, tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit(Siamese, tiny, tiny_split, tmp_path, 5)
    spend(tmp_path / "checkpoints" / "last.ckpt", 1000.0)
    _, result = fit(Siamese, tiny, tiny_split, tmp_path)
    assert 1000 < result.spent.seconds < 2000 and result.earlier == (1000, 1000)


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_ignored(uninterrupted, tiny, tiny_split, tmp_path):
    with pytest.raises(Killed):
        fit(Siamese, tiny, tiny_split, tmp_path, 9)
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert (saved_step(path, "made by"), saved_step(path, "another")) == (9, 0)
    content = path.read_bytes()
    flipped = content[:-2000] + bytes([content[-2000] ^ 1]) + content[-1999:]
    for damaged in (b"", b"no checkpoint", flipped, content[: len(content) // 2]):
        path.write_bytes(damaged)
        assert saved_step(path, "made by") == 0
    method, result = fit(Siamese, tiny, tiny_split, tmp_path)
    expected, _ = uninterrupted[Siamese]
    assert result.curves["loss"][0, 0] == 2
    assert all(torch.equal(method.state_dict()[name], v) for name, v in expected.state_dict().items())


def test_a_pickle_is_refused_as_a_checkpoint(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    trap = {"global_step": 5, "stamp": "made by", "trap": Trap()}
    checkpoints.CheckedFiles().save_checkpoint(trap, tmp_path / "last.ckpt")
    assert saved_step(tmp_path / "last.ckpt", "made by") == 0
    assert not (tmp_path / "sprung").exists()


def test_training_stops_at_the_first_loss_that_is_not_finite(tiny, tiny_split, tmp_path):
    class Bad(Siamese):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return self.log_loss(loss * (torch.nan if self.global_step == 7 else 1))

    KINDS[Bad] = KINDS[Siamese]
    with pytest.raises(Diverged, match="at step 8") as first:
        fit(Bad, tiny, tiny_split, tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert saved_step(path, "made by") == 7  # the last good one
    assert first.value.spent.seconds > 0 == first.value.earlier.seconds
    spend(path, 1000.0)
    with pytest.raises(Diverged, match="at step 8") as again:
        fit(Bad, tiny, tiny_split, tmp_path)
    assert again.value.spent.seconds > 1000 == again.value.earlier.seconds


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    files = checkpoints.CheckedFiles()
    files.save_checkpoint({"global_step": 1}, path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OSError):
        files.save_checkpoint({"global_step": 2}, path)
    assert files.load_checkpoint(path) == {"global_step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_training_resumes_in_another_folder(uninterrupted, tiny, tiny_split, tmp_path):
    """The best weights so far move with the checkpoint: nothing in it names a place."""
    with pytest.raises(Killed):
        fit(Siamese, tiny, tiny_split, tmp_path / "old", 14)
    (tmp_path / "old").rename(tmp_path / "new")
    method, result = fit(Siamese, tiny, tiny_split, tmp_path / "new")
    expected, whole = uninterrupted[Siamese]
    assert (result.best_validation, result.kept_step) == (whole.best_validation, whole.kept_step)
    assert all(torch.equal(method.state_dict()[name], v) for name, v in expected.state_dict().items())
