"""What a process of a sweep does: one job after another, and tells how each ended."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.common.environment import device_name, keep_freed_memory
from bench.common.errors import UserError
from bench.common.files import write_files
from bench.common.progress import Progress
from bench.records.commands import command_of
from bench.records.schema import CONFIG_FILE, LAST_CHECKPOINT, MODEL_FILE
from bench.run.failures import explained
from bench.run.learning import share
from bench.run.locks import Locked
from bench.run.models import CARD, JOINED
from bench.run.outcome import Failed
from bench.run.plan import Options
from bench.run.preparation import prepare
from bench.run.runner import run
from bench.run.sweep.jobs import Job

LOGS = "logs"
"""Folder under ``--runs`` for what each job prints."""

Files = dict[Path, bytes]


class Outcome(NamedTuple):
    """How a job ended.

    Attributes:
        failure: why there is no result, in one line; the empty string if there is one.
        locked: another process is making it: to be looked at again.
        files: of the result, where the engine collects them.
    """

    failure: str = ""
    locked: bool = False
    files: Files | None = None


def work(job: Job, options: Options, folder: Path, given: Files, collect: bool) -> Outcome:
    """Do one job. What it prints goes to a log.

    Args:
        job, options: what to do, and where; folders are absolute.
        folder: that relative paths of configurations start from.
        given: files of the training that it needs, if this machine may not have them.
        collect: hand over the files of the result.
    """
    log = options.runs / LOGS / f"{job.name}.log"
    try:
        if folder.is_dir():
            os.chdir(folder)
            if str(folder) not in sys.path:  # for modules of the user's own methods
                sys.path.append(str(folder))
        write_missing(given, "--runs", _with_other_weights(given))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="replace") as stream:  # noqa: SIM117
            with redirect_stdout(stream), redirect_stderr(stream):
                try:
                    failure = _make(job, options)
                except Locked:
                    return Outcome(locked=True)
                except UserError as error:
                    failure = str(error)
                except (Exception, SystemExit) as error:
                    traceback.print_exc()
                    failure = f"{type(error).__name__}: {error} (see {log})"
    except (OSError, UserError) as error:
        failure = f"--runs {options.runs}: {error}"
    made = not failure or (not job.shared and (options.results / f"{job.name}.json").is_file())
    return Outcome(failure, files=files_of(job, options) if collect and made else None)


def given_for(job: Job, options: Options) -> Files:
    """The files of the finished trainings that a job can use: its own, and the one that it needs."""
    names = filter(None, (job.needs, job.name))
    found = [files_of(replace(job, name=name, shared=True, needs=None), options) for name in names]
    return {path: content for files in found for path, content in files.items()}


def files_of(job: Job, options: Options) -> Files:
    """The files of a finished job: its record and model, or the training that others start from.

    A diverged run has a record too, and perhaps its best weights so far.
    """
    folder, results = options.runs / job.name, options.results
    paths = [folder / MODEL_FILE, folder / CARD]
    if job.shared:  # a run with the same training resumes after its last step
        paths.append(folder / LAST_CHECKPOINT)
    else:
        paths += [folder / CONFIG_FILE, *sorted((folder / JOINED).glob("*"))]
        paths += [results / f"{job.name}.npz", results / f"{job.name}.json"]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def write_missing(files: Files, flag: str, renewed: Collection[Path] = ()) -> None:
    """Write those of the files that are not there yet, and all that are in the folders `renewed`.

    Raises:
        UserError: one cannot be written; the message names `flag`.
    """
    wanted = {
        path: content
        for path, content in files.items()
        if not path.exists() or any(folder in path.parents for folder in renewed)
    }
    if wanted:
        write_files(wanted, flag)


def _with_other_weights(files: Files) -> set[Path]:
    """Folders that have other weights than the files: this machine trained them itself.

    They are replaced, because all runs of a shared training start from the same weights.
    """
    weights = {path: content for path, content in files.items() if path.name == MODEL_FILE}
    return {path.parent for path, own in weights.items() if path.is_file() and path.read_bytes() != own}


def _make(job: Job, options: Options) -> str:
    """Make the record or the shared training; why a training diverged, or the empty string."""
    keep_freed_memory()
    progress = Progress(sys.stderr)
    try:
        prepared = prepare(job.config, options)
        stage = prepared.start if job.shared else prepared
        while stage and stage.run_id != job.name:
            stage = stage.start if job.shared else None
        if stage is None:
            raise UserError(
                "--engine", job.name, "the worker has another version of the code, or other images"
            )
        if not job.shared:
            alone = replace(options, command=shlex.join(command_of(job.config.model_dump())))
            return run(prepared, alone, progress)[1].failure or ""
        with explained(job.config, device_name(stage.device)):
            share(stage, options, progress)
    except Failed as failed:
        return str(failed)
    finally:
        progress.stop()
    return ""
