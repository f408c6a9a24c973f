"""The few-shot settings of the protocol, and whether a pool of classes and images suffices for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.evaluation import budget
from bench.sampling.episodes import QUERIES, ClassPool, Setting

VALIDATION_SETTINGS = ((5, 1, 15), (5, 5, 15))  # way, shot, query, of the choice of the training step


def standard_settings(
    split: str, fixed_embedding: bool = True, transductive: bool = False, brief: bool = False
) -> list[Setting]:
    """The standard few-shot settings on novel classes.

    Args:
        split: name of the split.
        fixed_embedding: whether embeddings are cached; otherwise there are fewer episodes.
        transductive: whether queries are answered together; then there is no all-way setting, because its
            thousands of queries do not fit into a batch.
        brief: whether this is a smoke run, which evaluates only the first episodes of each list.
    """
    shots = (1, 5, 10) if split == "fc100" else (1, 5)
    own = budget.of(brief)
    episodes = own.episodes if fixed_embedding else own.adapted_episodes
    draws = own.support_draws if fixed_embedding else own.adapted_support_draws
    settings = [Setting(5, shot, QUERIES, episodes) for shot in shots]
    return settings if transductive else [*settings, Setting(way=0, shot=1, query=0, count=draws)]


def does_not_fit(setting: Setting, pool: ClassPool) -> str | None:
    """Why episodes of a setting cannot be drawn from a pool; None if they can."""
    others = f" + {setting.others} further classes" if setting.others else ""
    if setting.way + setting.others > len(pool.classes):
        return f"way {setting.way}{others}: at most {len(pool.classes)}, the number of novel classes"
    if len(pool.classes) < 2:
        return "there are fewer than 2 novel classes"
    way = max(setting.way + setting.others, 2)
    if len(pool.with_images(setting.images)) < way:
        most = np.sort(pool.counts)[-way]
        return (
            f"shot {setting.shot} + query {setting.query or 1}: at most {most} in total, "
            f"because fewer than {way} novel classes have more"
        )
    return None


def nearest(setting: Setting, pool: ClassPool) -> Setting | None:
    """The setting with as many of its classes, shots and queries as a pool has; None if it has no episode.

    Queries are lowered before shots. The setting itself if it fits.
    """
    way = min(setting.way, len(pool.classes) - setting.others)
    if not setting.way or way < 2:
        return None if does_not_fit(setting, pool) else setting
    images = int(np.sort(pool.counts)[-way - setting.others])
    shot = min(setting.shot, images - 1)
    return replace(setting, way=way, shot=shot, query=min(setting.query, images - shot)) if shot else None


def can_choose(pool: ClassPool) -> bool:
    """Whether a pool of validation images has episodes by which the training step is chosen."""
    return any(len(pool.with_images(shot + query)) >= way for way, shot, query in VALIDATION_SETTINGS)


def can_verify(pool: ClassPool) -> bool:
    """Whether pairs and triplets can be drawn from a pool."""
    return len(pool.classes) >= 2 and pool.smallest >= 2
