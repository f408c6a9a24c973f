"""Trains a prepared run in several processes, one for each device."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from bench.common.clock import Spent
from bench.common.environment import available_cores, device_name, keep_freed_memory
from bench.common.errors import UserError
from bench.config.run_config import method_info
from bench.run import failures
from bench.run.models import PRETRAINING
from bench.run.outcome import Failed
from bench.run.plan import Prepared
from bench.run.processes import replace_environment, start_method
from bench.training.devices import obstacle

if TYPE_CHECKING:
    from bench.training.loop import Trained

Train = Callable[..., "Trained"]


def check_devices(prepared: Prepared, device: str, devices: int) -> None:
    """Refuse trainings that cannot use so many devices.

    Args:
        prepared: with all that it starts from. device: as in ``--device``. devices: their number.

    Raises:
        UserError: the machine has fewer, or a method or backbone cannot share its steps.
    """
    kind = prepared.device.type
    there = {"cuda": torch.cuda.device_count(), "cpu": available_cores()}.get(kind, 1)
    if not 1 <= devices <= there:
        raise UserError("--devices", devices, f"must be 1 to {there}, as many as this machine has of {kind}")
    if devices > 1 and ":" in device:
        raise UserError("--devices", devices, f"must be 1 with --device {device}, which is a single device")
    for stage in prepared.trainings() if devices > 1 else ():
        if what := obstacle(stage.method):
            allowed = f"must be 1 with {stage.config.method}: {what} trains on one device only"
            raise UserError("--devices", devices, allowed)


def in_processes(prepared: Prepared, devices: int, train: Train, *arguments: object) -> Trained:
    """Train on several devices; the prepared method has the trained weights afterwards.

    Args:
        prepared: as for one device; what its training starts from is in its method.
        devices: number of processes.
        train: function of a module; called in each process with the run on its device, its rank and the
            arguments.

    Returns:
        What `train` returns in the first process, with the processor time of all.

    Raises:
        Failed, UserError: from `train`.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port

    method = prepared.method.cpu()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        torch.save((replace(prepared, start=None), train, arguments), job)
        threads = torch.get_num_threads()
        if prepared.device.type == "cpu":
            threads = max(1, threads // devices)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "NODE_RANK": "0"}
        given = (prepared.config.method, devices, threads, os.environ | place, job)
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it tells which one it ends
        processes = torch.multiprocessing.start_processes(
            _process, given, nprocs=devices, join=False, start_method=start_method()
        )
        problem: Exception | None = None
        try:
            while not processes.join():
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            problem = error
        finally:
            for process in processes.processes:
                process.kill()  # no one else ends them if this process is told to stop
                process.join()
        outcomes = [pickle.loads(path.read_bytes()) for path in sorted(Path(folder).glob("outcome*"))]
    # A process that was killed could not tell why; the others only tell that they lost it.
    killed = isinstance(problem, ProcessExitedException) and problem.signal_name == "SIGKILL"
    for outcome, weights in outcomes if not killed else ():
        if weights is not None:
            method.load_state_dict(weights)
        if isinstance(outcome, BaseException):
            raise outcome
    if isinstance(problem, ProcessExitedException):
        perhaps = f"; perhaps {failures.memory_advice(prepared.config.hyperparameters)}" if killed else ""
        how = problem.signal_name or f"exit code {problem.exit_code}"
        raise UserError("--devices", devices, f"one of the processes ended with {how}{perhaps}")
    if problem:
        raise problem
    first, others = outcomes[0][0], outcomes[1:]
    elsewhere = sum(other.spent.processor_s - other.earlier.processor_s for other, _ in others)
    return replace(first, spent=first.spent + Spent(0.0, elsewhere))


def _process(
    rank: int, method: str, devices: int, threads: int, environment: Mapping[str, str], job: Path
) -> None:
    """Train as process number `rank`, and write the outcome beside the job."""
    replace_environment({**environment, "LOCAL_RANK": str(rank)})
    torch.set_num_threads(threads)
    keep_freed_memory()
    if own := method != PRETRAINING.name:
        method_info(method)  # imports a method from a file, which the job contains
    prepared, train, arguments = torch.load(job, weights_only=False, mmap=True)
    if prepared.device.type == "cuda":
        prepared = replace(prepared, device=torch.device("cuda", rank))
        torch.cuda.set_device(rank)
    outcome: object
    place = device_name(prepared.device)
    try:
        with failures.explained(prepared.config, place) if own else nullcontext():
            outcome = train(prepared, rank, *arguments)
    except (Failed, UserError) as error:
        outcome = error
    weights = prepared.method.cpu().state_dict() if rank == 0 else None
    content = pickle.dumps((outcome, weights))
    temporary = job.with_name(f"{rank}.tmp")
    with suppress(FileNotFoundError):  # the folder goes when the first process that failed has told why
        temporary.write_bytes(content)
        temporary.replace(job.with_name(f"outcome{rank:04d}"))
    if isinstance(outcome, BaseException):
        sys.exit(1)  # so that the others, which may wait for this one, are ended
