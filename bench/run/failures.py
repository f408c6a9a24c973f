"""How a run goes wrong, told so that its user can do something about it."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from bench.common.errors import UserError
from bench.config.run_config import method_info
from bench.evaluation.answers import Broken
from bench.run.outcome import Failed
from methods.registry import what_raised

BATCH_SIZES = (
    "images", "classes", "train_way", "train_query", "episodes", "tasks", "random_pairs", "triplets",
)  # fmt: skip
"""Hyperparameters that batches grow with, in whatever methods have them."""

UNWRITABLE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS,
}  # fmt: skip
"""What the system says where checkpoints and logs cannot be written: a full disk, a quota, no right to."""


@contextmanager
def blamed(method: str) -> Iterator[None]:
    """One line for what a method does wrong, with the line of its source if it raises something.

    The methods of this repository raise their traceback. Out of memory is left to the caller.

    Args:
        method: as in ``--method``.

    Raises:
        UserError: the method breaks its contract, exits, or is a user's or a plug-in's and raises something.
    """
    info = method_info(method)
    try:
        yield
    except Broken as broken:
        raise UserError("--method", method, str(broken)) from None
    except (UserError, Failed):
        raise
    except (Exception, SystemExit) as error:
        what, own = what_raised(error, info)
        foreign = own and not info.source.startswith("methods.")
        if (foreign and not out_of_memory(error)) or isinstance(error, SystemExit):
            raise UserError("--method", method, f"raised {what}") from error
        raise


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, the CPU's allocator or the device's says that memory has run out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def what_to_lower(hyperparameters: Collection[str]) -> str:
    """What a user can lower when memory runs out."""
    sizes = [f"--set {key}" for key in BATCH_SIZES if key in hyperparameters]
    return f"out of memory; lower {', '.join([*sizes, '--image-size'])}, or take a smaller --backbone"
