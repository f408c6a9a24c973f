"""How a training ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bench.common.clock import NOTHING, Spent
from bench.records.schema import SharedTraining, Training


class Learned(NamedTuple):
    """How the weights of a run came about.

    Attributes:
        pretraining: what it started from. training: the run's own.
        not_own: spent in this process on trainings that are shared, which are not the run's own.
        shared: the training of another run, whose weights it answers with.
        earlier: spent on its own training before an interruption.
        compiled: whether its own training was. curves: of it.
        best_validation: accuracy of the weights that were kept, if that was measured.
    """

    pretraining: SharedTraining | None
    training: Training
    not_own: Spent
    shared: SharedTraining | None = None
    earlier: Spent = NOTHING
    compiled: bool = False
    curves: Mapping[str, np.ndarray] = MappingProxyType({})
    best_validation: float | None = None


class Failed(Exception):
    """Training diverged.

    Attributes:
        learned: what is known of the run's weights.

    Args:
        what: the training, or the pretraining.
        problem: what was seen.
        steps: after how many.
        best: folder in which the best model until then is kept; None if there is none.
        spent: on training. earlier: the part of it before an interruption.
    """

    def __init__(
        self, what: str, problem: str, steps: int, best: Path | None, spent: Spent, earlier: Spent
    ) -> None:
        kept = f"the best weights until then are in {best}; " if best else ""
        self.learned: Learned | None = None
        super().__init__(f"diverged in {what}: {problem}; {kept}a smaller learning rate may help")
        self.steps, self.spent, self.earlier = steps, spent, earlier
