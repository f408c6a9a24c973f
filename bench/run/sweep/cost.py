"""What a run will probably take, by the records of earlier ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from statistics import median
from typing import Any

from bench.common import environment
from bench.config.run_config import RunConfig
from bench.records.schema import Record

Traits = tuple[Hashable, ...]


class Costs:
    """Medians of processor seconds, of the records that are most alike.

    Those of this machine's kind of processor come first, then those of the same method, preset, start and
    backbone on the same split, and then, step by step, of less likeness; nothing is said where not even the
    preset and the backbone agree.

    Args:
        records: of earlier runs, those that failed left out.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        here = environment.cpu_name().partition(",")[0]
        self._runs: dict[Traits, list[float]] = defaultdict(list)
        self._shared: dict[Traits, list[float]] = defaultdict(list)
        for record in records:
            own = record.environment.cpu.partition(",")[0] == here
            if (spent := record.timings.processor_s) and not record.failure and not record.shared_training:
                keys = _likeness(
                    record.method, record.preset, record.backbone, record.split, record.hyperparameters
                )
                _add(self._runs, keys, own, spent)
            if first := record.pretraining:
                keys = _sharing(record.backbone, record.split, first.steps)
                _add(self._shared, keys, own, first.processor_s)

    def of(self, config: RunConfig) -> float | None:
        """Processor seconds of a run, its shared trainings left out; None if no record tells."""
        where = (config.method, config.preset, config.backbone, config.split)
        return _first(self._runs, _likeness(*where, config.hyperparameters))

    def of_shared(self, config: RunConfig) -> float | None:
        """Processor seconds of a shared training, whether a classifier of the base classes or a method's."""
        steps = config.hyperparameters.get("steps")
        return _first(self._shared, _sharing(config.backbone, config.split, steps)) or self.of(config)


def _likeness(
    method: str, preset: str, backbone: str, split: str, hyperparameters: dict[str, Any]
) -> list[Traits]:
    steps, start = hyperparameters.get("steps"), hyperparameters.get("init")
    return [
        (method, preset, backbone, steps, start, split),
        (method, preset, backbone, steps, start),
        (method, preset, backbone, start),
        (preset, backbone, start),
        (preset, backbone),
    ]


def _sharing(backbone: str, split: str, steps: Any) -> list[Traits]:
    return [(backbone, steps, split), (backbone, steps)]


def _add(found: dict[Traits, list[float]], keys: list[Traits], own: bool, seconds: float) -> None:
    for key in keys:
        found[(own, *key)].append(seconds)
        if own:
            found[(False, *key)].append(seconds)


def _first(found: dict[Traits, list[float]], keys: list[Traits]) -> float | None:
    for key in keys:
        for own in (True, False):
            if values := found.get((own, *key)):
                return median(values)
    return None
