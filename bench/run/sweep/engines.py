"""Where the jobs of a sweep are done: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import bench
from bench.common.environment import available_cores, pick_device
from bench.common.errors import UserError, one_line, with_extra
from bench.run.plan import Options
from bench.run.processes import THREADS, replace_environment, start_method
from bench.run.sweep.jobs import Job
from bench.run.sweep.worker import Files, Outcome, given_for, work, write_missing

LOST = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "ObjectLostError", "OutOfMemoryError")
"""Ray's errors that mean that a worker is gone, so that its job is started again."""


class Engine(ABC):
    """Takes jobs, and gives back how they ended, in the order in which they end."""

    @abstractmethod
    def free(self) -> bool:
        """Whether another job can be submitted now."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Start a job."""

    @abstractmethod
    def ended(self, seconds: float) -> Iterator[tuple[Job, Outcome | None]]:
        """The jobs that end within so many seconds, if any; None where the worker was lost."""

    @abstractmethod
    def close(self) -> None:
        """Stop whatever still runs; it resumes from its checkpoint another time."""


class Local(Engine):
    """One process per slot; a job that kills its process does not affect other jobs.

    Args:
        options: where things are and go.
        slots: how many jobs run at once.
    """

    def __init__(self, options: Options, slots: int) -> None:
        self.options = absolute(options)
        # Processes inherit it. A number in the user's shell is for one process: at most that many for each.
        planned, given = max(1, available_cores() // slots), os.environ.get(THREADS, "")
        os.environ[THREADS] = str(min(planned, int(given)) if given.isdecimal() and int(given) else planned)
        gpus = _gpus(options.device)
        self.devices = [f"cuda:{slot % gpus}" if gpus else options.device for slot in range(slots)]
        self.pools: list[ProcessPoolExecutor | None] = [None] * slots
        self.running: dict[Future, tuple[Job, int]] = {}

    def free(self) -> bool:
        """Whether a slot is free."""
        return len(self.running) < len(self.pools)

    def submit(self, job: Job) -> None:
        """Start it in the first free slot."""
        taken = {slot for _, slot in self.running.values()}
        slot = next(number for number in range(len(self.pools)) if number not in taken)
        options = replace(self.options, device=self.devices[slot])
        task = partial(work, job, options, Path.cwd(), {}, False)
        try:
            future = self._pool(slot).submit(task)
        except BrokenProcessPool:  # the process died after its last job
            self.pools[slot] = None
            future = self._pool(slot).submit(task)
        self.running[future] = job, slot

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        pool = self.pools[slot]
        if pool is None:
            # A new process for each job: its peak memory is its own, and nothing leaks into the next one.
            context = multiprocessing.get_context(start_method())
            pool = ProcessPoolExecutor(1, context, _begin, (dict(os.environ),), max_tasks_per_child=1)
            self.pools[slot] = pool
        return pool

    def ended(self, seconds: float) -> Iterator[tuple[Job, Outcome | None]]:
        """Futures that are done; a slot whose process died gets a new one."""
        done, _ = wait(self.running, seconds, FIRST_COMPLETED)
        for future in done:
            job, slot = self.running.pop(future)
            error = future.exception()
            if error is None:
                yield job, future.result()
            elif isinstance(error, BrokenProcessPool | KeyboardInterrupt):
                self.pools[slot] = None
                yield job, None
            else:
                yield job, Outcome(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End the processes."""
        for pool in self.pools:
            if pool is not None:
                pool.shutdown(wait=not self.running, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()


class OnRay(Engine):
    """Each job is a task of a Ray cluster, which is started here if there is none.

    Nodes need this package and, at the same paths, the folders that configurations name; folders for results
    and runs may be shared or each node's own, since records and models are collected.

    Args:
        options: of all runs.
        address: of a running cluster; None starts one on this machine.
        at_once: how many jobs run at most; None means as many as the cluster has GPUs, or CPUs without one.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, options: Options, address: str | None, at_once: int | None = None) -> None:
        self.ray = ray = imported_ray()
        self.options = absolute(options)
        self.flag = ("--address", address) if address else ("--engine", "ray")
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            # Workers import from the driver's working directory first, where a user may have a folder
            # `methods/`. So Ray is started in the bench's own folder; `work` appends the working directory.
            with chdir(Path(bench.__file__).parents[1]):
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises this if it cannot start
            token = ", or it needs RAY_AUTH_MODE=token" if address else ""
            raise UserError(*self.flag, f"there is no Ray cluster{token} ({error})") from None
        signal.signal(signal.SIGTERM, on_term)  # Ray has replaced it
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0) if options.device != "cpu" else 0
        self.at_once = at_once or max(1, int(gpus or resources.get("CPU", 1)))
        # Lost workers are counted by the driver, as with the local engine.
        given = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "max_retries": 0, "max_calls": 1}
        self.task: Any = ray.remote(**given)(_on_node)
        self.running: dict[Any, Job] = {}

    def free(self) -> bool:
        """Whether another job may start."""
        return len(self.running) < self.at_once

    def submit(self, job: Job) -> None:
        """Submit it, with the trainings that it can use: its node may not have them."""
        given = given_for(job, self.options)
        with self._reached():
            self.running[self.task.remote(job, self.options, Path.cwd(), given)] = job

    def ended(self, seconds: float) -> Iterator[tuple[Job, Outcome | None]]:
        """Tasks that are done; their files are written here."""
        errors = self.ray.exceptions
        with self._reached():
            done, _ = self.ray.wait(list(self.running), timeout=seconds)
        for ref in done:
            job = self.running.pop(ref)
            try:
                outcome = self.ray.get(ref)
            except errors.RayError as error:
                lost = isinstance(error, tuple(getattr(errors, name) for name in LOST))
                yield job, None if lost else Outcome(one_line(f"{type(error).__name__}: {error}"))
                continue
            except ConnectionError as error:
                raise self._lost(error) from None
            # A run may have the folder of its shared training, whose card lacks the run's thresholds.
            renewed = () if job.shared else (self.options.runs / job.name,)
            try:
                write_missing(outcome.files or {}, "--results or --runs", renewed)
            except UserError as error:
                outcome = Outcome(str(error))
            yield job, outcome

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (self.ray.exceptions.RayError, ConnectionError) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> UserError:
        return UserError(*self.flag, one_line(f"the Ray cluster is lost ({error})"))

    def close(self) -> None:
        """Cancel what still runs."""
        for ref in self.running:
            with suppress(self.ray.exceptions.RayError, ConnectionError):
                self.ray.cancel(ref, force=True)
        self.ray.shutdown()


