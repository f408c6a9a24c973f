"""What is measured of a method: decided once, before its training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from bench.data.images import ImageSet
from bench.data.splits import Split
from bench.evaluation import generalized
from bench.evaluation.settings import can_verify
from bench.sampling.episodes import ClassPool, Setting
from methods.abilities import class_tasks
from methods.method import Method


@dataclass(frozen=True)
class Measurements:
    """A plan that the evaluation follows without checks of its own.

    Attributes:
        pools: part (validation, base, novel) -> its classes, if pairs and triplets can be drawn from them.
        settings: few-shot and open-set settings with episodes in the novel pool.
        verified: ``pairs``, ``triplets``, both or neither.
        shots: numbers of support images with which novel classes join the base classes.
    """

    pools: Mapping[str, ClassPool]
    settings: Sequence[Setting]
    verified: Sequence[str]
    shots: Sequence[int]

    @property
    def names(self) -> list[str]:
        """Everything that is measured, as ``--measure`` names it."""
        joint = ["generalized"] if self.shots else []
        return [*self.verified, *(setting.name for setting in self.settings), *joint]


def tested_images(split: Split) -> dict[str, Tensor]:
    """Part -> positions of its images in the data set, none of which are trained on."""
    return {"validation": split.validation_images, "base": split.base_test, "novel": split.novel_images}


def pools_of(data: ImageSet, split: Split) -> dict[str, ClassPool]:
    """Part -> its classes."""
    return {part: ClassPool(data.labels[index].numpy()) for part, index in tested_images(split).items()}


def possible(
    method: Method, pools: Mapping[str, ClassPool], settings: Sequence[Setting], wanted: Collection[str]
) -> tuple[Measurements, list[str]]:
    """The plan for `settings`, which must fit the novel pool, and those of `wanted` that the classes allow.

    Args:
        method: to be measured.
        pools: from `pools_of`.
        settings: few-shot and open-set settings.
        wanted: some of ``pairs``, ``triplets`` and ``generalized``; other names are ignored.

    Returns:
        Also why generalized accuracy cannot be measured with some shots.
    """
    usable = {part: pool for part, pool in pools.items() if can_verify(pool)}
    verified = [name for name in ("pairs", "triplets") if name in wanted]
    knows_classes = class_tasks(method) is not None
    if not (usable.keys() & {"base", "novel"} and (knows_classes or "validation" in usable)):
        verified = []
    shots: list[int] = []
    left_out: list[str] = []
    if "generalized" in wanted and not knows_classes:
        shots, left_out = generalized.plan(method, pools["base"], pools["novel"])
    return Measurements(usable, settings, verified, shots), left_out
