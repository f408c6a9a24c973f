"""One run: data -> train -> evaluate -> record."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pydantic import ValidationError

from bench import environment, failures, models, records
from bench.config import RunConfig
from bench.errors import UserError
from bench.evaluation import contract
from bench.evaluation.answers import all_finite
from bench.evaluation.protocol import Evaluation, Evaluator, episode_arrays
from bench.failures import Failed
from bench.files import write_files
from bench.locks import alone, in_turn
from bench.preparation import Options, Prepared, prepare
from bench.progress import Progress
from bench.record import MODEL_FILE
from bench.recording import describe, make_record
from bench.records import Record

if TYPE_CHECKING:
    from bench.training import Trained


def run_all(grid: Sequence[RunConfig], options: Options) -> Iterator[tuple[Path, Record]]:
    """Run several configurations one after another, each checked before the first one trains.

    What another process is making is left for later: its record is read when it is there, and the run is
    made here if the other process ends without one.

    Yields:
        The path and content of each one's record, in the order in which they are there.

    Raises:
        UserError: one of them cannot run here.
    """
    progress = Progress()
    try:
        if len(grid) > 1:
            for config in grid:
                prepare(config, options)
        begun, where = datetime.now(UTC), (options.results, options.runs)
        yield from in_turn(grid, lambda config: run(config, options, progress, begun), where, _say)
    finally:
        progress.stop()


def run(
    config: RunConfig, options: Options, progress: Progress, begun: datetime | None = None
) -> tuple[Path, Record]:
    """Run one configuration, or find its record.

    Args:
        config, options: what to run, and where.
        progress: where it is shown.
        begun: a record that another process has written since then is not overwritten.

    Returns:
        The record's path and content; a training that diverges leaves a record too, with its `failure`.

    Raises:
        Locked: another process is making this run.
        UserError: the configuration cannot run here.
        KeyboardInterrupt: Ctrl-C; nothing is recorded then.
    """
    started = time.perf_counter()
    environment.keep_freed_memory()
    prepared = prepare(config, options)
    with alone(prepared.run_id, options.results, options.runs):
        recorded = records.find(options.results, prepared.run_id)
        if recorded and not options.overwrite:
            _say(f"{prepared.run_id} is recorded already; --overwrite runs it again")
            return recorded, records.read(recorded)
        if recorded and begun:
            there = records.read_or_say(recorded)
            if isinstance(there, Record) and there.created > begun:
                _say(f"{prepared.run_id} was made by another process in the meantime")
                return recorded, there
        _name_relatives(prepared, options.results)
        try:
            with failures.blamed(config.method):
                return _run(prepared, options, progress, started)
        except (MemoryError, RuntimeError) as error:
            if not failures.out_of_memory(error):
                raise
            lower = failures.what_to_lower(config.hyperparameters)
            raise UserError("--device", environment.device_name(prepared.device), lower) from None


def _name_relatives(prepared: Prepared, results: Path) -> None:
    """Say which records have the same configuration, but were made by other code or of other images."""
    for path in sorted(results.glob(f"{prepared.run_id.rpartition('_')[0]}_*.json")):
        other = records.read_or_say(path)
        with suppress(ValidationError):
            if isinstance(other, Record) and RunConfig.model_validate(other.config) == prepared.config:
                _say(f"{path} has this configuration, but other code or other images; it is not used")


def _run(prepared: Prepared, options: Options, progress: Progress, started: float) -> tuple[Path, Record]:
    config = prepared.config
    split = prepared.split
    _check_contract(prepared, split.validation_images, split.base_test, split.train)
    _say(describe(prepared))
    run_dir = options.runs / prepared.run_id
    write_files({run_dir / "config.yaml": config.to_yaml().encode()}, "--runs", alone=True)
    method, device = prepared.method, prepared.device
    # What a method draws at random must not depend on what was prepared before it.
    pl.seed_everything(config.seed, verbose=False)
    trained, compiled = None, False
    if config.train:
        from bench.compilation import compile_training

        size = prepared.data.images.shape[-1]
        compiled = compile_training(method, size, prepared.precision, device)
        try:
            trained = _train(prepared, run_dir, progress, compiled)
        except Failed as failure:
            timings = records.Timings(
                data_s=prepared.data_s,
                train_s=failure.seconds,
                evaluate_s=0.0,
                total_s=time.perf_counter() - started + failure.earlier,
                steps=failure.steps,
            )
            record = make_record(prepared, options, Evaluation(), timings, str(failure), compiled=compiled)
            shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
            return records.write(record, options.results), record
        pl.seed_everything(config.seed, verbose=False)  # however often training was interrupted
    method.to(device).eval()
    evaluation_started = time.perf_counter()
    _check_contract(prepared, split.novel_images, split.base_test)
    evaluator = Evaluator(
        method,
        prepared.data,
        prepared.split,
        prepared.normalise,
        prepared.precision,
        progress,
        brief=config.brief,
    )
    evaluation = evaluator.run(prepared.settings, prepared.measured)
    evaluate_s = time.perf_counter() - evaluation_started
    timings = records.Timings(
        data_s=prepared.data_s,
        train_s=trained.seconds if trained else 0.0,
        evaluate_s=evaluate_s,
        total_s=time.perf_counter() - started + (trained.earlier if trained else 0.0),
        steps=config.hyperparameters["steps"] if trained else 0,
        train_images_per_s=trained.images_per_s if trained else None,
        episodes_per_s=evaluation.episodes / evaluate_s if evaluation.episodes else None,
        peak_memory_mib=environment.peak_memory_mib(),
    )
    model = models.save(prepared, run_dir, evaluation.thresholds)
    record = make_record(prepared, options, evaluation, timings, model=model, compiled=compiled)
    arrays = episode_arrays(evaluation)
    for name, curve in (trained.curves if trained else {}).items():
        arrays[f"curve/{name}"] = curve
    imprinted = run_dir / "imprinted"
    shutil.rmtree(imprinted, ignore_errors=True)  # of an earlier run of the same configuration
    if networks := {imprinted / name: content for name, content in evaluation.networks.items()}:
        write_files(networks, "--runs", alone=True)
    path = records.write(record, options.results, arrays)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)  # nothing is left to resume
    return path, record


def _check_contract(prepared: Prepared, *parts: torch.Tensor) -> None:
    method = prepared.method.to(prepared.device)
    contract.check(method, prepared.data, parts, prepared.normalise, prepared.precision)


def _train(prepared: Prepared, run_dir: Path, progress: Progress, compiled: bool) -> Trained:
    """Train the prepared method, from the start or from where an interrupted run of the same code stopped.

    Raises:
        Failed: it diverges.
    """
    from bench.callbacks import Diverged
    from bench.training import train

    config, method = prepared.config, prepared.method
    made_by = (prepared.identity.sha256, environment.package_versions(), prepared.precision)
    stamp = f"{made_by} {environment.device_name(prepared.device)} {torch.get_num_threads()} {compiled}"
    try:
        trained = train(
            method,
            prepared.data,
            prepared.split,
            prepared.normalise,
            seed=config.seed,
            precision=prepared.precision,
            device=prepared.device,
            run_dir=run_dir,
            progress=progress,
            stamp=stamp,
            compiled=compiled,
        )
    except Diverged as error:
        if error.kept:
            models.save(prepared, run_dir, {})
        best = run_dir / MODEL_FILE if error.kept else None
        raise Failed(str(error), error.step, best, error.seconds, error.earlier) from None
    except OSError as error:
        if error.errno not in failures.UNWRITABLE:
            raise
        raise UserError("--runs", run_dir, f"a place that can be written to ({error.strerror})") from error
    if not all_finite(method):
        steps = config.hyperparameters["steps"]
        raise Failed("its weights are not finite", steps, None, trained.seconds, trained.earlier)
    return trained


def _say(message: Any) -> None:
    print(message, file=sys.stderr, flush=True)
