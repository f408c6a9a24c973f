"""Generalized few-shot accuracy: novel classes join the base classes, and all are classified jointly.

One novel class at a time, or all together, join B base classes with K support images per class. Queries are
the base-test images of the base classes, and all non-support images of the new classes. Accuracies are means
over classes, so that each class counts the same:

- ``novel``: over the new classes; ``base``: over the base classes, with new classes as possible answers;
- ``all``: over all classes; ``harmonic``: the harmonic mean of ``novel`` and ``base``, per join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from bench.common.progress import Progress
from bench.data.features import FrozenFeatures
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation import budget
from bench.evaluation.embedding import embed_images
from bench.evaluation.joining import FromEmbeddings, FromImages, saved
from bench.records.naming import join, joined_classes
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.sampling.keys import joining_key
from bench.statistics import Interval, joint_accuracies, mean_recall_interval, over_joins
from methods.abilities import JoinsAsNetwork
from methods.method import Method


@dataclass
class Generalized:
    """Results of the protocol.

    Attributes:
        metrics: metric key -> interval.
        per_class: novel class name -> metric key -> interval.
        arrays: the accuracies from which metrics were computed, under ``<key>/novel`` and ``<key>/base``:
            ``[C, draws]`` for classes that joined one at a time, with their positions in the novel pool under
            ``classes`` (without those that are too small for the shots); ``[draws, N]`` and ``[draws]`` for
            all together; under ``0s/base`` the number of correct answers per base class before any joined,
            ``[B]``.
        networks: file name -> content, of networks that one class joined.
        images: number of embedded training images.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    per_class: dict[str, dict[str, Interval]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    networks: dict[str, bytes] = field(default_factory=dict)
    images: int = 0


def plan(method: Method, base: ClassPool, novel: ClassPool) -> tuple[list[int], list[str]]:
    """The shots that can be measured, and which cannot and why: two novel classes must have more images.

    Novel classes that do not have more images do not join with these shots.

    Args:
        method: if classes cannot join it, both results are empty.
        base: the pool of base-test images.
        novel: the novel pool.
    """
    answers_jointly = type(method).joint_logits is not Method.joint_logits
    if not (isinstance(method, JoinsAsNetwork) if method.joins_with == "training" else answers_jointly):
        return [], []
    if min(len(base.classes), base.smallest) < 2:
        return [], ["generalized (too few images of base classes are kept out of training)"]
    if len(novel.classes) < 2:
        return [], ["generalized (there are fewer than 2 novel classes)"]
    most = int(np.sort(novel.counts)[-2]) - 1
    too_many = "".join(f" {shot}s" for shot in budget.FULL.joining_shots if shot > most)
    left_out = [f"generalized{too_many} (shot: at most {most}, one less than two novel classes have)"]
    return [shot for shot in budget.FULL.joining_shots if shot <= most], left_out if too_many else []


def evaluate(
    method: Method,
    shots: Sequence[int],
    data: ImageSet,
    split: Split,
    normalise: Normaliser,
    precision: str,
    progress: Progress,
    base: Tensor,
    novel: Tensor,
    frozen: FrozenFeatures | None = None,
) -> Generalized:
    """Let novel classes join, one at a time and all together, and classify every query.

    The support images depend only on (data set, split, shot); a class has the same ones when it joins
    alone and when all join. If joining trains a network, only the same 10 novel classes join one at a time,
    and all together join 3 times.

    Intervals. One class at a time: over the means of the classes, ± t(C-1) s / sqrt(C). Population: novel
    classes like these that join *this trained model*, with any support set; the draws of a class do not count
    as classes. A single class, and all together: over draws. Population: other support images of *these
    classes*. The base-test images are the same in every join, so these intervals do not cover other base-test
    images. Before joining (``0s/base``): Wilson's, for these images.

    Args:
        method: in evaluation mode.
        shots: numbers of support images, from `plan`.
        data, split: images and their parts.
        normalise: the one that training used.
        precision: as Lightning names it.
        progress: shows the progress.
        base: float ``[M, D]``, embeddings of the base-test images.
        novel: float ``[N, D]``, of the novel pool.
        frozen: where the features of the backbone are kept, if they are.
    """
    if method.training:
        raise ValueError("methods are evaluated in evaluation mode")
    images = FromImages(method, data, split, normalise, precision)
    joins = _joins(images, base, novel, progress, frozen)
    found = Generalized(images=len(split.train) if method.joins_with == "means" else 0)
    pool, trained, own = joins.pool, method.joins_with == "training", budget.FULL

    supports = [_supports(data.drawn_by, split.name, pool, shot) for shot in shots]
    names = [data.class_names[c] for c in pool.classes]
    chosen = np.arange(len(names))
    if trained and len(names) > own.trained_joining_classes:
        few = Setting(own.trained_joining_classes, 1, 0, 1)
        chosen = np.sort(draw(pool, joining_key(data.drawn_by, split.name, few), few).classes[0])
    draws = own.trained_joining_draws if trained else own.joining_draws
    progress.start("joining", 1 + len(shots) * (len(chosen) * own.joining_draws + draws), "joins")
    old = len(split.base)
    right, counts = joins.before()
    before = f"{join(old, 1, 0)}/base"
    found.arrays[before], found.metrics[before] = right, mean_recall_interval(right, counts)
    found.arrays[joined_classes(old)] = chosen
    for shot, support in zip(shots, supports, strict=True):
        large = pool.with_images(shot + 1)
        alone = np.intersect1d(chosen, large)
        if len(alone) > 1:
            _one_at_a_time(found, joins, join(old, 1, shot), support, alone, names)
        _all_together(found, joins, join(old, len(large), shot), support[:draws], large, names)
        if isinstance(method, JoinsAsNetwork):
            found.networks |= saved(images, {names[c]: support[0, c : c + 1] for c in alone})
    progress.stop()
    return found


def mean_harmonic(images: FromImages, shot: int, progress: Progress) -> float:
    """The harmonic mean of novel and base accuracy where classes join one at a time, averaged over classes.

    For tuning, with validation classes in place of the novel ones.

    Args:
        images: of a method in evaluation mode that classes can join.
        shot: support images per class, drawn once.
        progress: shows the progress.
    """
    where = (images.method, images.data.images)
    base, novel = (
        embed_images(*where, index, images.normalise, images.precision)
        for index in (images.split.base_test, images.split.novel_images)
    )
    joins = _joins(images, base, novel, progress)
    pool = joins.pool
    support = _supports(images.data.drawn_by, images.split.name, pool, shot)[0]
    progress.start("joining", len(support), "joins")
    recalls = [joins.recalls(support[c : c + 1], np.array([c])) for c in pool.with_images(shot + 1)]
    progress.stop()
    of_base = np.array([own.mean() for own, _ in recalls])
    of_novel = np.array([own[0] for _, own in recalls])
    return float(joint_accuracies(of_novel, of_base, 1, joins.base_tested)["harmonic"].mean())


def _joins(
    images: FromImages,
    base: Tensor,
    novel: Tensor,
    progress: Progress,
    frozen: FrozenFeatures | None = None,
) -> _Joins:
    """The predictions for joined classes; arguments as for `evaluate`."""
    method, data, split = images.method, images.data, images.split
    source: FromEmbeddings | FromImages = images
    if method.joins_with != "training":
        means = novel.new_empty(0, novel.shape[1])
        if method.joins_with == "means":
            where = (split.train, images.normalise, images.precision)
            progress.start("embedding base classes", len(split.train), "images")
            made = embed_images(method, data.images, *where, progress.advance, frozen)
            labels = images.labels.to(made.device)
            means = made.new_zeros(len(split.base), made.shape[1]).index_add(0, labels, made)
            means /= labels.bincount()[:, None]
        source = FromEmbeddings(method, means, base, novel)
    base_labels = np.searchsorted(split.base, data.labels[split.base_test].numpy())
    pool = ClassPool(data.labels[split.novel_images].numpy())
    return _Joins(source, base_labels, len(split.base), pool, progress)


def _supports(drawn_by: str, split: str, pool: ClassPool, shot: int) -> np.ndarray:
    """Support sets as indices into the pool: int64 ``[draws, C, shot]``, classes in pool order.

    Those of classes without more images than `shot` are -1.
    """
    setting = Setting(0, shot, 0, budget.FULL.joining_draws)
    drawn = draw(pool, joining_key(drawn_by, split, setting), setting)
    found = np.full((setting.count, len(pool.classes), shot), -1)
    np.put_along_axis(found, drawn.classes[:, :, None], drawn.support, axis=1)
    return found


class _Joins:
    """Accuracies of base and new classes after classes join, from the predictions of `source`."""

    def __init__(
        self,
        source: FromEmbeddings | FromImages,
        base_labels: np.ndarray,
        base_classes: int,
        pool: ClassPool,
        progress: Progress,
    ) -> None:
        self.source, self.base_labels, self.base_classes = source, base_labels, base_classes
        self.pool, self.progress = pool, progress
        self.base_tested = len(np.unique(base_labels))

    def recalls(self, support: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy on each base class that has base-test images, and on each new class.

        Args:
            support: int64 ``[new, shot]``, indices into the pool.
            classes: int64 ``[new]``, positions of the new classes in the pool.
        """
        rows, labels = [np.empty(0, dtype=np.int64)], [self.base_labels]
        for new, (own, start, count) in enumerate(
            zip(support, self.pool.starts[classes], self.pool.counts[classes], strict=True)
        ):
            rows.append(np.setdiff1d(np.arange(start, start + count), own))
            labels.append(np.full(len(rows[-1]), self.base_classes + new))
        asked = np.concatenate(labels)
        right = self.source.answers(support, np.concatenate(rows)) == asked
        _, which = np.unique(asked, return_inverse=True)
        shares = np.bincount(which, right) / np.bincount(which)
        self.progress.advance(1)
        return shares[: self.base_tested], shares[self.base_tested :]

    def before(self) -> tuple[np.ndarray, np.ndarray]:
        """Correct answers and images per tested base class before any class joins: int64 ``[B]`` each."""
        recalls, _ = self.recalls(np.empty((0, 1), dtype=np.int64), np.empty(0, dtype=np.int64))
        counts = np.unique(self.base_labels, return_counts=True)[1]
        return np.rint(recalls * counts).astype(np.int64), counts


def _one_at_a_time(
    found: Generalized, joins: _Joins, key: str, support: np.ndarray, chosen: np.ndarray, names: list[str]
) -> None:
    """Each of the `chosen` classes joins alone; `support` is ``[draws, C, shot]``."""
    novel, base = np.empty((2, len(chosen), len(support)))
    for i, c in enumerate(chosen):
        for d, own in enumerate(support[:, c : c + 1]):
            of_base, of_novel = joins.recalls(own, chosen[i : i + 1])
            base[i, d], novel[i, d] = of_base.mean(), of_novel[0]
    found.arrays |= {f"{key}/novel": novel, f"{key}/base": base}
    for name, values in joint_accuracies(novel, base, 1, joins.base_tested).items():
        found.metrics[f"{key}/{name}"] = over_joins(values, values.mean(axis=1))
        if name in ("novel", "base"):
            for c, own in zip(chosen, values, strict=True):
                found.per_class.setdefault(names[c], {})[f"{key}/{name}"] = over_joins(own, own)


def _all_together(
    found: Generalized, joins: _Joins, key: str, support: np.ndarray, large: np.ndarray, names: list[str]
) -> None:
    """The `large` classes join at once; `support` is ``[draws, C, shot]``."""
    recalls = [joins.recalls(own[large], large) for own in support]
    base = np.array([of_base.mean() for of_base, _ in recalls])
    novel = np.stack([of_novel for _, of_novel in recalls])
    found.arrays |= {f"{key}/novel": novel, f"{key}/base": base}
    for name, values in joint_accuracies(novel.mean(axis=1), base, len(large), joins.base_tested).items():
        found.metrics[f"{key}/{name}"] = over_joins(values, values)
    for c, own in zip(large, novel.T, strict=True):
        found.per_class.setdefault(names[c], {})[f"{key}/novel"] = over_joins(own, own)
