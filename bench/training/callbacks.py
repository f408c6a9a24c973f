"""Callbacks of the training: curves, validation, progress, and a stop when training diverges."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from bench.common.clock import Spent
from bench.common.progress import Progress
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation import adapted, budget, fewshot
from bench.evaluation.answers import NotFinite, all_finite
from bench.evaluation.embedding import embed_images
from bench.evaluation.settings import VALIDATION_SETTINGS
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import validation_key
from bench.training.checkpoints import Resumable
from methods.method import Method

LOOK_EVERY = 10  # steps between reads of the loss on a device where reading waits
METRIC = "validation/accuracy"
LOSS = "train/loss"


class Diverged(Exception):
    """The loss became NaN or infinite.

    Attributes:
        step: number of steps when this was detected.
        spent: time spent on training. earlier: the part before an interruption.
        kept: whether the best weights so far are in the method.
    """

    kept = False

    def __init__(self, step: int, spent: Spent, earlier: Spent) -> None:
        super().__init__(f"the loss is NaN or infinite at step {step}")
        self.step, self.spent, self.earlier = step, spent, earlier


class Curves(Callback):
    """Training loss every `every` steps, and other curves; part of every checkpoint."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.points: dict[str, list[list[float]]] = {}

    def add(self, name: str, step: int, value: float) -> None:
        """Add a point to the curve `name`."""
        self.points.setdefault(name, []).append([step, value])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Record the loss."""
        if trainer.global_step % self.every == 0 and LOSS in trainer.callback_metrics:
            self.add("loss", trainer.global_step, float(trainer.callback_metrics[LOSS]))

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves of a checkpoint."""
        self.points = state_dict["points"]


class Divergence(Callback):
    """Stops training when the loss becomes NaN or infinite.

    Args:
        clock: knows the time spent on training.

    Raises:
        Diverged: from ``Trainer.fit``.
    """

    def __init__(self, clock: Resumable) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Check the loss."""
        if pl_module.device.type != "cpu" and trainer.global_step % LOOK_EVERY:
            return
        loss = trainer.callback_metrics.get(LOSS)
        if loss is not None and not torch.isfinite(loss):
            raise Diverged(trainer.global_step, self.clock.spent(), self.clock.earlier)


class Validation(Callback):
    """Few-shot accuracy on validation images, logged every few steps: the mean of 5-way 1- and 5-shot.

    If the split has no validation classes, the images are unseen images of base classes.
    Holds only a copy of the validation images, because a method can access its trainer's callbacks.
    Keeps the weights of the first step with the highest accuracy; they are part of every checkpoint.

    Args:
        data, split, normalise, precision: as for the evaluation.
        every: steps between validations; the last validation comes after the last step.
        curves: where accuracies are recorded.
        fixed_embedding: whether images are embedded once; otherwise there are fewer episodes.
        start: also validate the starting weights, as step 0.
    """

    def __init__(
        self,
        data: ImageSet,
        split: Split,
        normalise: Normaliser,
        precision: str,
        every: int,
        curves: Curves,
        fixed_embedding: bool = True,
        start: bool = False,
    ) -> None:
        self.start = start
        self.images = data.images[split.validation_images]
        self.index = torch.arange(len(self.images))
        self.pool = ClassPool(data.labels[split.validation_images].numpy())
        self.normalise, self.precision, self.every, self.curves = normalise, precision, every, curves
        self.best: dict[str, Any] | None = None
        self.lists: dict[str, EpisodeList] = {}
        # Adapting to more episodes than there were steps would take longer than the training.
        adapting = min(budget.FULL.adapted_validation_episodes, every)
        count = budget.FULL.validation_episodes if fixed_embedding else adapting
        for way, shot, query in VALIDATION_SETTINGS:
            setting = Setting(way, shot, query, count)
            if len(self.pool.with_images(setting.images)) >= way:
                key = validation_key(data.drawn_by, split.name, setting)
                self.lists[setting.name] = draw(self.pool, key, setting)

    @property
    def possible(self) -> bool:
        """Whether there are enough validation images for an episode."""
        return bool(self.lists)

    def on_train_start(self, trainer, pl_module) -> None:
        """Validate the starting weights."""
        if self.start and trainer.global_step == 0:
            self.validate(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Validate every `every` steps and after the last step."""
        step = trainer.global_step
        left = trainer.max_steps - step
        if left == 0 or (step % self.every == 0 and left >= self.every):
            mean = self.validate(trainer, pl_module)
            pl_module.log(METRIC, mean, logger=False)  # for the progress bar

    def validate(self, trainer, pl_module) -> float:
        """Measure and log the accuracy; keep the weights if it is the highest so far."""
        step = trainer.global_step
        scores = self.scores(pl_module)
        mean = sum(scores.values()) / len(scores)
        curve = {METRIC: mean} | {f"validation/{name}": accuracy for name, accuracy in scores.items()}
        # Logged directly: `log` would delay them until the next loss, and repeat them.
        for logger in trainer.loggers:
            logger.log_metrics(curve, step=step)
        for name, accuracy in curve.items():
            self.curves.add(name, step, accuracy)
        # If the weights are not finite, training is about to stop.
        if (self.best is None or mean > self.best["accuracy"]) and all_finite(pl_module):
            weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
            self.best = {"accuracy": mean, "step": step, "weights": weights}
        return mean

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best weights."""
        self.best = state_dict["best"]

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
        except NotFinite:
            if all_finite(method):
                raise
            return dict.fromkeys(self.lists, 0.0)  # the next check of the loss or weights stops training
        finally:
            method.train()


class Meter(Callback):
    """Updates the progress bar."""

    def __init__(self, progress: Progress, what: str, steps: int, start: int) -> None:
        self.progress, self.what, self.steps, self.start = progress, what, steps, start

    def on_train_start(self, trainer, pl_module) -> None:
        """Show the bar."""
        self.progress.start(self.what, self.steps, "steps", self.start)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Count a step."""
        notes = {}
        # Reading the loss waits for the device, so do it only before drawing.
        if self.progress.due():
            logged = trainer.callback_metrics
            notes = {
                short: f"{float(logged[name]):.4f}"
                for short, name in (("loss", LOSS), ("validation", METRIC))
                if name in logged
            }
        self.progress.advance(1, **notes)

    def on_train_end(self, trainer, pl_module) -> None:
        """Remove the bar."""
        self.progress.stop()
