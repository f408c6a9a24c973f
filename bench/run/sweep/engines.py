"""Where the jobs of a sweep are done: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.common.environment import available_cores
from bench.common.errors import UserError
from bench.common.files import write_files
from bench.run.plan import Options
from bench.run.sweep.jobs import Job
from bench.run.sweep.worker import Files, Outcome, files_of, work

THREADS = "OMP_NUM_THREADS"


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
    """One process per slot; a job that kills its process costs no other job anything.

    Args:
        options: where things are and go.
        slots: how many jobs run at once.
    """

    def __init__(self, options: Options, slots: int) -> None:
        self.options = absolute(options)
        os.environ.setdefault(THREADS, str(max(1, available_cores() // slots)))  # processes inherit it
        gpus = _gpus(options.device)
        self.devices = [f"cuda:{slot % gpus}" if gpus else options.device for slot in range(slots)]
        self.pools: list[ProcessPoolExecutor | None] = [None] * slots
        self.running: dict[Future, tuple[Job, int]] = {}

    def free(self) -> bool:
        """Whether a slot is."""
        return len(self.running) < len(self.pools)

    def submit(self, job: Job) -> None:
        """Start it in the first free slot."""
        taken = {slot for _, slot in self.running.values()}
        slot = next(number for number in range(len(self.pools)) if number not in taken)
        pool = self.pools[slot]
        if pool is None:
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            self.pools[slot] = pool
        options = replace(self.options, device=self.devices[slot])
        self.running[pool.submit(work, job, options, Path.cwd(), {}, False)] = job, slot

    def ended(self, seconds: float) -> Iterator[tuple[Job, Outcome | None]]:
        """Futures that are done; a slot whose process died gets a new one."""
        done, _ = wait(self.running, seconds, FIRST_COMPLETED)
        for future in done:
            job, slot = self.running.pop(future)
            try:
                yield job, future.result()
            except BrokenProcessPool:
                self.pools[slot] = None
                yield job, None

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
        options: where things are and go.
        address: of a cluster that runs; None starts one on this machine.
        at_once: how many jobs run at most; None leaves it to Ray.

    Raises:
        UserError: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, options: Options, address: str | None, at_once: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--engine", "ray", "is not installed: `pip install fewshot-bench[ray]`") from None
        self.ray, self.options, self.at_once = ray, absolute(options), at_once
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises that where it cannot start
            raise UserError("--address", address or "", f"no Ray cluster answers ({error})") from None
        gpus = 1 if options.device != "cpu" and ray.cluster_resources().get("GPU") else 0
        # The driver tells lost workers from failed jobs, so that both engines retry alike.
        # Ray itself sets the threads of a task to its CPUs.
        self.task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work)
        self.running: dict[Any, Job] = {}

    def free(self) -> bool:
        """Ray queues what does not fit."""
        return self.at_once is None or len(self.running) < self.at_once

    def submit(self, job: Job) -> None:
        """Hand it over with the model that it needs."""
        given: Files = {}
        if job.needs:
            given = files_of(replace(job, name=job.needs, shared=True, needs=None), self.options)
        self.running[self.task.remote(job, self.options, Path.cwd(), given, True)] = job

    def ended(self, seconds: float) -> Iterator[tuple[Job, Outcome | None]]:
        """Tasks that are done; their files are written here if they are not here yet."""
        done, _ = self.ray.wait(list(self.running), timeout=seconds)
        for ref in done:
            job = self.running.pop(ref)
            try:
                outcome = self.ray.get(ref)
            except self.ray.exceptions.RayError as error:
                lost = not isinstance(error, self.ray.exceptions.RayTaskError)
                yield job, None if lost else Outcome(f"{type(error).__name__}: {error}")
                continue
            missing = {path: content for path, content in (outcome.files or {}).items() if not path.exists()}
            if missing:
                write_files(missing, "--results")
            yield job, outcome

    def close(self) -> None:
        """Cancel what still runs."""
        for ref in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)
        self.ray.shutdown()


def slots(device: str) -> int:
    """How many jobs this machine does at once: one per GPU, or per core where there is none."""
    return _gpus(device) or available_cores()


def _gpus(device: str) -> int:
    import torch

    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def absolute(options: Options) -> Options:
    """The same with folders that mean the same in every process."""
    root = options.data_root
    return replace(
        options,
        results=options.results.absolute(),
        runs=options.runs.absolute(),
        data_root=root.absolute() if root else None,
    )
