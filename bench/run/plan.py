"""What a run will do, decided and checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.config.run_config import RunConfig
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.run.run_id import Identity
from bench.sampling.episodes import Setting
from methods.method import Method


@dataclass(frozen=True)
class Options:
    """Where things are and go; none of it changes a number.

    Attributes:
        results: folder of records. runs: folder of checkpoints, logs and resolved configurations.
        data_root: where data sets lie. device: as ``--device`` names it.
        overwrite: run again what is recorded. offline: no download.
        command: recorded as the command that made the run.
    """

    results: Path
    runs: Path
    command: str
    data_root: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that has passed every check that needs no training.

    Attributes:
        start: what gives it weights, to be trained first where that was not done yet: a classifier of the
            base classes, or the run that differs from it in test-only hyperparameters alone.
    """

    config: RunConfig
    identity: Identity
    data: ImageSet
    split: Split
    method: Method
    normalise: Normaliser
    settings: list[Setting]
    measured: list[str]
    left_out: list[str]
    device: torch.device
    precision: str
    data_s: float
    weights_sha256: str | None
    start: Prepared | None
    git: tuple[str | None, bool | None]

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.identity.run_id
