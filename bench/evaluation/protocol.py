"""Protocol version 1: which metrics are measured on which images, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bench.common.progress import Progress
from bench.data.features import FrozenFeatures
from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation import adapted, budget, fewshot, generalized, open_set, verification
from bench.evaluation.answers import inputs_unchanged, weights_unchanged
from bench.evaluation.embedding import embed_images
from bench.evaluation.learned_classes import LearnedClasses
from bench.evaluation.measurements import Measurements, tested_images
from bench.records.naming import HITS, PAIR_SCORES, QUERIES, TRIPLETS_WON, UNBALANCED
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import episode_key, part_key
from bench.statistics import Interval, closed_interval
from methods.abilities import class_tasks
from methods.method import Method


@dataclass
class Evaluation:
    """Results of the evaluation of one run.

    Attributes:
        metrics: metric key -> interval.
        per_class: novel class name -> metric key -> interval.
        constant_answer: metric key -> score of a constant answer.
        thresholds: name -> similarity, or score of an open-set setting.
        settings: setting name -> setting, with the actual way.
        results: setting name -> correct answers per episode; not of open-set settings.
        arrays: name -> values per pair, triplet, join or open-set episode, from which metrics were computed.
        networks: file name -> content, of networks that novel classes joined.
        pools: part (base, validation, novel) -> class name -> number of images, in pool order.
        hashes: setting name -> SHA-256 of the episode list.
        images, episodes: number of embedded images and of evaluated episodes.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    per_class: dict[str, dict[str, Interval]] = field(default_factory=dict)
    constant_answer: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    results: dict[str, fewshot.FewShotResult] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    networks: dict[str, bytes] = field(default_factory=dict)
    pools: dict[str, dict[str, int]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    images: int = 0
    episodes: int = 0


class Evaluator:
    """Evaluates one trained method on one split.

    Args:
        method: trained, in evaluation mode.
        data, split: images and their parts.
        normalise: the one that training used.
        precision: as Lightning names it.
        progress: shows the progress.
        brief: whether this is a smoke run.
        augment: names of augmentations, for methods with `class_tasks`.
        frozen: where the features of a backbone that was not trained here are kept between runs.
    """

    def __init__(
        self,
        method: Method,
        data: ImageSet,
        split: Split,
        normalise: Normaliser,
        precision: str,
        progress: Progress,
        brief: bool = False,
        augment: Sequence[str] | None = None,
        frozen: FrozenFeatures | None = None,
    ) -> None:
        self.method, self.data, self.split, self.frozen = method, data, split, frozen
        self.normalise, self.precision, self.progress = normalise, precision, progress
        self.augment, self.budget = augment, budget.of(brief)

    def run(self, plan: Measurements) -> Evaluation:
        """Measure what was planned."""
        if class_tasks(self.method):
            return self._learned_classes(plan)
        found = Evaluation(pools={part: self._sizes(pool) for part, pool in plan.pools.items()})
        pairs, joins, settings = bool(plan.verified), bool(plan.shots), plan.settings
        fixed_open = self.method.fixed_embedding and any(setting.others for setting in settings)
        novel = pairs or joins or bool(settings)
        needed = {"validation": pairs or fixed_open, "base": pairs or joins, "novel": novel}
        parts = {part: tested_images(self.split)[part] for part in plan.pools if needed[part]}
        found.images = sum(map(len, parts.values()))
        self.progress.start("embedding", found.images, "images")
        embeddings: dict[str, tuple[Tensor, ClassPool]] = {}
        for part, index in parts.items():
            where = (self.data.images, index, self.normalise, self.precision)
            made = embed_images(self.method, *where, self.progress.advance, self.frozen)
            embeddings[part] = made, plan.pools[part]
        self.progress.stop()
        with (
            weights_unchanged(self.method),
            inputs_unchanged("the method", *(made for made, _ in embeddings.values())),
        ):
            if pairs:
                self._verification(found, embeddings, plan.verified)
            for setting in settings:
                if setting.others:
                    self._open_set(found, setting, embeddings)
                else:
                    self._fewshot(found, setting, *embeddings["novel"])
            if joins:
                self._generalized(found, plan.shots, embeddings["base"][0], embeddings["novel"][0])
        return found

    def _key(self, part: str) -> str:
        return part_key(self.data.drawn_by, self.split.name, part)

    def _sizes(self, pool: ClassPool) -> dict[str, int]:
        """Class name -> number of images, in pool order."""
        names = [self._class_name(pool, position) for position in range(len(pool.classes))]
        return dict(zip(names, pool.counts.tolist(), strict=True))

    def _class_name(self, pool: ClassPool, position: int) -> str:
        return self.data.class_names[pool.classes[position]]

    def _verification(
        self, found: Evaluation, embeddings: dict[str, tuple[Tensor, ClassPool]], wanted: Sequence[str]
    ) -> None:
        threshold = verification.threshold(
            self.method, *embeddings["validation"], self._key("validation"), self.budget.pairs
        )
        found.thresholds["similarity"] = threshold
        for part in ("base", "novel"):
            if part in embeddings:
                made, pool = embeddings[part]
                self._compare(found, part, pool, partial(verification.scores, self.method, made), wanted)
        if "novel" in embeddings and "pairs" in wanted:
            made, pool = embeddings["novel"]
            as_published = Setting(way=0, shot=1, query=1, count=self.budget.support_draws)
            comparisons = self._draw(as_published, pool)
            shares, found.constant_answer[UNBALANCED] = verification.unbalanced_pair_accuracy(
                self.method, made, comparisons, threshold
            )
            found.metrics[UNBALANCED], found.arrays[UNBALANCED] = closed_interval(shares), shares

    def _learned_classes(self, plan: Measurements) -> Evaluation:
        """Pairs and triplets of a method that first learns each class of both parts."""
        tasks = class_tasks(self.method)
        assert tasks
        found = Evaluation(thresholds={"similarity": tasks.threshold})
        for part in filter(plan.pools.__contains__, ("base", "novel")):
            index, pool = tested_images(self.split)[part], plan.pools[part]
            found.pools[part] = self._sizes(pool)
            found.images += len(index)
            self.progress.start(f"learning {part} classes", len(pool.classes), "classes")
            where = (self.data, self.split, self.normalise, self.precision, self._key(part))
            learned = LearnedClasses(self.method, *where, self.progress.advance, self.augment)
            with weights_unchanged(self.method):
                self._compare(found, part, pool, partial(learned.scores, index, pool), plan.verified)
            self.progress.stop()
        return found

    def _compare(
        self,
        found: Evaluation,
        part: str,
        pool: ClassPool,
        score: verification.Score,
        wanted: Sequence[str],
    ) -> None:
        """Metrics of a part's pairs and triplets from their similarities."""
        of_its_own = class_tasks(self.method) is not None  # scores pairs by the first image's class
        verified = verification.verified(
            score, pool, self._key(part), found.thresholds["similarity"], self.budget.pairs, of_its_own
        )
        found.metrics |= _of(part, verified.metrics, wanted)
        if "pairs" in wanted:
            found.arrays[f"{part}/{PAIR_SCORES}"] = verified.scores
        if "triplets" in wanted:
            found.arrays[f"{part}/{TRIPLETS_WON}"] = verified.won
        for position, own in verified.per_class.items() if part == "novel" else ():
            rows = found.per_class.setdefault(self._class_name(pool, position), {})
            rows |= _of(part, own, wanted)

    def _draw(self, setting: Setting, pool: ClassPool) -> EpisodeList:
        return draw(pool, episode_key(self.data.drawn_by, self.split.name, setting), setting)

    def _fewshot(self, found: Evaluation, setting: Setting, made: Tensor, pool: ClassPool) -> None:
        episodes = self._draw(setting, pool)
        self.progress.start(f"answering {setting.name}", len(episodes), "episodes")
        if self.method.fixed_embedding:
            result = fewshot.evaluate(self.method, made, pool, episodes)
            self.progress.advance(len(episodes))
        else:
            where = (self.data.images, self.split.novel_images, self.normalise, self.precision)
            result = adapted.evaluate(self.method, *where, pool, episodes, self.progress.advance)
        self.progress.stop()
        key = f"fewshot/{setting.name}"
        found.metrics[key] = result.interval()
        for position, interval in result.per_class().items():
            found.per_class.setdefault(self._class_name(pool, position), {})[key] = interval
        found.settings[setting.name] = Setting(
            episodes.classes.shape[1], setting.shot, setting.query, setting.count
        )
        found.results[setting.name] = result
        found.hashes[setting.name] = episodes.sha256()
        found.episodes += len(episodes)

    def _open_set(
        self, found: Evaluation, setting: Setting, embeddings: dict[str, tuple[Tensor, ClassPool]]
    ) -> None:
        made, pool = embeddings["novel"]
        name, fixed = setting.name, self.method.fixed_embedding
        episodes = self._draw(setting, pool)
        own = self.budget
        most = own.calibration_episodes if fixed else own.adapted_calibration_episodes
        count = min(most, setting.count)
        drawn = open_set.rehearsal(self.data, self.split, setting.way, setting.shot, count)
        self.progress.start(f"answering {name}", count + len(episodes), "episodes")
        threshold = None
        if drawn and drawn.is_of(setting):
            content = made
            if fixed:
                rows = torch.searchsorted(self.split.validation_images, drawn.images)
                content = embeddings["validation"][0][rows.to(made.device)]
            threshold = open_set.choose_threshold(self._answers(content, drawn.images), drawn)
            found.thresholds[name] = threshold
        answers = self._answers(made, self.split.novel_images)
        metrics, arrays = open_set.evaluate(answers, episodes, setting, threshold)
        self.progress.stop()
        found.metrics |= {f"{name}/{key}": interval for key, interval in metrics.items()}
        found.arrays |= {f"{name}/{key}": array for key, array in arrays.items()}
        found.settings[name], found.hashes[name] = setting, episodes.sha256()
        found.episodes += len(episodes)

    def _answers(self, made: Tensor, index: Tensor) -> open_set.Answers:
        """Scores of queries of episodes: from embeddings, or by adapting to the images at `index`."""

        def answers(episodes: EpisodeList) -> Iterator[tuple[slice, Tensor]]:
            if self.method.fixed_embedding:
                found = fewshot.logits_of(self.method, made, episodes)
            else:
                where = (self.data.images, index, self.normalise, self.precision)
                pool = ClassPool(self.data.labels[index].numpy())
                of_adapted = adapted.logits_of(self.method, *where, pool, episodes)
                found = ((rows, logits) for rows, logits, _ in of_adapted)
            for rows, logits in found:
                self.progress.advance(len(logits))
                yield rows, logits

        return answers

    def _generalized(self, found: Evaluation, shots: Sequence[int], base: Tensor, novel: Tensor) -> None:
        where = (self.data, self.split, self.normalise, self.precision, self.progress)
        made = generalized.evaluate(self.method, shots, *where, base, novel, self.frozen)
        found.metrics |= made.metrics
        found.arrays |= made.arrays
        found.networks |= made.networks
        found.images += made.images
        for name, own in made.per_class.items():
            found.per_class.setdefault(name, {}).update(own)


def _of(part: str, metrics: dict[str, Interval], wanted: Sequence[str]) -> dict[str, Interval]:
    """Metrics of pairs and triplets with the name of their part, if wanted."""
    return {
        f"{part}/{name}": interval
        for name, interval in metrics.items()
        if ("triplets" if name.startswith("triplet") else "pairs") in wanted
    }


def episode_arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The values from which every metric was computed, for `records.store.write`.

    For a setting such as ``5w1s``: correct answers per episode ``[T]`` under its name, number of queries
    under ``5w1s/queries``, and correct answers per class of the episode ``[T, way]`` under ``5w1s/hits``.
    """
    arrays = dict(evaluation.arrays)
    for name, result in evaluation.results.items():
        queries = result.queries.sum(1)
        arrays[name] = result.hits.sum(1).astype(np.min_scalar_type(int(queries.max())))
        same = bool((queries == queries[0]).all())
        arrays[f"{name}/{QUERIES}"] = np.array(queries[0]) if same else queries
        arrays[f"{name}/{HITS}"] = result.hits.astype(np.min_scalar_type(int(result.queries.max())))
    return arrays
