"""Checkpoints from which an interrupted training resumes, and their files."""

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

SAVE_EVERY_S = 15.0


class Resumable(Checkpoint):
    """Saves, every few seconds, all that training needs to go on as if it had not been interrupted.

    Lightning runs callbacks of this kind after the others, so that what these did in the step is in it.

    Args:
        path: of the checkpoint.
        stamp: what made it; a checkpoint with another stamp is ignored.
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
        """Draw on from where the checkpoint stopped, after whatever was drawn to set up the trainer."""
        if self.random is not None:
            torch.set_rng_state(self.random["cpu"])
            if self.random["cuda"]:
                torch.cuda.set_rng_state_all(self.random["cuda"])
            self.random = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save if it is time."""
        if time.monotonic() - self.saved >= SAVE_EVERY_S:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()

    def on_train_end(self, trainer, pl_module) -> None:
        """Save after the last step: then nothing is trained twice, whatever happens before it is recorded."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Leave the stamp where `saved_step` finds it."""
        checkpoint["stamp"] = self.stamp

    def state_dict(self) -> dict[str, Any]:
        """Time spent, and the states of the random generators."""
        return {
            "spent": tuple(self.spent()),
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again."""
        self.earlier, self.random = Spent(*state_dict["spent"]), state_dict["random"]

    def spent(self) -> Spent:
        """On training, with what was spent before an interruption."""
        return self.earlier + (now() - self.started)


def saved_step(path: Path, stamp: str) -> int:
    """The step that the checkpoint at `path` resumes from; 0 if there is none, or it has another stamp."""
    try:
        checkpoint = CheckedFiles().load_checkpoint(path)
        return int(checkpoint["global_step"]) if checkpoint["stamp"] == stamp else 0
    except FileNotFoundError:
        return 0
    except Exception:  # a damaged file: torch raises whatever its unpickler stumbles over
        return 0


class CheckedFiles(CheckpointIO):
    """Checkpoints that begin with the SHA-256 of the rest, and are written whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write under another name, then rename."""
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
        """Read it back.

        Raises:
            ValueError: it is not what was written.
        """
        content = memoryview(Path(path).read_bytes())
        size = hashlib.sha256().digest_size
        if hashlib.sha256(content[size:]).digest() != bytes(content[:size]):
            raise ValueError(f"{path} is damaged")
        return torch.load(io.BytesIO(content[size:]), map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)
