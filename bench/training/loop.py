"""Trains a method with Lightning; gives the validation curve and the best weights."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader

from bench.common.clock import Spent
from bench.common.progress import Progress
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation import budget
from bench.records.schema import CHECKPOINTS, LAST_CHECKPOINT
from bench.training.batches import TrainingBatches
from bench.training.callbacks import Curves, Diverged, Divergence, Meter, Validation
from bench.training.checkpoints import CheckedFiles, Resumable, random_states, saved_step
from bench.training.devices import shared_forward
from methods.abilities import ChoosesClasses
from methods.batches import Shuffled
from methods.fused import fused_training
from methods.method import Method

VALIDATIONS = 10  # points of the validation curve


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        spent: time spent. earlier: the part before an interruption.
        steps: number of steps. images: number of images seen, repetitions included.
        best_validation: accuracy of the kept weights; None without validation images.
        kept_step: the step of the kept weights.
        curves: ``loss`` and validation settings -> float64 ``[n, 2]`` of step and value.
    """

    spent: Spent
    earlier: Spent
    steps: int
    images: int
    best_validation: float | None
    kept_step: int
    curves: dict[str, np.ndarray]


def train(
    method: Method,
    data: ImageSet,
    split: Split,
    normalise: Normaliser,
    *,
    seed: int,
    precision: str,
    device: torch.device,
    run_dir: Path,
    progress: Progress,
    stamp: str = "",
    compiled: bool = False,
    what: str = "training",
    tensorboard: bool = True,
    rank: int = 0,
    devices: int = 1,
    augment: Sequence[str] | None = None,
    loggers: Sequence[Logger] = (),
) -> Trained:
    """Train for ``method.training_steps`` steps, and leave the best weights by validation in `method`.

    An interrupted training resumes from its last checkpoint under `run_dir` if `stamp` is the same.
    If it starts from trained weights (`starts_trained`), these are validated too, and may be the best.
    `augment` names the augmentations of training images, by default the data set's usual ones.
    If `compiled` (see `bench.training.compilation`), the backbone trains on fused operations.
    With several `devices`, this is process number `rank` of as many, and `device` is its own.
    `loggers` get the curves in addition to CSV files and, with `tensorboard`, TensorBoard's.

    The method gets base training images from `TrainingBatches`; the harness embeds validation images. The
    method cannot access novel images.
    """
    steps = method.training_steps
    last = run_dir / LAST_CHECKPOINT
    start = saved_step(last, stamp)
    if not start and rank == 0:  # left by another run of the same configuration
        for left_over in ("logs", CHECKPOINTS):
            shutil.rmtree(run_dir / left_over, ignore_errors=True)
    spec = method.batches()
    request = method.next_classes if isinstance(method, ChoosesClasses) else lambda: None
    batches = TrainingBatches(data, split, spec, normalise, seed, device, request, steps, start, augment)
    every = max(budget.FULL.validate_every, steps // VALIDATIONS)
    log_every = max(1, min(50, steps // 10))
    curves = Curves(log_every)
    validation = Validation(
        data, split, normalise, precision, every, curves, method.fixed_embedding, method.starts_trained
    )
    resumable = Resumable(last, stamp)
    resumable.random = random_states()  # so setting up one device or several makes no difference
    version = f"logs/from-{start}" if start else "logs"
    loggers = [*loggers, CSVLogger(run_dir, name="", version=version)]
    if tensorboard:
        loggers.append(TensorBoardLogger(run_dir, name="", version=version))
    several = devices > 1
    options: dict[str, Any] = {"devices": devices, "strategy": DDPStrategy()} if several else {}
    with quiet():
        trainer = make_trainer(
            device,
            precision,
            steps,
            plugins=[CheckedFiles()],
            **options,
            logger=loggers,
            callbacks=[
                Divergence(resumable),
                curves,
                Meter(progress, what, steps, start),
                *([validation] if validation.possible else []),
                resumable,
            ],
            log_every_n_steps=log_every,
        )
        fused = fused_training(method.backbone) if compiled else nullcontext()
        shared = shared_forward(method.backbone) if several else nullcontext()
        try:
            loader = DataLoader(batches, batch_size=None)
            with fused, shared, interruptible():
                trainer.fit(method, loader, ckpt_path=last if start else None, weights_only=True)
        except Diverged as error:
            error.kept = validation.best is not None
            raise
        finally:
            if validation.best:
                method.load_state_dict(validation.best["weights"])
    return Trained(
        spent=resumable.spent(),
        earlier=resumable.earlier,
        steps=steps,
        images=steps * (min(spec.size, len(split.train)) if isinstance(spec, Shuffled) else spec.size),
        best_validation=validation.best["accuracy"] if validation.best else None,
        kept_step=validation.best["step"] if validation.best else steps,
        curves={name.removeprefix("validation/"): np.array(points) for name, points in curves.points.items()},
    )


def make_trainer(
    device: torch.device, precision: str, steps: int, plugins: Sequence[Any] = (), **options: Any
) -> pl.Trainer:
    """Lightning's trainer on a device, without its own output; `options` are further arguments."""
    given = {"devices": [device.index or 0] if device.type == "cuda" else 1, **options}
    return pl.Trainer(
        max_steps=steps,
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device.type],
        precision=precision,  # type: ignore[arg-type]
        plugins=[*plugins, LightningEnvironment()],  # in a Slurm job too, each run is its own
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **given,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is KeyboardInterrupt, not the SystemExit that Lightning makes of it."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's messages about its set-up, but not errors."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*|torch\.optim\.lr_scheduler")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
