"""Which classes coming tasks are made of, so that some of them are hard."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Rounds:
    """Rounds of random tasks and then of hard ones: the hard-task meta-batch (Sun et al. 2019, section 4.3).

    Each random task leaves the class that it did worst on. The hard tasks after them are made of these
    classes, with new images.

    Attributes:
        at_random: steps of a round whose tasks are random.
        hard: steps of a round whose tasks are hard.
        seed: of the drawing.
        step: that was drawn last, from 1.
        failed: classes that the random tasks of the round left.
    """

    at_random: int
    hard: int
    seed: int
    step: int = 0
    failed: list[int] = field(default_factory=list)

    def draw(self, episodes: int, way: int, num_classes: int) -> Tensor | None:
        """The next step's classes.

        Returns:
            int64 ``[episodes, way]``, different in each episode: failed ones in random order, and any others
            only where these are too few. None in a step of random tasks.
        """
        turn = self.step % (self.at_random + self.hard)
        self.step += 1
        if turn == 0:
            self.failed = []
        if turn < self.at_random:
            return None
        generator = torch.Generator().manual_seed(self.seed + self.step)
        failed = torch.tensor(self.failed, dtype=torch.long)
        drawn = []
        for _ in range(episodes):
            first = failed[torch.randperm(len(failed), generator=generator)]
            others = torch.randperm(num_classes, generator=generator)
            drawn.append(list(dict.fromkeys([*first.tolist(), *others.tolist()]))[:way])
        return torch.tensor(drawn)

    def collect(self, classes: Tensor) -> None:
        """Add the worst classes ``[E]`` of the step that was drawn last, unless its tasks were hard."""
        if (self.step - 1) % (self.at_random + self.hard) < self.at_random:
            self.failed += classes.tolist()


def worst_classes(logits: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """The class of each episode whose queries are answered worst.

    Args:
        logits: ``[E, Q, way]``.
        labels: int64 ``[E, Q]``, places in the episode.
        classes: int64 ``[E, way]``, the class at each place.

    Returns:
        int64 ``[E]``, out of `classes`.
    """
    asked = F.one_hot(labels, classes.shape[1])
    right = asked * (logits.argmax(dim=2) == labels)[..., None]
    worst = (right.sum(dim=1) / asked.sum(dim=1)).argmin(dim=1, keepdim=True)
    return classes.gather(1, worst)[:, 0]
