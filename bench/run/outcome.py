"""How a training ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bench.common.clock import NOTHING, Spent
from bench.records.parts import SharedTraining, Training


class Learned(NamedTuple):
    """The trainings behind the weights of a run.

    Attributes:
        pretraining: what training started from. training: the run's own.
        not_own: time spent in this process on shared trainings.
        shared: the training of another run, whose weights it uses.
        earlier: time spent on its own training before an interruption.
        compiled: whether its own training was compiled. curves: of its own training.
    """

    pretraining: SharedTraining | None
    training: Training
    not_own: Spent
    shared: SharedTraining | None = None
    earlier: Spent = NOTHING
    compiled: bool = False
    curves: Mapping[str, np.ndarray] = MappingProxyType({})


class Failed(Exception):
    """Training diverged.

    Attributes:
        learned: what is known of the run's weights.

    Args:
        what: the training or the pretraining.
        problem: for the message.
        steps: number of steps before it diverged.
        best: file with the best weights so far; None if there is none.
        spent: time spent on training. earlier: the part before an interruption.
    """

    def __init__(
        self, what: str, problem: str, steps: int, best: Path | None, spent: Spent, earlier: Spent
    ) -> None:
        kept = f"the best weights so far are in {best}; " if best else ""
        self.learned: Learned | None = None
        super().__init__(f"diverged in {what}: {problem}; {kept}a smaller learning rate may help")
        self.steps, self.spent, self.earlier = steps, spent, earlier
        self.given = (what, problem, steps, best, spent, earlier)

    def __reduce__(self) -> tuple[type[Failed], tuple]:
        """For pickle, which otherwise knows only the message."""
        return Failed, self.given
