"""`check-method`: tries a method's contract on small generated images, before and after a few steps."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from bench.common.errors import UserError
from bench.common.progress import Progress
from bench.config.run_config import BRIEF, method_info, resolve
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import resolve as split_as
from bench.evaluation import contract
from bench.evaluation.answers import all_finite
from bench.run.failures import method_errors
from bench.sampling.episodes import ClassPool
from bench.training.batches import check_fit
from bench.training.loop import train
from methods import registry
from methods.backbones import build
from methods.method import Method

CLASSES, EACH, SIZE = 100, 30, 32
STEPS = 3
CPU, PRECISION = torch.device("cpu"), "32-true"


def check(method: str) -> Iterator[tuple[str, list[str]]]:
    """Each check that was made, and what fails.

    Args:
        method: as ``--method``; with its smallest preset, on the backbone conv4.

    Raises:
        UserError: the method cannot be imported, or its description is wrong.
    """
    trial = _Trial(method)
    steps: list[tuple[str, Callable[[], list[str]]]] = [
        ("the method can be built, and the base classes suffice for its batches", trial.build),
        ("its answers satisfy the contract before training", trial.answer_untrained),
        (f"it trains for {STEPS} steps", trial.train),
        ("its answers satisfy the contract after training, on new classes", trial.answer_trained),
        ("the same seed gives the same weights", trial.repeat),
        ("training does not use images of new classes", trial.train_without_novel),
    ]
    for what, step in steps:
        try:
            with method_errors(method):
                problems = step()
        except UserError as error:
            problems = [error.allowed]
        except ValueError as error:
            problems = [str(error)]
        yield what, problems
        if problems or (step == trial.answer_untrained and not trial.method.training_steps):
            return


class _Trial:
    """The checks of one method; each returns its problems."""

    def __init__(self, method: str) -> None:
        info = method_info(method, "METHOD")
        preset = BRIEF if BRIEF in info.presets else next(iter(info.presets))
        self.config = resolve({"method": method, "preset": preset}, {}, {"steps": str(STEPS)})
        self.method_class = registry.load(info)
        self.data = _images()
        self.split = split_as(self.data, "80-20")
        self.normalise = Normaliser(self.data.images, self.split.train)
        self.method: Method

    def build(self) -> list[str]:
        self.method = self._built()
        if self.method.training_steps:
            check_fit(self.method.batches(), ClassPool(self.data.labels[self.split.train].numpy()))
        return []

    def answer_untrained(self) -> list[str]:
        return self._answers(self.split.base_test)

    def train(self) -> list[str]:
        self.method = self._trained(self.data)
        return [] if all_finite(self.method) else ["its weights are NaN or infinite"]

    def answer_trained(self) -> list[str]:
        return self._answers(self.split.novel_images)

    def repeat(self) -> list[str]:
        same = _equal(self.method, self._trained(self.data))
        return [] if same else ["two trainings with the same seed give different weights"]

    def train_without_novel(self) -> list[str]:
        images = self.data.images.clone()
        images[self.split.novel_images] = 255 - images[self.split.novel_images]
        same = _equal(self.method, self._trained(replace(self.data, images=images)))
        return [] if same else ["its weights change if only images of new classes change"]

    def _answers(self, index: torch.Tensor) -> list[str]:
        return contract.findings(self.method, self.data, [index], self.normalise, PRECISION)

    def _built(self) -> Method:
        torch.manual_seed(0)
        hp = self.method_class.Hyperparameters(**self.config.hyperparameters)
        return self.method_class(build("conv4", SIZE), hp, len(self.split.base))

    def _trained(self, data: ImageSet) -> Method:
        method = self._built()
        pl.seed_everything(0, verbose=False)
        with tempfile.TemporaryDirectory() as folder:
            train(
                method,
                data,
                self.split,
                self.normalise,
                seed=0,
                precision=PRECISION,
                device=CPU,
                run_dir=Path(folder),
                progress=Progress(io.StringIO()),
                tensorboard=False,
            )
        return method.eval()


def _equal(one: Method, other: Method) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@cache
def _images() -> ImageSet:
    """Classes of noise around a colour and stripes; a third of each is held out."""
    rng = np.random.default_rng(0)
    means = rng.uniform(60, 190, (CLASSES, 1, 3, 1, 1)) + 40 * np.sign(
        rng.normal(size=(CLASSES, 1, 1, 1, SIZE))
    )
    noise = rng.normal(0, 45, (CLASSES, EACH, 3, SIZE, SIZE))
    return ImageSet.build(
        "generated",
        (means + noise).clip(0, 255).astype(np.uint8).reshape(-1, 3, SIZE, SIZE),
        np.repeat(np.arange(CLASSES), EACH),
        np.tile(np.arange(EACH) >= EACH - EACH // 3, CLASSES),
        [f"class{number:02}" for number in range(CLASSES)],
    )
