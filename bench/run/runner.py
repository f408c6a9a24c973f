"""One run: data -> train -> evaluate -> record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import ValidationError

from bench.common import clock, environment
from bench.common.clock import Spent
from bench.common.files import write_files
from bench.common.progress import Progress
from bench.common.streams import say, say_lines
from bench.config.grid import Grid, LeftOut, cell_of
from bench.config.run_config import RunConfig, method_info
from bench.evaluation import contract
from bench.evaluation.protocol import Evaluation, Evaluator, episode_arrays
from bench.records import store
from bench.records.identity import with_defaults
from bench.records.naming import CURVE
from bench.records.parts import Timings
from bench.records.schema import CHECKPOINTS, CONFIG_FILE
from bench.records.store import Record
from bench.run import failures, models
from bench.run.frozen import frozen_features
from bench.run.learning import learn
from bench.run.locks import exclusive, make_all
from bench.run.materials import Materials
from bench.run.outcome import Failed
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from bench.run.recording import describe, make_record
from bench.run.rehearsal import rehearse


def run_all(grid: Sequence[RunConfig], options: Options) -> Iterator[tuple[Path, Record]]:
    """Run several configurations one after another; all are checked before the first one trains.

    A run that another process is making is postponed: its record is read later, or the run is made here if
    the other process ends without a record.

    Yields:
        Path and content of each record, in the order in which the runs finish.

    Raises:
        UserError: one of them cannot run here, and the grid does not leave out those that cannot.
    """
    environment.keep_freed_memory()
    begun = datetime.now(UTC)
    yield from run_prepared(_prepared(grid, options), options, begun)


def _prepared(grid: Sequence[RunConfig], options: Options) -> list[Prepared]:
    """The runs of a grid, all prepared before the first one is rehearsed; of several seeds only one is."""
    materials, left_out = Materials(options), LeftOut()
    optional = grid.optional if isinstance(grid, Grid) else []
    prepared, ready, rehearsed = [], [], set()
    for config in grid:
        with left_out.attempt(cell_of(config), config.method, config in optional):
            prepared.append(prepare(config, options, materials))
    for one in prepared:
        steps = str(one.config.model_dump(exclude={"seed"}))
        with left_out.attempt(cell_of(one.config), one.config.method, one.config in optional):
            if steps not in rehearsed and is_rehearsed(one, options):
                rehearse(one)
                rehearsed.add(steps)
            ready.append(one)
    left_out.report({cell_of(one.config) for one in ready})
    return ready


def is_rehearsed(run: Prepared, options: Options) -> bool:
    """Whether a run is rehearsed: it is not recorded, and longer than a smoke run as its preset has it."""
    recorded = store.find(options.results, run.run_id) and not options.overwrite
    return not recorded and bool(not run.config.brief or run.config.overrides)


def run_prepared(
    prepared: Iterable[Prepared], options: Options, begun: datetime
) -> Iterator[tuple[Path, Record]]:
    """`run` each, as they become free; `begun` is when the command did."""
    progress = Progress()
    try:
        where = (options.results, options.runs)
        yield from make_all(prepared, lambda one: run(one, options, progress, begun), where, say)
    finally:
        progress.stop()


def run(
    prepared: Prepared, options: Options, progress: Progress, begun: datetime | None = None
) -> tuple[Path, Record]:
    """Make a prepared run, or return its existing record.

    Args:
        prepared: the run; it can be made once.
        options: of the run.
        progress: shows the progress.
        begun: a record that another process has written since this time is not overwritten.

    Returns:
        The record's path and content; a diverged training also gives a record, with its `failure`.

    Raises:
        Locked: another process is making this run.
        UserError: the configuration cannot run here.
        KeyboardInterrupt: Ctrl-C; nothing is recorded.
    """
    config, started = prepared.config, clock.now() - prepared.spent
    with exclusive(prepared.run_id, options.results, options.runs):
        recorded = store.find(options.results, prepared.run_id)
        if recorded and not options.overwrite:
            record = store.read(recorded)
            lost = record.failure is None and not models.exists(options.runs / prepared.run_id)
            problem = f", but its model is not in {options.runs}" if lost else ""
            say(f"{prepared.run_id} is already recorded{problem}; --overwrite runs it again")
            return recorded, record
        if recorded and begun:
            there = store.try_read(recorded)
            if isinstance(there, Record) and there.created > begun:
                say(f"{prepared.run_id} was recorded by another process in the meantime")
                return recorded, there
        _name_relatives(prepared, options.results)
        with failures.explained(config, environment.device_name(prepared.device)):
            return _run(prepared, options, progress, started)


def _name_relatives(prepared: Prepared, results: Path) -> None:
    """Report records with the same configuration but other code or other images."""
    info = method_info(prepared.config.method)
    for path in sorted(store.whole(results).rglob(f"{prepared.run_id.rpartition('_')[0]}_*.json")):
        other = store.try_read(path)
        if not isinstance(other, Record):
            continue
        with suppress(ValidationError):
            if with_defaults(RunConfig.model_validate(other.config), info) == prepared.config:
                say(f"{path} has the same configuration but other code or images, so it is not reused")


def _run(prepared: Prepared, options: Options, progress: Progress, started: Spent) -> tuple[Path, Record]:
    config, split, method, device = prepared.config, prepared.split, prepared.method, prepared.device
    _check_contract(prepared, split.validation_images, split.base_test, split.train)
    say_lines(describe(prepared))
    run_dir = options.runs / prepared.run_id
    write_files({run_dir / CONFIG_FILE: config.to_yaml().encode()}, "--runs", exclusive=True)
    try:
        learned = learn(prepared, options, progress)
    except Failed as failure:
        spent = clock.now() - started + failure.earlier
        if failure.learned:
            spent -= failure.learned.not_own
        timings = Timings(
            data_s=prepared.data_s,
            train_s=failure.spent.seconds,
            evaluate_s=0.0,
            total_s=spent.seconds,
            processor_s=spent.processor_s,
            steps=failure.steps,
        )
        record = make_record(prepared, options, Evaluation(), timings, failure.learned, failure=str(failure))
        shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)
        return store.write(record, options.results), record
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
        augment=config.augment,
        frozen=frozen_features(prepared),
    )
    evaluation = evaluator.run(prepared.plan)
    evaluate_s = time.perf_counter() - evaluation_started
    training = learned.training
    spent = clock.now() - started - learned.not_own + learned.earlier
    timings = Timings(
        data_s=prepared.data_s,
        train_s=training.seconds,
        evaluate_s=evaluate_s,
        total_s=spent.seconds,
        processor_s=spent.processor_s,
        steps=training.steps,
        train_images_per_s=training.images / training.seconds if training.steps else None,
        episodes_per_s=evaluation.episodes / evaluate_s if evaluation.episodes else None,
        peak_memory_mib=environment.peak_memory_mib(),
    )
    cost = training if config.train else None
    model = models.save(prepared, run_dir, evaluation.thresholds, cost, learned.pretraining)
    record = make_record(prepared, options, evaluation, timings, learned, model)
    arrays = episode_arrays(evaluation)
    for name, curve in learned.curves.items():
        arrays[f"{CURVE}/{name}"] = curve
    joined = run_dir / models.JOINED
    shutil.rmtree(joined, ignore_errors=True)  # from an earlier run of the same configuration
    if networks := {joined / name: content for name, content in evaluation.networks.items()}:
        write_files(networks, "--runs", exclusive=True)
    path = store.write(record, options.results, arrays)
    shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)  # no longer needed to resume
    return path, record


def _check_contract(prepared: Prepared, *parts: torch.Tensor) -> None:
    method = prepared.method.to(prepared.device)
    contract.check(method, prepared.data, parts, prepared.normalise, prepared.precision)
