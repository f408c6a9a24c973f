"""The plan of a run, made and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.common.clock import Spent
from bench.config.run_config import RunConfig
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation.measurements import Measurements
from bench.run.run_id import Identity
from methods.base_classifier import BaseClassifier
from methods.method import Method


@dataclass(frozen=True)
class Options:
    """Folders, device and flags that do not change any number.

    Attributes:
        results: folder of records. runs: folder of checkpoints, logs and resolved configurations.
        data_root: folder of data sets. device: as in ``--device``.
        overwrite: run again even if recorded. offline: do not download.
        devices: number of devices of that kind that share the training.
        command: the command line, for the record.
        loggers: names of experiment trackers that get the training curves.
    """

    results: Path
    runs: Path
    command: str
    data_root: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    offline: bool = False
    devices: int = 1
    loggers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A run that has passed all checks before training.

    Attributes:
        plan: what is measured. left_out: what cannot be, and why.
        data_s: seconds for the images and the split. spent: time for the whole preparation.
        start: the shared training that provides its weights: a classifier of the base classes, or the run
            that differs only in test-only hyperparameters. It is trained first if necessary.
    """

    config: RunConfig
    identity: Identity
    data: ImageSet
    split: Split
    method: Method
    normalise: Normaliser
    plan: Measurements
    left_out: list[str]
    device: torch.device
    precision: str
    data_s: float
    spent: Spent
    weights_sha256: str | None
    start: Prepared | None
    git: tuple[str | None, bool | None]

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.identity.run_id

    def trainings(self) -> Iterator[Prepared]:
        """The run and the shared trainings that it starts from, as far as they have steps of their own."""
        uses_weights_of_another = self.start is not None and not isinstance(self.start.method, BaseClassifier)
        if self.config.train and self.method.training_steps and not uses_weights_of_another:
            yield self
        if self.start is not None:
            yield from self.start.trainings()
