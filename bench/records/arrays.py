"""Reads the npz file of a record: the individual answers behind its numbers."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.common.errors import UserError
from bench.common.files import read_regular
from bench.records.naming import PAIR_SCORES, QUERIES, WON
from bench.records.schema import Record
from bench.records.store import locate_file
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw, draw_classes
from bench.sampling.keys import SEED, episode_key, pair_key, part_key
from bench.sampling.pairs import draw_pairs
from bench.statistics import open_set_aurocs

NUMBER_BYTES = 8
OTHER_NUMBERS = 1_000_000  # curves and headers, which the record does not count
MOST_NUMBERS = 50_000_000


class Pairs(NamedTuple):
    """Scored pairs of a part: similarity ``[n]`` and whether both images show one class ``[n]``."""

    scores: np.ndarray
    same: np.ndarray


def read_episodes(record: Record, directory: Path, settings: Collection[str]) -> dict[str, np.ndarray]:
    """Per-episode accuracies of a record: setting to float64 ``[T]``.

    Args:
        record: the record.
        directory: the folder of the record and its episode file.
        settings: the wanted settings; those that the record does not have are left out.

    Raises:
        UserError: if the episode file is missing, does not belong to the record, or contradicts it.
    """
    wanted = [name for name in record.episodes if name in settings]
    files = {file for name in wanted for file in (name, f"{name}/{QUERIES}")}
    arrays = read_arrays(record, directory, files.__contains__)
    if record.episode_file is None:
        return {}
    accuracies = {}
    for setting in wanted:
        count = record.episodes[setting].count
        try:
            values = arrays[setting] / arrays[f"{setting}/{QUERIES}"]
            complete = values.shape == (count,) and bool(((values >= 0) & (values <= 1)).all())
        except (KeyError, ValueError):  # an array is missing, or lengths differ
            complete = False
        if not complete:
            path = directory / record.episode_file
            raise UserError("--results", path, f"{setting}: must hold {count} counts of correct answers")
        accuracies[setting] = values
    return accuracies


def read_arrays(
    record: Record, directory: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """Arrays of a record by name; empty if it has no file or no wanted array.

    Args:
        record: the record.
        directory: the folder of the record and its file.
        wanted: whether the array of a name is read.

    Raises:
        UserError: if the file is missing, damaged, or does not belong to the record.
    """
    if record.episode_file is None:
        return {}
    path, content = _content(record, directory, record.episode_file)
    try:
        file = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is one array")
        with file:
            _check_size(record, {one.filename: one.file_size for one in file.zip.infolist()}, wanted)
            arrays = {name: file[name] for name in file.files if wanted(name)}
        for name, array in arrays.items():
            # numpy returns unknown content as bytes.
            if not (isinstance(array, np.ndarray) and array.dtype.kind in "biuf"):
                raise ValueError(f"{name} is not an array of numbers")
    except Exception as error:  # numpy and zipfile raise many types; a wrong size exhausts memory
        raise UserError("--results", path, f"cannot be read as npz ({error})") from error
    return arrays


def _check_size(record: Record, sizes: dict[str, int], wanted: Callable[[str], bool]) -> None:
    """Refuse arrays that are larger than the record says: compressed, terabytes fit into a megabyte."""
    numbers = sum(info.count * (info.way + 2) for info in record.episodes.values())
    numbers += sum(info.count * (info.way + info.others + 1) for info in record.open_set.values())
    for metrics in (record.metrics, *record.per_class.values()):
        numbers += sum(metric.n for metric in metrics.values())
    most = NUMBER_BYTES * min(numbers + OTHER_NUMBERS, MOST_NUMBERS)
    size = sum(own for name, own in sizes.items() if wanted(name.removesuffix(".npy")))
    if size > most:
        raise ValueError(f"unpacked, its arrays have {size:,} bytes; the record's counts allow {most:,}")


def _content(record: Record, directory: Path, name: str) -> tuple[Path, bytes]:
    path = locate_file(directory, name)
    try:
        content = read_regular(path)
    except OSError as error:
        raise UserError("--results", path, error.strerror or "cannot be read") from error
    if hashlib.sha256(content).hexdigest() != record.episode_file_sha256:
        raise UserError("--results", path, "does not belong to the record: its SHA-256 differs")
    return path, content


def read_open_set(record: Record, directory: Path) -> dict[str, np.ndarray]:
    """Area under the ROC curve per episode: open-set setting to float64 ``[T]``; errors as `read_arrays`."""
    if not record.open_set:
        return {}
    found = read_arrays(record, directory, {f"{name}/{WON}" for name in record.open_set}.__contains__)
    return {
        name: open_set_aurocs(found[f"{name}/{WON}"], info.way, info.others, info.query)
        for name, info in record.open_set.items()
        if f"{name}/{WON}" in found and found[f"{name}/{WON}"].shape == (info.count,)
    }


def setting_of(record: Record, name: str) -> Setting:
    """The setting of the episodes called `name`; it has another name if they are misnamed."""
    if own := record.open_set.get(name):
        return Setting(own.way, own.shot, own.query, own.count, own.others)
    info = record.episodes[name]
    return Setting(0 if name.startswith("all") else info.way, info.shot, info.query, info.count)


def pool_of(record: Record, part: str) -> ClassPool | None:
    """The pool of classes and images of a part; None if not recorded."""
    counts = list(record.pools.get(part, {}).values())
    return ClassPool.of_counts(counts) if counts else None


def key_of(record: Record, name: str) -> str:
    """Key of the episodes called `name`."""
    seed = (record.open_set.get(name) or record.episodes[name]).seed
    return episode_key(record.images_id, record.split, setting_of(record, name), seed)


def key_of_pairs(record: Record, part: str) -> str:
    """Key of a part's pairs and triplets; they share the seed that is recorded with the episodes."""
    seed = next((info.seed for info in record.episodes.values()), SEED)
    return part_key(record.images_id, record.split, part, seed)