def imported_ray() -> Any:
    """Ray, with settings of its own that it reads when it is imported, unless the user has set them.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Under `uv run`, Ray would upload the working directory, and each worker would run in that copy, in an
    # environment that uv installs there: other versions, no commit.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--engine", "ray", f"is not installed; {with_extra('ray')}") from None
    return ray


def _on_node(job: Job, options: Options, folder: Path, given: Files) -> Outcome:
    """`work` as a task, which has one CPU whatever the node's environment says."""
    torch.set_num_threads(1)
    return work(job, options, folder, given, True)


def slots(device: str) -> int:
    """How many jobs run at once on this machine: one per GPU, or one per core."""
    kind = pick_device(device).type
    return available_cores() if kind == "cpu" else _gpus(device) or 1


def _gpus(device: str) -> int:
    """GPUs that jobs are distributed over."""
    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def _begin(environment: dict[str, str]) -> None:
    """End this process when the sweep's process is killed, which can no longer do so."""
    replace_environment(environment)
    torch.set_num_threads(int(environment[THREADS]))

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def absolute(options: Options) -> Options:
    """The same options with absolute folders, which every process resolves alike."""
    root = options.data_root
    return replace(
        options,
        results=options.results.absolute(),
        runs=options.runs.absolute(),
        data_root=root.absolute() if root else None,
    )
