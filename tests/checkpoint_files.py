"""Checkpoints, changed by tests."""

from pathlib import Path
from typing import Any

from bench.training.checkpoints import CheckedFiles


def spend(path: Path, seconds: float) -> dict[str, Any]:
    """Change a checkpoint as if the training that left it had taken so long; returns its content."""
    checkpoint = CheckedFiles().load_checkpoint(path)
    checkpoint["callbacks"]["Resumable"]["spent"] = (seconds, seconds)
    CheckedFiles().save_checkpoint(checkpoint, path)
    return checkpoint
