"""Error messages for failures of a run that say what the user can do."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from bench.common.errors import UserError
from bench.config.run_config import RunConfig, method_info
from bench.evaluation.answers import ContractError
from bench.run.outcome import Failed
from methods.registry import what_raised

BATCH_SIZES = (
    "images", "classes", "train_way", "train_query", "episodes", "tasks", "random_pairs", "triplets",
)  # fmt: skip
"""Hyperparameters that increase the batch size, in any method."""

UNWRITABLE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS,
}  # fmt: skip
"""System errors when checkpoints and logs cannot be written: full disk, quota, no permission."""


@contextmanager
def method_errors(method: str) -> Iterator[None]:
    """Turn errors of a method into one line, with the line of its source if it raises.

    Exceptions of built-in methods pass through with their traceback; so does out of memory.

    Args:
        method: as in ``--method``.

    Raises:
        UserError: the method breaks its contract, exits, or is not built in and raises.
    """
    info = method_info(method)
    try:
        yield
    except ContractError as broken:
        raise UserError("--method", method, str(broken)) from None
    except (UserError, Failed):
        raise
    except (Exception, SystemExit) as error:
        what, own = what_raised(error, info)
        foreign = own and not info.source.startswith("methods.")
        if (foreign and not out_of_memory(error)) or isinstance(error, SystemExit):
            raise UserError("--method", method, f"raised {what}") from error
        raise


@contextmanager
def explained(config: RunConfig, device: str) -> Iterator[None]:
    """As `method_errors`, and out of memory is one line that says what to lower.

    Args:
        config: of the run. device: its name, for the message.
    """
    try:
        with method_errors(config.method):
            yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError("--device", device, memory_advice(config.hyperparameters)) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether the error means out of memory, in Python or on the CPU or device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def memory_advice(hyperparameters: Collection[str]) -> str:
    """Which flags to lower when memory runs out."""
    sizes = [f"--set {key}" for key in BATCH_SIZES if key in hyperparameters]
    return f"out of memory; lower {', '.join([*sizes, '--image-size'])}, or use a smaller --backbone"
