"""Trains a method with Lightning: batches in, validation curve and best weights out."""

from __future__ import annotations

import csv
import logging
import shutil
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from bench.batches import Normaliser, TrainingBatches
from bench.data.images import ImageSet
from bench.data.splits import Split
from bench.episodes import ClassPool, EpisodeList, Setting, draw, episode_key
from bench.evaluation import adapted, fewshot
from bench.evaluation.embedding import embed_images
from bench.progress import Progress
from methods.method import AnchorTasks, Balanced, Batches, Episodes, Method, Pairs, Shuffled, Stages, Triplets

VALIDATIONS = 10  # points of the validation curve,
VALIDATE_EVERY = 25  # but no closer than so many steps
VALIDATION_EPISODES = 600
ADAPTED_VALIDATION_EPISODES = 60  # of methods that learn anew in each episode
VALIDATION_SETTINGS = ((5, 1, 15), (5, 5, 15))
METRIC = "validation/accuracy"


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        seconds: it took. images_per_s: it saw.
        best_validation: accuracy of the checkpoint that was kept; None without validation images.
        curves: ``loss`` and validation settings -> float64 ``[n, 2]`` of step and value.
    """

    seconds: float
    images_per_s: float
    best_validation: float | None
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
) -> Trained:
    """Train for ``method.hp.steps`` steps, and leave the best weights by validation in `method`.

    The method is handed base training images through `TrainingBatches`; validation images are embedded
    by the harness. Novel images are not reachable from here by the method.
    """
    steps = method.hp.steps
    for left_over in ("logs", "checkpoints"):  # of an earlier run of the same configuration
        shutil.rmtree(run_dir / left_over, ignore_errors=True)
    batches = TrainingBatches(data, split, method.batches(), normalise, seed, device, method.next_classes)
    # A divisor of the steps, so that the last weights are validated too and can be the best.
    soonest = min(steps, max(VALIDATE_EVERY, steps // VALIDATIONS))
    every = next(n for n in range(soonest, steps + 1) if steps % n == 0)
    validation = Validation(data, split, normalise, precision, every, method.fixed_embedding)
    checkpoint = ModelCheckpoint(
        dirpath=run_dir / "checkpoints",
        filename="best",
        monitor=METRIC,
        mode="max",
        save_weights_only=True,
        every_n_train_steps=validation.every,
        enable_version_counter=False,
    )
    with _quiet():
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device.type],
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=precision,  # type: ignore[arg-type]
            logger=[
                CSVLogger(run_dir, name="", version="logs"),
                TensorBoardLogger(run_dir, name="", version="logs"),
            ],
            callbacks=[_Meter(progress, steps), *([validation, checkpoint] if validation.possible else [])],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=validation.possible,
            num_sanity_val_steps=0,
            log_every_n_steps=max(1, min(50, steps // 10)),
        )
        started = time.perf_counter()
        try:
            trainer.fit(method, DataLoader(batches, batch_size=None))
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        seconds = time.perf_counter() - started
    if checkpoint.best_model_path:
        best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)
        method.load_state_dict(best["state_dict"])
    score = checkpoint.best_model_score
    return Trained(
        seconds=seconds,
        images_per_s=training_images(method) / seconds,
        best_validation=None if score is None else float(score),
        curves=_curves(run_dir / "logs" / "metrics.csv"),
    )


def _curves(log: Path) -> dict[str, np.ndarray]:
    """The curves that the CSV logger wrote; a method may have logged others besides, which are left out."""
    points: dict[str, list[tuple[float, float]]] = {}
    if log.is_file():
        with log.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for key, value in row.items():
                    if value and (key == "train/loss" or key.startswith("validation/")):
                        points.setdefault(key.rpartition("/")[2], []).append((int(row["step"]), float(value)))
    return {name: np.array(curve) for name, curve in points.items()}


def training_images(method: Method) -> int:
    """Images that the batches of a whole training hold."""
    spec, steps = method.batches(), method.hp.steps
    if isinstance(spec, Stages):
        first = min(spec.steps, steps)
        return first * images_per_batch(spec.first) + (steps - first) * images_per_batch(spec.then)
    return steps * images_per_batch(spec)


def images_per_batch(spec: Batches) -> int:
    """Images in one batch."""
    match spec:
        case Shuffled(images):
            return images
        case Balanced(classes, images):
            return classes * images
        case Pairs(pairs):
            return 2 * pairs
        case Triplets(triplets):
            return 3 * triplets
        case Episodes(way, shot, query, episodes):
            return episodes * way * (shot + query)
        case AnchorTasks(tasks, batches, anchors, negatives):
            return tasks * batches * (anchors + negatives)


class Validation(Callback):
    """Few-shot accuracy on validation images, logged every few steps: the mean of 5-way 1- and 5-shot.

    Where the split has no validation classes of its own, the images are unseen ones of base classes.
    Holds a copy of the validation images alone: a method can reach its trainer's callbacks.
    """

    def __init__(
        self,
        data: ImageSet,
        split: Split,
        normalise: Normaliser,
        precision: str,
        every: int,
        fixed_embedding: bool = True,
    ) -> None:
        self.images = data.images[split.validation_images]
        self.index = torch.arange(len(self.images))
        self.pool = ClassPool(data.labels[split.validation_images].numpy())
        self.normalise, self.precision, self.every = normalise, precision, every
        self.lists: dict[str, EpisodeList] = {}
        count = VALIDATION_EPISODES if fixed_embedding else ADAPTED_VALIDATION_EPISODES
        for way, shot, query in VALIDATION_SETTINGS:
            setting = Setting(way, shot, query, count)
            if len(self.pool.classes) >= way and self.pool.smallest >= shot + query:
                key = episode_key(data.fingerprint, f"{split.name}/validation", setting, seed=0)
                self.lists[setting.name] = draw(self.pool, key, setting)

    @property
    def possible(self) -> bool:
        """Whether there are validation images enough for an episode."""
        return bool(self.lists)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Validate after every `every` steps."""
        if trainer.global_step % self.every:
            return
        scores = self.scores(pl_module)
        mean = sum(scores.values()) / len(scores)
        curve = {METRIC: mean} | {f"validation/{name}": accuracy for name, accuracy in scores.items()}
        for (
            logger
        ) in trainer.loggers:  # at once: `log` would hold them back until the loss is due, and repeat them
            logger.log_metrics(curve, step=trainer.global_step)
        pl_module.log(METRIC, mean, logger=False)  # for the checkpoint and the progress bar

    def scores(self, method: Method) -> dict[str, float]:
        """Mean accuracy in each validation setting."""
        method.eval()
        try:
            where = (method, self.images, self.index, self.normalise, self.precision)
            if method.fixed_embedding:
                answers = partial(fewshot.evaluate, method, embed_images(*where))
            else:
                answers = partial(adapted.evaluate, *where)
            return {
                name: float(answers(self.pool, episodes).accuracies.mean())
                for name, episodes in self.lists.items()
            }
        finally:
            method.train()


class _Meter(Callback):
    """Feeds the progress bar."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.steps = progress, steps

    def on_train_start(self, trainer, pl_module) -> None:
        self.progress.start("training", self.steps, "steps")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        notes = {}
        # Reading the loss waits for the device, so only where a line is about to be drawn.
        if self.progress.due():
            logged = trainer.callback_metrics
            notes = {
                short: f"{float(logged[name]):.4f}"
                for short, name in (("loss", "train/loss"), ("validation", METRIC))
                if name in logged
            }
        self.progress.advance(1, **notes)

    def on_train_end(self, trainer, pl_module) -> None:
        self.progress.stop()


class _quiet:
    """Silences Lightning's notices about its own set-up; errors still pass."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("pytorch_lightning")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)
        self.filters = warnings.catch_warnings()
        self.filters.__enter__()
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*|torch\.optim\.lr_scheduler")

    def __exit__(self, *error: object) -> None:
        self.filters.__exit__(*error)  # type: ignore[arg-type]
        self.logger.setLevel(self.level)
