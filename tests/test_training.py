"""Training: it learns, keeps the best weights, repeats itself, and hides the novel classes."""

import copy
import csv
import io
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, ModuleType

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench.common.progress import Progress
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split, resolve
from bench.evaluation import fewshot
from bench.training import callbacks, loop
from bench.training.batches import TrainingBatches
from bench.training.callbacks import Curves, Validation
from bench.training.loop import train
from methods.backbones import build
from methods.batches import Balanced, Episodes, Pairs, Shuffled, Triplets
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

CPU = torch.device("cpu")
STEPS = 30


@pytest.fixture(autouse=True)
def few_validation_episodes(monkeypatch):
    monkeypatch.setattr(callbacks, "VALIDATION_EPISODES", 40)
    monkeypatch.setattr(loop, "VALIDATE_EVERY", 10)


def protonet(kind: type[ProtoNet] = ProtoNet, steps: int = STEPS, seed: int = 0, **changes) -> ProtoNet:
    torch.manual_seed(seed)
    hp = kind.Hyperparameters(steps=steps, train_way=5, **changes)
    return kind(build("conv4"), hp, 8)


def fit(method, data: ImageSet, split: Split, run_dir, seed: int = 0):
    normalise = Normaliser(data.images, split.train)
    return train(
        method,
        data,
        split,
        normalise,
        seed=seed,
        precision="32-true",
        device=CPU,
        run_dir=run_dir,
        progress=Progress(io.StringIO()),
    )


def curve(run_dir, column: str) -> dict[int, float]:
    """A column of the CSV log by step."""
    with (run_dir / "logs" / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


@pytest.fixture(scope="module")
def trained(tiny, tiny_split, tmp_path_factory):
    """One run that several tests look at."""
    run_dir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "VALIDATION_EPISODES", 40)
        patch.setattr(loop, "VALIDATE_EVERY", 10)
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
    batch = next(iter(TrainingBatches(tiny, tiny_split, spec, lambda i: i.float(), 0, CPU)))
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
@pytest.mark.parametrize("kind", ["protonet", "siamese"])
def test_the_same_seed_trains_the_same_weights(kind, tiny, tiny_split, tmp_path):
    def weights(folder: str, seed: int) -> dict[str, torch.Tensor]:
        if kind == "protonet":
            method = protonet(steps=4, seed=1)
        else:
            torch.manual_seed(1)
            hp = SiameseTriplet.Hyperparameters(steps=4, classes=4)
            method = SiameseTriplet(build("conv4"), hp, 8)
        fit(method, tiny, tiny_split, tmp_path / folder, seed)
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
        assert episodes.query.max() < 150 and len(episodes) == 40
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
    method = ProtoNet(build("conv4"), ProtoNet.Hyperparameters(steps=3, train_way=5), 9)
    result = fit(method, tiny, split, tmp_path)
    assert result.best_validation is None
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert len(curve(tmp_path, "train/loss")) == 3


