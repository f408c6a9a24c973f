"""One training step of every run of a grid before the first one trains: errors show in seconds."""

from __future__ import annotations

import copy

import torch
from torch.utils.data import DataLoader

from bench.common import environment
from bench.common.errors import UserError
from bench.run import failures
from bench.run.plan import Prepared
from bench.training.batches import TrainingBatches
from bench.training.loop import interruptible, make_trainer, quiet
from methods.abilities import ChoosesClasses


def rehearse(prepared: Prepared) -> None:
    """Take one step, forward and backward, of each training of a run, on copies of its methods.

    Raises:
        UserError: a step fails.
    """
    for one in prepared.trainings():
        config = one.config
        try:
            with failures.explained(prepared.config, environment.device_name(one.device)):
                _step(one)
        except (ValueError, RuntimeError) as error:
            size = "x".join(map(str, one.data.images.shape[2:]))
            what = f"cannot take a training step with {prepared.config.method} on images of {size}"
            raise UserError("--backbone", config.backbone, f"{what}: {error}") from None


def _step(one: Prepared) -> None:
    method = copy.deepcopy(one.method)
    request = method.next_classes if isinstance(method, ChoosesClasses) else lambda: None
    device, config = one.device, one.config
    where = (one.data, one.split, method.batches(), one.normalise)
    batches = TrainingBatches(*where, config.seed, device, request, steps=1, augment=config.augment)
    with quiet(), torch.random.fork_rng(), interruptible():
        trainer = make_trainer(device, one.precision, 1, logger=False, enable_checkpointing=False)
        trainer.fit(method, DataLoader(batches, batch_size=None))
