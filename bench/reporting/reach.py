"""Intervals of the same number for other populations: fresh images, and new classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.records.arrays import (
    key_of_pairs,
    pool_of,
    read_arrays,
    read_episodes,
    read_open_set,
    redraw_episodes,
)
from bench.records.naming import PAIR_SCORES, TRIPLETS_WON
from bench.records.store import Record
from bench.sampling.episodes import EpisodeList
from bench.sampling.keys import pair_key, triplet_key
from bench.sampling.pairs import draw_pairs, draw_triplets
from bench.statistics import (
    Interval,
    class_jackknife,
    disjoint_episodes,
    open_interval,
    pairs_over_classes,
    triplets_over_classes,
)

FEWEST_EPISODES = 5
"""Minimum number of episodes without common images for an estimate of their spread."""


class Reach(NamedTuple):
    """The intervals of a metric for fresh images and for new classes.

    Attributes:
        metric: key, such as ``fewshot/5w1s``.
        fresh_images: of these classes, from episodes without common images, with their mean as value. None if
            there are too few such episodes, and for pairs and triplets.
        new_classes: from the same population; None if there are too few classes.
    """

    metric: str
    fresh_images: Interval | None
    new_classes: Interval | None


def reaches(record: Record, directory: Path) -> list[Reach]:
    """The intervals of each metric of a record for which they can be computed; redraws episodes and pairs.

    Args:
        record: the record.
        directory: the folder of the record and its npz file.

    Raises:
        UserError: if the file is missing or damaged.
    """
    return [*_of_episodes(record, directory), *_of_pairs(record, directory)]


def fresh_images(record: Record, directory: Path) -> dict[str, Interval]:
    """Metric -> its interval for fresh images, as in `Reach`; arguments and errors as for `reaches`."""
    found = {key: _fresh(accuracies, drawn) for key, accuracies, drawn in _episodes(record, directory)}
    return {key: interval for key, interval in found.items() if interval}


def _of_episodes(record: Record, directory: Path) -> Iterator[Reach]:
    for key, accuracies, drawn in _episodes(record, directory):
        try:
            new = class_jackknife(accuracies, drawn.classes)
        except ValueError:
            new = None
        yield Reach(key, _fresh(accuracies, drawn), new)


def _fresh(accuracies: np.ndarray, drawn: EpisodeList) -> Interval | None:
    images = _images(drawn)
    apart = disjoint_episodes(images)
    return open_interval(accuracies[apart], images[apart]) if len(apart) >= FEWEST_EPISODES else None


def _episodes(record: Record, directory: Path) -> Iterator[tuple[str, np.ndarray, EpisodeList]]:
    """Metric, its value in each episode, and the episodes, which are redrawn."""
    accuracies_of = {
        (f"fewshot/{name}", name): own
        for name, own in read_episodes(record, directory, record.episodes).items()
        if record.episodes[name].query  # otherwise every image is in every episode
    }
    accuracies_of |= {(f"{name}/auroc", name): own for name, own in read_open_set(record, directory).items()}
    for (key, name), accuracies in accuracies_of.items():
        if (drawn := redraw_episodes(record, name)) is not None:
            yield key, accuracies, drawn


def episodes_apart(record: Record, name: str) -> np.ndarray | None:
    """Positions of episodes of a setting that have no image in common; None if they cannot be drawn again."""
    drawn = redraw_episodes(record, name) if record.episodes[name].query else None
    return None if drawn is None else disjoint_episodes(_images(drawn))


def _images(drawn: EpisodeList) -> np.ndarray:
    """The images of each episode."""
    parts = (part.reshape(len(drawn.classes), -1) for part in (drawn.support, drawn.query))
    return np.concatenate(list(parts), axis=1)


def _of_pairs(record: Record, directory: Path) -> Iterator[Reach]:
    pool, threshold = pool_of(record, "novel"), record.thresholds.get("similarity")
    wanted = f"novel/{PAIR_SCORES}", f"novel/{TRIPLETS_WON}"
    arrays = read_arrays(record, directory, wanted.__contains__)
    if pool is None or threshold is None or len(arrays) < 2:
        return
    owner = pool.owner
    key = key_of_pairs(record, "novel")
    scores, won = (arrays[name].astype(np.float64) for name in wanted)
    a, b, _ = draw_pairs(pool, pair_key(key), len(scores))
    anchor, _, negative = draw_triplets(pool, triplet_key(key), len(won))
    try:
        found = pairs_over_classes(scores, owner[a], owner[b], threshold)
        found["triplet_accuracy"] = triplets_over_classes(won / 2, owner[anchor], owner[negative])
    except ValueError:  # too few classes
        return
    for name in ("pair_accuracy", "pair_auc", "triplet_accuracy"):
        yield Reach(f"novel/{name}", None, found[name])
