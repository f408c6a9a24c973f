"""How much a run measures, and how often its training is validated and saved.

It is a module of this package, not of `config`: run ids cover the code of measuring, and so these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Budget:
    """Numbers of a run; ``adapted_`` are those of methods that adapt in each episode.

    Attributes:
        episodes, adapted_episodes: per few-shot setting; `adapted_episodes` are the first of the same list.
        support_draws, adapted_support_draws: support sets of all novel classes in the all-way setting;
            `support_draws` is also their number for unbalanced pairs.
        pairs: pairs, and triplets, per part of the split; an even number.
        joining_shots: support images of the novel classes that join.
        joining_draws: support sets per class that joins.
        trained_joining_classes: novel classes that join one at a time if joining trains a network.
        trained_joining_draws: support sets of all novel classes together in that case.
        calibration_episodes, adapted_calibration_episodes: of validation images, for "none of these".
        validation_episodes, adapted_validation_episodes: of each setting of a validation in training.
        validate_every: steps between validations, at least.
        save_every_s: seconds between checkpoints.
    """

    episodes: int = 10_000
    adapted_episodes: int = 1_000
    support_draws: int = 200
    adapted_support_draws: int = 20
    pairs: int = 20_000
    joining_shots: tuple[int, ...] = (1, 5, 10, 20)
    joining_draws: int = 10
    trained_joining_classes: int = 10
    trained_joining_draws: int = 3
    calibration_episodes: int = 200
    adapted_calibration_episodes: int = 40
    validation_episodes: int = 600
    adapted_validation_episodes: int = 60
    validate_every: int = 25
    save_every_s: float = 15.0


FULL = Budget()
"""Always read as ``budget.FULL``, at the time of use: tests put a smaller one here."""


def of(brief: bool) -> Budget:
    """The budget of a run; a `brief` one, a smoke run, measures less."""
    if not brief:
        return FULL
    return replace(
        FULL, episodes=200, adapted_episodes=20, support_draws=10, adapted_support_draws=2, pairs=2_000
    )
