"""Trains a prepared run in several processes, one for each device."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.common.environment import keep_freed_memory
from bench.common.errors import UserError
from bench.config.run_config import method_info
from bench.run.outcome import Failed
from bench.run.plan import Prepared
from bench.training.devices import can_share


def check_devices(prepared: Prepared, devices: int) -> None:
    """Refuse what cannot train on so many devices.

    Raises:
        UserError: the machine has fewer, or the method cannot share its steps.
    """
    kind = prepared.device.type
    there = {"cuda": torch.cuda.device_count(), "cpu": os.cpu_count() or 1}.get(kind, 1)
    if not 1 <= devices <= there:
        raise UserError("--devices", devices, f"must be 1 to {there}: this machine has no more of {kind}")
    if devices > 1 and prepared.method.training_steps and not can_share(prepared.method):
        raise UserError("--devices", devices, f"must be 1: {prepared.config.method} trains on one")


def in_processes(prepared: Prepared, devices: int, train: Callable[..., Any], *arguments: Any) -> Any:
    """Train on several devices; the prepared method has the trained weights afterwards.

    Args:
        prepared: as for one device; what its training starts from is in its method.
        devices: number of processes.
        train: function of a module; called in each process with the run on its device and the arguments.

    Returns:
        What `train` returns in the first process.

    Raises:
        Failed, UserError: from `train`.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port

    prepared.method.cpu()
    with tempfile.TemporaryDirectory() as folder:
        job, outcome = Path(folder) / "job", Path(folder) / "outcome"
        with job.open("wb") as file:
            pickle.dump(prepared.config.method, file)  # a plug-in is imported before its class is looked up
            pickle.dump((replace(prepared, start=None), train, arguments), file)
        given = (devices, torch.get_num_threads(), find_free_network_port(), job, outcome)
        torch.multiprocessing.spawn(_process, given, nprocs=devices)
        found, weights = pickle.loads(outcome.read_bytes())
    prepared.method.load_state_dict(weights)
    if isinstance(found, BaseException):
        raise found
    return found


def _process(rank: int, devices: int, threads: int, port: int, job: Path, outcome: Path) -> None:
    """Train as process number `rank`; the first one writes the outcome."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in where.items()})
    torch.set_num_threads(threads)
    keep_freed_memory()
    with job.open("rb") as file:
        method_info(pickle.load(file))
        prepared, train, arguments = pickle.load(file)
    if prepared.device.type == "cuda":
        prepared = replace(prepared, device=torch.device("cuda", rank))
        torch.cuda.set_device(rank)
    try:
        found = train(prepared, *arguments)
    except (Failed, UserError) as error:
        found = error
    if rank == 0:
        outcome.write_bytes(pickle.dumps((found, prepared.method.cpu().state_dict())))
