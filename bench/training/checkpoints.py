"""Checkpoints from which an interrupted training resumes."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from bench.common.clock import NOTHING, Spent, now
from bench.common.files import read_regular
from bench.evaluation import budget


class Resumable(Checkpoint):
    """Saves every few seconds everything that training needs to resume bit for bit.

    Lightning runs callbacks of this type last, so that the states of the others are up to date.

    Args:
        path: of the checkpoint.
        stamp: identifies what made it; a checkpoint with another stamp is ignored.
    """

    def __init__(self, path: Path, stamp: str) -> None:
        self.path, self.stamp = path, stamp
        self.earlier = NOTHING
        self.random: dict[str, Any] | None = None

    def on_fit_start(self, trainer, pl_module) -> None:
        """Start the clock."""
        self.started = now()
        self.saved = self.started.seconds

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Restore the random generators of the start or the checkpoint; setting up has advanced them."""
        if self.random is not None:
            torch.set_rng_state(self.random["cpu"])
            if self.random["cuda"] is not None:
                torch.cuda.set_rng_state(self.random["cuda"])
            self.random = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save if the last save is long enough ago."""
        due = time.monotonic() - self.saved >= budget.FULL.save_every_s
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # all processes take part in saving
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()

    def on_train_end(self, trainer, pl_module) -> None:
        """Save after the last step, so that an interrupted evaluation does not need training again."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Add the stamp, which `saved_step` reads."""
        checkpoint["stamp"] = self.stamp

    def state_dict(self) -> dict[str, Any]:
        """Time spent, and the states of the random generators."""
        return {
            "spent": tuple(self.spent()),
            "random": random_states(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore time and random generators."""
        self.earlier, self.random = Spent(*state_dict["spent"]), state_dict["random"]

    def spent(self) -> Spent:
        """Time spent on training, including before an interruption."""
        return self.earlier + (now() - self.started)


def random_states() -> dict[str, Any]:
    """States of the random generators of the CPU and of this process's GPU."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def saved_step(path: Path, stamp: str) -> int:
    """The step from which the checkpoint at `path` resumes; 0 if it is missing or has another stamp."""
    try:
        checkpoint = CheckedFiles().load_checkpoint(path)
        return int(checkpoint["global_step"]) if checkpoint["stamp"] == stamp else 0
    except FileNotFoundError:
        return 0
    except Exception:  # a damaged file: torch's unpickler raises many types
        return 0


class CheckedFiles(CheckpointIO):
    """Checkpoint files that begin with the SHA-256 of the rest and are written atomically."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file, then rename it."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        temporary = Path(f"{path}.tmp")
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read and check a checkpoint.

        Raises:
            ValueError: its content was damaged.
        """
        content = memoryview(read_regular(Path(path)))
        size = hashlib.sha256().digest_size
        if hashlib.sha256(content[size:]).digest() != bytes(content[:size]):
            raise ValueError(f"{path} is damaged")
        return torch.load(io.BytesIO(content[size:]), map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)
