"""The texts that determine everything random of a run, except weights: equal keys give equal lists."""

from __future__ import annotations

from bench.sampling.episodes import Setting

SEED = 0
"""Seed of the episodes, pairs and triplets of every run."""


def episode_key(images: str, split: str, setting: Setting, seed: int = SEED) -> str:
    """Key of a setting's episodes, drawn from the novel classes."""
    split = f"{split}/open{setting.others}" if setting.others else split
    return f"{images}/{split}/{setting.way}/{setting.shot}/{setting.query}/{seed}"


def validation_key(images: str, split: str, setting: Setting) -> str:
    """Key of episodes of validation images, on which training keeps its best weights."""
    return episode_key(images, f"{split}/validation", setting)


def joining_key(images: str, split: str, setting: Setting) -> str:
    """Key of the support images of novel classes that join the base classes."""
    return episode_key(images, f"{split}/generalized", setting)


def part_key(images: str, split: str, part: str, seed: int = SEED) -> str:
    """Key of a part of the split (validation, base or novel), for `pair_key` and `triplet_key`."""
    return f"{images}/{split}/{part}/{seed}"


def part_episode_key(part: str) -> str:
    """Key of episodes of a part other than the novel one, in the Python API."""
    return f"{part}/episodes"


def calibration_key(images: str, split: str, way: int, shot: int) -> str:
    """Key of the episodes that an open-set threshold is chosen on."""
    return f"{part_key(images, split, 'validation')}/calibration/{way}/{shot}"


def pair_key(part: str) -> str:
    """Key of a part's pairs."""
    return f"{part}/pairs"


def triplet_key(part: str) -> str:
    """Key of a part's triplets."""
    return f"{part}/triplets"


def training_key(seed: int, *what: object) -> str:
    """Key of a training's batches, or of one of them."""
    return "/".join(map(str, ("training", seed, *what)))
