"""The texts that determine lists of episodes, pairs and triplets: equal keys give equal lists."""

from __future__ import annotations

from bench.sampling.episodes import Setting

SEED = 0
"""Seed of the episodes, pairs and triplets of every run."""


def episode_key(fingerprint: str, split: str, setting: Setting, seed: int = SEED) -> str:
    """Key of a setting's episodes, drawn from the novel classes."""
    split = f"{split}/open{setting.others}" if setting.others else split
    return f"{fingerprint}/{split}/{setting.way}/{setting.shot}/{setting.query}/{seed}"


def part_key(fingerprint: str, split: str, part: str, seed: int = SEED) -> str:
    """Key of a part of the split (validation, base or novel), for `pair_key` and `triplet_key`."""
    return f"{fingerprint}/{split}/{part}/{seed}"


def pair_key(part: str) -> str:
    """Key of a part's pairs."""
    return f"{part}/pairs"


def triplet_key(part: str) -> str:
    """Key of a part's triplets."""
    return f"{part}/triplets"
