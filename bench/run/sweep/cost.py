"""Estimates what a run will cost, from the records of earlier runs."""

from __future__ import annotations

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

    These are records of the same method, preset, backbone, steps, start and split; if there are none, of all
    splits, and so on, down to the same preset and backbone. Among equally similar records, those of this
    machine's kind of processor count. Without any such record the cost is unknown.

    Args:
        records: of earlier runs; those that failed do not count.
        gpu: whether runs are to be made on a GPU: only records of the same kind of device count.
    """

    def __init__(self, records: Iterable[Record], gpu: bool = False) -> None:
        here = environment.cpu_name().partition(",")[0]
        self._runs: dict[Traits, list[float]] = defaultdict(list)
        self._shared: dict[Traits, list[float]] = defaultdict(list)
        for record in records:
            if on_gpu(record) is not gpu:
                continue
            own = record.environment.cpu.partition(",")[0] == here
            # Older records lack processor time; it is at most this.
            timings, threads = record.timings, record.environment.threads
            if not record.failure:
                spent = timings.processor_s or timings.total_s * threads
                where = (record.method, record.preset, record.backbone, record.split)
                keys = _likeness(*where, record.hyperparameters, record.shared_training is not None)
                _add(self._runs, keys, own, spent)
            if first := record.pretraining:
                _add(
                    self._shared, _sharing(record.backbone, record.split, first.steps), own, first.processor_s
                )

    def of(self, config: RunConfig, shares: bool = False) -> float | None:
        """Processor seconds of a run without its shared trainings; None if unknown.

        Args:
            config: of the run.
            shares: whether it uses the training of another run.
        """
        where = (config.method, config.preset, config.backbone, config.split)
        return _first(self._runs, _likeness(*where, config.hyperparameters, shares))

    def of_shared(self, config: RunConfig) -> float | None:
        """Processor seconds of a shared training: a classifier of the base classes, or that of a run."""
        if config.method != PRETRAINING.name:
            return self.of(config)
        steps = config.hyperparameters.get("steps")
        return _first(self._shared, _sharing(config.backbone, config.split, steps))


def _likeness(
    method: str, preset: str, backbone: str, split: str, hyperparameters: dict[str, Any], shares: bool
) -> list[Traits]:
    steps, start = hyperparameters.get("steps"), hyperparameters.get("init")
    return [
        (shares, method, preset, backbone, steps, start, split),
        (shares, method, preset, backbone, steps, start),
        (shares, method, preset, backbone, start),
        (shares, preset, backbone, start),
        (shares, preset, backbone),
    ]


def _sharing(backbone: str, split: str, steps: Any) -> list[Traits]:
    return [(backbone, steps, split), (backbone, steps), (backbone,)]


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