def redraw_episodes(record: Record, name: str) -> EpisodeList | None:
    """Redraws the episodes of a setting; None if class sizes are not recorded or give other episodes."""
    pool = pool_of(record, "novel")
    try:
        found = draw(pool, key_of(record, name), setting_of(record, name)) if pool else None
    except ValueError:  # the classes are too few or too small
        return None
    sha256 = (record.open_set.get(name) or record.episodes[name]).sha256
    return found if found and found.sha256() == sha256 else None


def common_classes(records: Collection[Record], name: str) -> np.ndarray | None:
    """The classes of each episode, int ``[T, way]``, of the longest of several lists with the same beginning.

    Returns:
        None if every episode contains all novel classes, or if they are too few or too small. Whether the
        list has the record's SHA-256 is what `validate` checks.
    """
    longest = max(records, key=lambda record: (record.episodes[name].count, "novel" in record.pools))
    pool = pool_of(longest, "novel")
    if pool is None or longest.episodes[name].way >= len(pool.counts):
        return None
    try:
        return draw_classes(pool, key_of(longest, name), setting_of(longest, name))
    except ValueError:
        return None


@functools.lru_cache(maxsize=64)
def drawn_classes(sizes: tuple[int, ...], key: str, setting: Setting) -> tuple[np.ndarray, str]:
    """The classes ``[T, way]`` of a list of episodes, and its SHA-256; cached, because records share lists.

    Raises:
        ValueError: the classes are too few or too small.
    """
    found = draw(ClassPool.of_counts(sizes), key, setting)
    return found.classes, found.sha256()


def pairs(record: Record, directory: Path, part: str = "novel") -> Pairs | None:
    """The scored pairs of a part; None if they or their pool are not recorded.

    Raises:
        UserError: as `read_arrays`, or if the scores have the wrong shape.
    """
    pool = pool_of(record, part)
    name = f"{part}/{PAIR_SCORES}"
    scores = read_arrays(record, directory, name.__eq__).get(name) if pool else None
    if pool is None or scores is None:
        return None
    if scores.ndim != 1 or len(scores) < 2 or len(scores) % 2 or not np.isfinite(scores).all():
        raise UserError(
            "--results", directory / f"{record.run_id}.npz", f"{name}: must have one number per pair"
        )
    _, _, same = draw_pairs(pool, pair_key(key_of_pairs(record, part)), len(scores))
    return Pairs(scores.astype(np.float64), same)
