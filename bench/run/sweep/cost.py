"""Estimates what a run will cost, from the records of earlier runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable
from statistics import median
from typing import Any

from bench.common import environment
from bench.config.run_config import RunConfig
from bench.records.schema import Record
from bench.records.tracks import on_gpu
from bench.run.models import PRETRAINING

Traits = tuple[Hashable, ...]


class Costs:
    """Medians of processor seconds over the records that are most alike.

    These are records of the same method, preset, backbone, start, hyperparameters and split; without any,
    of all splits; then those that share only the steps, and then any of the same method, preset, backbone and
    start. Among equally similar records, those of this machine's processor are preferred. Without any such
    record the cost is unknown.

    Args:
        records: of earlier runs. Those that failed do not count, nor do the oldest ones, without `sources`:
            the times of some include the shared training.
        gpu: whether runs are to be made on a GPU: only records of the same kind of device count, with their
            wall-clock time, in which a process waits for the GPU.
    """

    def __init__(self, records: Iterable[Record], gpu: bool = False) -> None:
        here = environment.cpu_name().partition(",")[0]
        self._runs: dict[Traits, list[float]] = defaultdict(list)
        self._shared: dict[Traits, list[float]] = defaultdict(list)
        for record in records:
            if on_gpu(record) is not gpu or not record.sources:
                continue
            own = record.environment.cpu.partition(",")[0] == here
            spent = record.timings.total_s if gpu else record.timings.processor_s
            if spent is not None and not record.failure:
                where = (record.method, record.preset, record.backbone, record.split)
                keys = _likeness(*where, record.hyperparameters, record.shared_training is not None)
                _add(self._runs, keys, own, spent)
            if (first := record.pretraining) and first.images:
                keys = _sharing(record.backbone, record.split)
                _add(self._shared, keys, own, (first.seconds if gpu else first.processor_s) / first.images)

    def of(self, config: RunConfig, shares: bool = False) -> float | None:
        """Seconds of a run without its shared trainings; None if unknown.

        Args:
            config: of the run.
            shares: whether it only answers with the training of another run.
        """
        where = (config.method, config.preset, config.backbone, config.split)
        return _first(self._runs, _likeness(*where, config.hyperparameters, shares))

    def of_shared(self, config: RunConfig) -> float | None:
        """Seconds of a shared training: a classifier of the base classes, or that of a run."""
        if config.method != PRETRAINING.name:
            return self.of(config)
        per_image = _first(self._shared, _sharing(config.backbone, config.split))
        images = config.hyperparameters["steps"] * config.hyperparameters["images"]
        return None if per_image is None else per_image * images


def _likeness(
    method: str, preset: str, backbone: str, split: str, hyperparameters: dict[str, Any], shares: bool
) -> list[Traits]:
    steps, start = hyperparameters.get("steps"), hyperparameters.get("init")
    # Older records lack newer hyperparameters that are none unless they are set.
    every = json.dumps({key: v for key, v in hyperparameters.items() if v is not None}, sort_keys=True)
    alike = (shares, method, preset, backbone, start)
    return [(*alike, every, split), (*alike, every), (*alike, steps, split), (*alike, steps), alike]


def _sharing(backbone: str, split: str) -> list[Traits]:
    return [(backbone, split), (backbone,)]


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
