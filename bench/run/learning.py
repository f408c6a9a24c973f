"""From a prepared run to trained weights: its shared training, if any, and its own training."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch

from bench.common import clock, environment
from bench.common.clock import NOTHING, Spent
from bench.common.errors import UserError
from bench.common.progress import Progress
from bench.evaluation.answers import all_finite
from bench.records.parts import SharedTraining, Training
from bench.records.schema import CHECKPOINTS, MODEL_FILE
from bench.run import failures, models
from bench.run.devices import in_processes
from bench.run.locks import exclusive
from bench.run.outcome import Failed, Learned
from bench.run.plan import Options, Prepared
from bench.run.pretraining import obtain
from bench.run.trackers import tracked
from methods.base_classifier import BaseClassifier

if TYPE_CHECKING:
    from bench.training.loop import Trained


def learn(prepared: Prepared, options: Options, progress: Progress) -> Learned:
    """Load or train the weights of a run's method; reset the random generators to the seed afterwards.

    Raises:
        Locked: another process is making the shared training.
        Failed: a training diverges.
    """
    config, method, stage = prepared.config, prepared.method, prepared.start
    pretraining = shared = None
    before = clock.now()
    if stage:
        try:
            found, earliest = share(stage, options, progress)
        except Failed as failure:  # its cost does not count for this run
            failure.steps, failure.spent, failure.earlier = 0, NOTHING, NOTHING
            failure.learned = Learned(None, Training.none(), clock.now() - before)
            raise
        if isinstance(stage.method, BaseClassifier):
            pretraining = found
            method.start_from(stage.method)
        else:
            shared, pretraining = found, earliest
            method.load_state_dict(stage.method.state_dict())
    not_own = clock.now() - before
    if shared or not (config.train and method.training_steps):
        pl.seed_everything(config.seed, verbose=False)
        return Learned(pretraining, Training.none(), not_own, shared)
    compiled = _compiled(prepared) if options.devices == 1 else False
    stamp = pretraining.model if pretraining else ""
    try:
        given = (options.runs / prepared.run_id, compiled, stamp, options.devices, options.loggers)
        if options.devices == 1:
            trained = _train(prepared, 0, *given, progress)
        else:
            trained = in_processes(prepared, options.devices, _train, *given)
    except Failed as failure:
        failure.learned = Learned(pretraining, Training.none(), not_own, None, failure.earlier, compiled)
        raise
    pl.seed_everything(config.seed, verbose=False)  # however often training was interrupted
    training = _cost(prepared, trained, trained.spent, compiled, options.devices)
    return Learned(pretraining, training, not_own, None, trained.earlier, compiled, trained.curves)


def share(
    stage: Prepared, options: Options, progress: Progress
) -> tuple[SharedTraining, SharedTraining | None]:
    """Load the shared weights into the stage's method, or train them; also returns their own pretraining."""
    folder = options.runs / stage.run_id

    def train() -> None:
        before = clock.now()
        learned = learn(stage, options, progress)
        spent = clock.now() - before - learned.not_own + learned.earlier
        training = learned.training.model_copy(update=spent._asdict())
        models.save(stage, folder, {}, training, learned.pretraining)
        # A stage that is also recorded as a run resumes from its last checkpoint, after the last step.
        if isinstance(stage.method, BaseClassifier):
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)

    with exclusive(stage.run_id, options.results, options.runs):
        return obtain(stage.method, folder, stage.identity.sha256, train)


def _cost(prepared: Prepared, trained: Trained, spent: Spent, compiled: bool, devices: int) -> Training:
    device = f"{devices} x " * (devices > 1) + environment.device_name(prepared.device)
    where = f"{device}, {prepared.precision}, {torch.get_num_threads()} threads"
    return Training(
        steps=trained.steps,
        kept_step=trained.kept_step,
        images=trained.images,
        where=f"{where}, compiled" if compiled else where,
        **spent._asdict(),
    )


def _compiled(prepared: Prepared) -> bool:
    from bench.training.compilation import compile_training

    size = prepared.data.images.shape[-1]
    return compile_training(prepared.method, size, prepared.precision, prepared.device)


def _train(
    prepared: Prepared,
    rank: int,
    run_dir: Path,
    compiled: bool,
    start: str,
    devices: int,
    trackers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Trained:
    """Train the prepared method, from the start or from the last checkpoint of the same code.

    With several devices, this is process number `rank` of as many; only the first shows progress.

    Raises:
        Failed: it diverges.
    """
    from bench.training.callbacks import Diverged
    from bench.training.loop import train

    config, method = prepared.config, prepared.method
    # The method's random numbers must not depend on what ran before.
    pl.seed_everything(config.seed, verbose=False)
    what = "pretraining" if isinstance(method, BaseClassifier) else "training"
    made_by = (prepared.identity.sha256, environment.package_versions(), prepared.precision)
    # Of several devices that are not alike, the first one's name, so that all resume at the same step.
    device = torch.device(prepared.device.type, 0) if devices > 1 else prepared.device
    where = f"{environment.device_name(device)} {torch.get_num_threads()} {compiled} {devices}"
    stamp = f"{made_by} {where} {start}"
    shown = progress or Progress(io.StringIO() if rank else sys.stderr)
    try:
        with tracked(() if rank else trackers, prepared, run_dir) as loggers:
            trained = train(
                method,
                prepared.data,
                prepared.split,
                prepared.normalise,
                seed=config.seed,
                precision=prepared.precision,
                device=prepared.device,
                run_dir=run_dir,
                progress=shown,
                stamp=stamp,
                compiled=compiled,
                what=what,
                tensorboard=not config.brief,  # importing it takes a second
                rank=rank,
                devices=devices,
                augment=config.augment,
                loggers=loggers,
            )
    except Diverged as error:
        if error.kept and rank == 0:
            models.save(prepared, run_dir, {})
        best = run_dir / MODEL_FILE if error.kept else None
        raise Failed(what, str(error), error.step, best, error.spent, error.earlier) from None
    except OSError as error:
        if error.errno not in failures.UNWRITABLE:
            raise
        raise UserError("--runs", run_dir, f"must be writable ({error.strerror})") from error
    finally:
        shown.stop()
    if not all_finite(method):
        problem = "its weights are not finite"
        raise Failed(what, problem, method.training_steps, None, trained.spent, trained.earlier)
    return trained
