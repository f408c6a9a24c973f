"""Novel images cannot be reached from a training: not by a method, and not from its batches."""

from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, ModuleType

import numpy as np
import pytest
import torch
from fitting import fit
from small_budget import budget_of_file

from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.training import loop
from bench.training.batches import TrainingBatches
from bench.training.callbacks import Validation
from methods.backbones import build
from methods.batches import Balanced, Episodes, Pairs, Shuffled, Triplets
from methods.protonet import ProtoNet

STEPS = 30
small = budget_of_file(validation_episodes=40, validate_every=10)


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


def spy(steps: int) -> Spy:
    torch.manual_seed(0)
    method = Spy(build("conv4"), Spy.Hyperparameters(steps=steps, train_way=5), 8)
    method.handed, method.found = [], []
    return method


def raw_images(things: list[torch.Tensor | np.ndarray]) -> list[torch.Tensor]:
    """Those of the tensors and arrays that hold 8-bit images."""
    return [torch.as_tensor(thing) for thing in things if is_raw(thing) and thing.shape[-3:] == (3, 16, 16)]


def is_raw(thing: torch.Tensor | np.ndarray) -> bool:
    return thing.dtype in (torch.uint8, np.uint8) and 0 not in thing.shape


@pytest.mark.slow
def test_a_method_cannot_reach_novel_images(marked, tiny_split, tmp_path):
    method = spy(STEPS)
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
    method = spy(steps=1)
    fit(method, marked, tiny_split, tmp_path)
    assert any(thing is marked.images for thing in method.found[0])


@pytest.mark.parametrize(
    "spec",
    [Shuffled(20), Balanced(3, 4), Pairs(6), Triplets(5), Episodes(3, 2, 4)],
    ids=lambda s: type(s).__name__,
)
def test_no_kind_of_batch_leads_to_novel_images(spec, marked, tiny_split):
    normalise = Normaliser(marked.images, tiny_split.train)
    batches = TrainingBatches(marked, tiny_split, spec, normalise, 0, torch.device("cpu"))
    stream = iter(batches)
    for _, batch in zip(range(20), stream, strict=False):
        for images in (part for part in batch if part.ndim > 3):
            assert (images * normalise.std + normalise.mean).max() < NOVEL_FROM - 40
    things = reachable((batches, stream))
    assert any(thing is batches.images for thing in things)
    assert all(thing.max() < NOVEL_FROM for thing in things if is_raw(thing))
    assert all(len(images) <= len(tiny_split.train) for images in raw_images(things))
