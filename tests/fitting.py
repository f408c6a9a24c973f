"""Training through the harness, as the tests of several files need it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.common.progress import Progress
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.training.checkpoints import Resumable
from bench.training.loop import Trained, train
from methods import registry
from methods.backbones import Conv4
from methods.base_classifier import BaseClassifier
from methods.method import Method

NAMES = sorted(
    name
    for name, info in registry.available().items()
    if info.source == f"methods.{name}" and info.trains_on != "pretraining"
)
"""The methods that train more than the classifier of the base classes."""
OFFER_A_START = [name for name in NAMES if "init" in registry.available()[name].parameters]
SMOKE_RUNS = [
    *((name, {}) for name in NAMES if name != "mtl"),
    *((name, {"init": "pretrained", "steps": 48}) for name in NAMES if name in OFFER_A_START),
    ("mtl", {"init": "scratch", "scale_shift": False}),
    ("logistic_head", {"distillation": 0.5, "steps": 24}),
]
"""Methods with changes that make them train 12 steps of their own."""


def smoke_method(name: str, num_classes: int, filters: int = 8, **changes: Any) -> Method:
    """A method as preset `smoke` says, on a small backbone for 16 pixels; always the same weights."""
    method_class = registry.load(registry.available()[name])
    hyperparameters = {k: v for k, v in method_class.presets["smoke"].items() if k != "backbone"} | changes
    torch.manual_seed(0)
    backbone = Conv4(filters=filters, image_size=16)
    method = method_class(backbone, method_class.Hyperparameters(**hyperparameters), num_classes)
    if method.pretraining:
        start = BaseClassifier(Conv4(filters=filters, image_size=16), method.pretraining, num_classes)
        method.start_from(start)
    return method


def fit(method: Method, data: ImageSet, split: Split, folder: Path, **options: Any) -> Trained:
    """Train it; by default in fp32 on the CPU."""
    given = {"seed": 0, "precision": "32-true", "device": torch.device("cpu")} | options
    normalise = Normaliser(data.images, split.train)
    return train(method, data, split, normalise, run_dir=folder, progress=Progress(io.StringIO()), **given)


class Killed(Exception):
    """What happens to the process, as far as the training can tell."""


@contextmanager
def killed_after(step: int) -> Iterator[None]:
    """The training within this ends right after this step and its checkpoint."""
    save = Resumable.on_train_batch_end

    def saved_and_killed(self, trainer, *batch):
        save(self, trainer, *batch)
        if trainer.global_step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_end", saved_and_killed)
        with pytest.raises(Killed):
            yield
