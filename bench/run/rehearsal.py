"""One training step of every run of a grid before the first one trains: errors show in seconds."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from bench.common import environment
from bench.common.errors import UserError
from bench.run import failures
from bench.run.plan import Prepared
from bench.training.batches import TrainingBatches
from bench.training.loop import interruptible, make_trainer, quiet
from methods.abilities import ChoosesClasses
from methods.base_classifier import BaseClassifier


def rehearse(prepared: Prepared) -> None:
    """Take one step, forward and backward, of each training of a run, on copies of its methods.

    Raises:
        UserError: a step fails.
    """
    for one in _trainings(prepared):
        config = one.config
        try:
            with failures.explained(prepared.config, environment.device_name(one.device)):
                _step(one)
        except (ValueError, RuntimeError) as error:
            size = "x".join(map(str, one.data.images.shape[2:]))
            what = f"cannot take a training step with {prepared.config.method} on images of {size}"
            raise UserError("--backbone", config.backbone, f"{what}: {error}") from None


def _trainings(prepared: Prepared) -> Iterator[Prepared]:
    """The run and the shared trainings that it starts from, as far as they have steps of their own."""
    start = prepared.start
    uses_weights_of_another = start is not None and not isinstance(start.method, BaseClassifier)
    if prepared.config.train and prepared.method.training_steps and not uses_weights_of_another:
        yield prepared
    if start is not None:
        yield from _trainings(start)


def _step(one: Prepared) -> None:
    method = copy.deepcopy(one.method)
    request = method.next_classes if isinstance(method, ChoosesClasses) else lambda: None
    device, seed = one.device, one.config.seed
    batches = TrainingBatches(
        one.data, one.split, method.batches(), one.normalise, seed, device, request, steps=1
    )
    with quiet(), torch.random.fork_rng(), interruptible():
        trainer = make_trainer(device, one.precision, 1, logger=False, enable_checkpointing=False)
        trainer.fit(method, DataLoader(batches, batch_size=None))
