"""Open set: episodes with queries of classes that are not in the support set.

The score of a query is the largest of its scores for the classes of the support set (of `episode_logits`, or
of the function that `adapt` returns), as in "none of these" of `predict`. From a threshold on, a query is
accepted as one of these classes; the threshold is chosen on validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.data.images import ImageSet
from bench.data.splits import Split, subsampled
from bench.records.naming import ACCEPTED, WON
from bench.sampling.episodes import QUERIES, ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import calibration_key
from bench.statistics import Interval, best_threshold, open_set_metrics, pairs_won

OTHERS = 2
"""Classes of an episode that are not in its support set."""

MOST_IMAGES = 40  # validation images per class
FEWEST_CLASSES = 3  # two known ones, and one that is none of these

Answers = Callable[[EpisodeList], Iterator[tuple[slice, Tensor]]]
"""Episodes -> positions of some of them, and the scores ``[e, Q, way]`` of their queries."""


class Rehearsal(NamedTuple):
    """Episodes of validation images in which one more class plays "none of these".

    Attributes:
        images: int64, positions of the images in the data set, the pool of the episodes.
        episodes: their support sets have the first `way` classes only; the label `way` is the class without.
        way, shot: lowered if the validation images do not suffice.
    """

    images: Tensor
    episodes: EpisodeList
    way: int
    shot: int

    def is_of(self, setting: Setting) -> bool:
        """Whether it has the ways and shots of a setting, so that its threshold applies there."""
        return (self.way, self.shot) == (setting.way, setting.shot)


def rehearsal(data: ImageSet, split: Split, way: int, shot: int, count: int) -> Rehearsal | None:
    """Draw them; None if fewer than `FEWEST_CLASSES` classes have two validation images."""
    index = subsampled(data, split, MOST_IMAGES).validation_images
    labels = data.labels[index].numpy()
    counts = np.bincount(labels, minlength=1)
    while shot > 1 and (counts > shot).sum() < FEWEST_CLASSES:
        shot -= 1
    enough = counts > shot
    if enough.sum() < FEWEST_CLASSES:
        return None
    index, labels = index[torch.from_numpy(enough[labels])], labels[enough[labels]]
    pool = ClassPool(labels)
    way = min(way, len(pool.classes) - 1)
    setting = Setting(way, shot, min(QUERIES, pool.smallest - shot), count, others=1)
    key = calibration_key(data.drawn_by, split.name, way, shot)
    return Rehearsal(index, known_only(draw(pool, key, setting), way), way, shot)


def known_only(episodes: EpisodeList, way: int) -> EpisodeList:
    """The episodes without the support images of the classes after the first `way`."""
    return replace(episodes, support=episodes.support[:, :way])


@torch.no_grad()  # not inference mode: methods that adapt need gradients
def scores(answers: Answers, episodes: EpisodeList) -> np.ndarray:
    """The score of each query: float64 ``[T, Q]``."""
    found = np.empty(episodes.query.shape)
    for rows, logits in answers(episodes):
        found[rows] = logits.amax(dim=2).double().cpu().numpy()
    return found


def choose_threshold(answers: Answers, drawn: Rehearsal) -> float:
    """The threshold with the highest balanced accuracy on the queries of a rehearsal."""
    known = drawn.episodes.labels < drawn.way
    return best_threshold(scores(answers, drawn.episodes).ravel(), known.ravel())


def evaluate(
    answers: Answers, episodes: EpisodeList, setting: Setting, threshold: float | None
) -> tuple[dict[str, Interval], dict[str, np.ndarray]]:
    """`open_set_metrics` of a setting by name, and the whole numbers from which they follow.

    Args:
        episodes: with support sets of all classes, also of those that are "none of these".
        threshold: None if there is none; then there is only the AUROC.
    """
    found = scores(answers, known_only(episodes, setting.way))
    won, accepted = counted(found, episodes.labels, setting, threshold)
    arrays = {WON: won.astype(np.uint32)}
    if accepted is not None:
        arrays[ACCEPTED] = accepted.astype(np.min_scalar_type(setting.query))
    return open_set_metrics(won, accepted, setting.way, setting.others, setting.query), arrays


def counted(
    found: np.ndarray, labels: np.ndarray, setting: Setting, threshold: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`pairs_won` of each episode ``[T]``, and its accepted queries per class ``[T, way + others]``.

    Args:
        found: scores ``[T, Q]``. labels: int ``[T, Q]``.
        threshold: None if there is none; then there are no accepted queries.
    """
    won = pairs_won(found, labels < setting.way)
    if threshold is None:
        return won, None
    right = found >= threshold
    classes = range(setting.way + setting.others)
    return won, np.stack([(right & (labels == c)).sum(axis=1) for c in classes], axis=1)