def reachable(start: object) -> list[torch.Tensor | np.ndarray]:
    """Every tensor and array that can be reached by attributes, items, closures and running generators."""
    found, seen, waiting = [], {id(start)}, [start]
    keep = [start]  # so that no id is used twice
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, torch.Tensor | np.ndarray):
            found.append(thing)
            continue
        inside: list[object] = []
        if isinstance(thing, dict):
            inside += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            inside += thing
        elif isinstance(thing, FunctionType):
            inside += [cell.cell_contents for cell in thing.__closure__ or () if cell != type(cell)()]
            inside += [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        elif isinstance(thing, MethodType | BuiltinFunctionType):
            inside.append(thing.__self__)
        elif isinstance(thing, GeneratorType) and thing.gi_frame is not None:
            inside += thing.gi_frame.f_locals.values()
        inside += getattr(thing, "__dict__", {}).values() if not isinstance(thing, type) else []
        for kind in type(thing).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                inside.append(getattr(thing, slot, None))
        for part in inside:
            if id(part) not in seen and not isinstance(part, ModuleType | type | str | int | float | bytes):
                seen.add(id(part))
                keep.append(part)
                waiting.append(part)
    return found


NOVEL_FROM = 200  # pixels of novel images are 200 and more, all others at most 150


@pytest.fixture(scope="module")
def marked(tiny, tiny_split) -> ImageSet:
    images = (tiny.images.float() * 150 / 255).to(torch.uint8)
    novel = torch.isin(tiny.labels, torch.tensor(tiny_split.novel))
    images[novel] = NOVEL_FROM + images[novel] // 4
    return replace(tiny, images=images)


class Spy(ProtoNet):
    """Keeps all it is handed, and looks around from inside its training step."""

    handed: list[torch.Tensor]
    found: list[list[torch.Tensor | np.ndarray]]
    looks_at = (0, STEPS - 1)

    def training_step(self, batch, batch_idx):
        self.handed.extend(t.detach() for t in batch if t.ndim > 3)
        if batch_idx in self.looks_at:
            self.found.append(reachable(self))
            self.found.append(reachable(self.trainer.train_dataloader.dataset))
        return super().training_step(batch, batch_idx)

    def embed(self, images):
        self.handed.append(images.detach())
        return super().embed(images)


def raw_images(things: list[torch.Tensor | np.ndarray]) -> list[torch.Tensor]:
    """Those of the tensors and arrays that hold 8-bit images."""
    return [torch.as_tensor(thing) for thing in things if is_raw(thing) and thing.shape[-3:] == (3, 16, 16)]


def is_raw(thing: torch.Tensor | np.ndarray) -> bool:
    return thing.dtype in (torch.uint8, np.uint8) and 0 not in thing.shape


@pytest.mark.slow
def test_a_method_cannot_reach_novel_images(marked, tiny_split, tmp_path):
    method = protonet(Spy)
    method.handed, method.found = [], []
    fit(method, marked, tiny_split, tmp_path)

    normalise = Normaliser(marked.images, tiny_split.train)
    assert len(method.handed) > 2 * STEPS
    for images in method.handed:
        assert (images * normalise.std + normalise.mean).max() < NOVEL_FROM - 40

    assert len(method.found) == 4
    train, validation = marked.images[tiny_split.train], marked.images[tiny_split.validation_images]
    for things in method.found:
        assert all(thing.max() < NOVEL_FROM for thing in things if is_raw(thing))
        assert all(len(images) <= len(train) for images in raw_images(things))
    # It does see what it may see, so it is not blind.
    for allowed in (train, validation):
        assert any(torch.equal(images, allowed) for images in raw_images(method.found[0]))


def test_the_spy_would_find_a_careless_callback(marked, tiny_split, tmp_path, monkeypatch):
    """The search above finds the whole data set wherever a callback holds it."""

    class Careless(Validation):
        def __init__(self, data, *rest):
            super().__init__(data, *rest)
            self.score = lambda: data

    monkeypatch.setattr(loop, "Validation", Careless)
    method = protonet(Spy, steps=1)
    method.handed, method.found = [], []
    fit(method, marked, tiny_split, tmp_path)
    assert any(thing is marked.images for thing in method.found[0])


@pytest.mark.parametrize(
    "spec",
    [Shuffled(20), Balanced(3, 4), Pairs(6), Triplets(5), Episodes(3, 2, 4)],
    ids=lambda s: type(s).__name__,
)
def test_no_kind_of_batch_leads_to_novel_images(spec, marked, tiny_split):
    normalise = Normaliser(marked.images, tiny_split.train)
    batches = TrainingBatches(marked, tiny_split, spec, normalise, 0, CPU)
    stream = iter(batches)
    for _, batch in zip(range(20), stream, strict=False):
        for images in (part for part in batch if part.ndim > 3):
            assert (images * normalise.std + normalise.mean).max() < NOVEL_FROM - 40
    things = reachable((batches, stream))
    assert any(thing is batches.images for thing in things)
    assert all(thing.max() < NOVEL_FROM for thing in things if is_raw(thing))
    assert all(len(images) <= len(tiny_split.train) for images in raw_images(things))
