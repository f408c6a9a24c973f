"""What a record's numbers were computed from, out of the npz file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.episodes import ClassPool
from bench.errors import UserError
from bench.pairs import draw_pairs
from bench.records import Record, load_arrays

EPISODE_SEED = 0  # of every run; pairs are drawn with it too


class Pairs(NamedTuple):
    """Scored pairs of a part: similarity ``[n]`` and whether both images show one class ``[n]``."""

    scores: np.ndarray
    same: np.ndarray


def read_arrays(record: Record, directory: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Arrays of a record by name; empty if it has no file or none that is wanted.

    Args:
        record: the record.
        directory: where it and its file lie.
        wanted: whether the array of a name is read.

    Raises:
        UserError: if the file is missing or damaged, or not the one that the record was written with.
    """
    if record.episode_file is None:
        return {}
    path = directory / record.episode_file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError("--results", path, error.strerror or "cannot be read") from error
    if hashlib.sha256(content).hexdigest() != record.episode_file_sha256:
        raise UserError("--results", path, f"not the file that {record.run_id}.json was written with")
    try:
        return load_arrays(content, wanted)
    except ValueError as error:
        raise UserError("--results", path, f"arrays as npz ({error})") from error


def pool_of(record: Record, part: str) -> ClassPool | None:
    """The classes and images that a part's episodes and pairs were drawn from; None if not recorded."""
    counts = list(record.pools.get(part, {}).values())
    return ClassPool(np.repeat(np.arange(len(counts)), counts)) if counts else None


def pairs(record: Record, directory: Path, part: str = "novel") -> Pairs | None:
    """The scored pairs of a part; None if they, or the pool they were drawn from, are not recorded.

    Raises:
        UserError: as `read_arrays`, or if the scores are no numbers of pairs.
    """
    pool = pool_of(record, part)
    name = f"{part}/pair_scores"
    scores = read_arrays(record, directory, name.__eq__).get(name) if pool else None
    if pool is None or scores is None:
        return None
    if scores.ndim != 1 or len(scores) < 2 or len(scores) % 2 or not np.isfinite(scores).all():
        raise UserError("--results", directory / f"{record.run_id}.npz", f"{name}: one number a pair")
    key = f"{record.fingerprint}/{record.split}/{part}/{EPISODE_SEED}/pairs"
    _, _, same = draw_pairs(pool, key, len(scores))
    return Pairs(scores.astype(np.float64), same)
