"""The work of this bench that is timed; everything goes through the functions that a run uses."""

from __future__ import annotations

import io
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bench.common.progress import Progress
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split, resolve
from bench.evaluation import fewshot
from bench.evaluation.embedding import autocast, embed_images
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import episode_key
from bench.statistics import Interval
from bench.training.batches import TrainingBatches
from bench.training.compilation import compile_training
from bench.training.loop import train
from benchmarks.textbook import textbook
from methods import backbones
from methods.method import Method
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

WAY, SHOT, QUERY = 5, 1, 15
WARM_UP = 5  # training steps before the clock starts: the first ones also allocate
GATHERED_AT_ONCE = 32  # episodes whose images are gathered together; about the size of a training batch
CPU = torch.device("cpu")

MethodT = TypeVar("MethodT", bound=Method)


@dataclass(frozen=True)
class Material:
    """What all timings share: decoded images, the FC100 split, normalisation and the novel pool."""

    data: ImageSet
    split: Split
    normalise: Normaliser
    pool: ClassPool

    @classmethod
    def of(cls, data: ImageSet) -> Material:
        """Split `data` as FC100 does."""
        split = resolve(data, "fc100")
        pool = ClassPool(data.labels[split.novel_images].numpy())
        return cls(data, split, Normaliser(data.images, split.train), pool)


def prepared(method_class: type[MethodT], backbone: str = "conv4", **hyperparameters: Any) -> MethodT:
    """A method as the bench prepares it: channels-last weights, always the same ones."""
    torch.manual_seed(0)
    hp = method_class.Hyperparameters(**hyperparameters)
    method = method_class(backbones.build(backbone), hp, num_classes=60)
    return method.to(memory_format=torch.channels_last)


def protonet(steps: int) -> ProtoNet:
    """ProtoNet that trains as learn2learn's does: one 5-way 1-shot episode a step, Adam at 0.001."""
    return prepared(
        ProtoNet,
        steps=steps,
        train_way=WAY,
        train_shot=SHOT,
        train_query=QUERY,
        distance="l2",
        optimizer="adam",
        schedule="constant",
        learning_rate=0.001,
        weight_decay=0.0,
    )


def siamese_quick(steps: int, backbone: str = "conv4") -> SiameseTriplet:
    """`siamese_triplet` with its preset `quick`, on a backbone of choice."""
    preset = {k: v for k, v in SiameseTriplet.presets["quick"].items() if k not in ("backbone", "steps")}
    return prepared(SiameseTriplet, backbone, steps=steps, **preset)


def siamese_textbook(
    steps: int, backbone: str, layout: torch.memory_format = torch.contiguous_format
) -> SiameseTriplet:
    """The same, from the same weights, on the backbone in the textbook's order."""
    method = siamese_quick(steps, backbone)
    method.backbone = textbook(method.backbone)  # type: ignore[arg-type]
    return method.to(memory_format=layout)


def draw_tasks(material: Material, count: int) -> EpisodeList:
    """Draw 5-way 1-shot episodes with 15 queries a class: indices into the novel pool."""
    setting = Setting(WAY, SHOT, QUERY, count)
    key = episode_key(material.data.fingerprint, material.split.name, setting, seed=0)
    return draw(material.pool, key, setting)


def draw_and_gather(material: Material, count: int) -> int:
    """Draw episodes, and gather and normalise the images of each; returns how many images that were."""
    episodes = draw_tasks(material, count)
    index = np.concatenate([episodes.support.reshape(count, -1), episodes.query], axis=1)
    images = 0
    for part in torch.from_numpy(index).split(GATHERED_AT_ONCE):
        chosen = material.split.novel_images[part.flatten()]
        images += len(material.normalise(material.data.images.index_select(0, chosen)))
    return images


def evaluate(material: Material, method: Method, precision: str, count: int) -> Interval:
    """From images to interval: embed the whole novel pool, draw the episodes, answer them, average."""
    embeddings = embed_images(
        method, material.data.images, material.split.novel_images, material.normalise, precision
    )
    return fewshot.evaluate(method, embeddings, material.pool, draw_tasks(material, count)).interval()


class StepClock(Progress):
    """Stands in for the progress bar, and notes when the first and the last step that count end."""

    def __init__(self, steps: int) -> None:
        super().__init__(io.StringIO())
        self.steps = steps
        self.started_at = self.ended_at = 0.0

    def advance(self, units: int, **notes: str) -> None:
        """Called by the trainer after each step."""
        self.done += units
        if self.done in (WARM_UP, self.steps):
            wait_for_gpu()
        self.ended_at = time.perf_counter()
        if self.done == WARM_UP:
            self.started_at = self.ended_at

    def seconds_per_step(self) -> float:
        """Mean over the steps after the warm-up."""
        return (self.ended_at - self.started_at) / (self.done - WARM_UP)


def long_train_seconds(
    material: Material, method: Method, precision: str, threads: int, device: torch.device = CPU
) -> float:
    """As `train_seconds`, as a run long enough to be compiled trains; compiling is not timed."""
    size = material.data.images.shape[-1]
    with using_threads(threads):
        compiled = compile_training(method, size, precision, device, however_short=True)
        return train_seconds(material, method, precision, compiled, device)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_seconds(
    material: Material,
    method: Method,
    precision: str,
    compiled: bool = False,
    device: torch.device = CPU,
) -> float:
    """Train `method` through `bench.training.loop.train`: seconds per step after the warm-up.

    Without validation, as the other side has none; drawing, augmenting and logging are in.
    """
    split = replace(material.split, validation_images=material.split.validation_images[:0])
    clock = StepClock(method.training_steps)
    with tempfile.TemporaryDirectory() as folder:
        train(
            method,
            material.data,
            split,
            material.normalise,
            seed=0,
            precision=precision,
            device=device,
            run_dir=Path(folder),
            progress=clock,
            compiled=compiled,
        )
    return clock.seconds_per_step()


def wait_for_gpu() -> None:
    """Until all that was asked of it is done, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ready_batches(material: Material, method: Method, count: int, device: torch.device = CPU) -> list:
    """The first batches that training would make."""
    batches = TrainingBatches(material.data, material.split, method.batches(), material.normalise, 0, device)
    return list(itertools.islice(batches, count))


def in_layout(batches: Sequence, layout: torch.memory_format) -> list:
    """The same batches, with their images in this memory layout."""
    return [batch._replace(images=batch.images.contiguous(memory_format=layout)) for batch in batches]


def bare_loop_seconds(
    method: SiameseTriplet, batches: Sequence, precision: str, threads: int | None = None
) -> float:
    """Train `method` in a plain PyTorch loop on ready batches: seconds per step after the warm-up.

    Same model, loss, optimizer, schedule and precision as through Lightning, for ``method.hp.steps``.
    """
    if threads is not None:
        with using_threads(threads):
            return bare_loop_seconds(method, batches, precision)
    configured = method.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    method.train()
    started = 0.0
    for step in range(method.hp.steps):
        if step == WARM_UP:
            wait_for_gpu()
            started = time.perf_counter()
        optimizer.zero_grad()
        with autocast(method.device, precision):
            loss = method.training_step(batches[step % len(batches)], step)
        loss.backward()
        optimizer.step()
        schedule.step()
    wait_for_gpu()
    return (time.perf_counter() - started) / (method.hp.steps - WARM_UP)
