"""The budget and result of a run according to its record: track, images, kept step, time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.records.identity import changes, name_of, other_weights
from bench.records.parts import SharedTraining
from bench.records.store import Record

TOLERANCE = 0.01
"""Relative difference allowed between a record's images and its track's budget: rounding to whole batches."""


class Track(NamedTuple):
    """Runs that are ranked together: same preset, backbone and budget, and nothing changed except the start.

    Attributes:
        preset: such as ``quick``.
        backbone: such as ``conv4``.
        images: the budget, training images seen, pretraining included.
    """

    preset: str
    backbone: str
    images: int


class Cost(NamedTuple):
    """Cost of a run with its evaluation and its shared trainings, in seconds; the mean over seeds.

    Attributes:
        processor: processor time of all threads; None if a seed does not record it. It does not count a GPU.
        wall: wall-clock time, which depends on what else ran on the machine.
        threads: of the runs, such as ``1``, ``1/2`` if they differ, or ``1 + GPU``.
        one_core: `processor`, or what it is at most: the wall-clock time of all threads.
    """

    processor: float | None
    wall: float
    threads: str
    one_core: float


def images_seen(record: Record) -> int | None:
    """Training images seen, repetitions and pretraining included; None in older records."""
    if record.images is None:
        return None
    return record.images + sum(training.images for training in _shared(record))


def _shared(record: Record) -> list[SharedTraining]:
    """The shared trainings behind its weights."""
    return [training for training in (record.pretraining, record.shared_training) if training]


def pretraining_share(record: Record) -> float | None:
    """The pretraining's share of the images seen; None if there are none, or not recorded."""
    seen = images_seen(record)
    # Older records name neither: pretraining was part of the method.
    if not seen or (record.pretraining is None and record.kept_step is None):
        return None
    return record.pretraining.images / seen if record.pretraining else 0.0


def partition_by_track(records: Iterable[Record]) -> tuple[dict[Track, list[Record]], list[Record]]:
    """Records by track, and the variations: those without a track.

    A track's budget is the number of images that most of its rows have seen, up to `TOLERANCE`; among such
    numbers the one with most exact matches, or the largest. A variation has changed values other than its
    start, starts from other weights than the preset's, has another number of images, or does not record it.

    Args:
        records: of the same images and protocol.
    """
    tracks: dict[Track, list[Record]] = {}
    variations: list[Record] = []
    unchanged: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if images_seen(record) and not changes(record) and not other_weights(record):
            unchanged.setdefault((record.preset, record.backbone), []).append(record)
        else:
            variations.append(record)
    for (preset, backbone), own in unchanged.items():
        budget = _budget(own)
        for record in own:
            if _within(record, budget):
                tracks.setdefault(Track(preset, backbone, budget), []).append(record)
            else:
                variations.append(record)
    in_order = sorted(tracks, key=lambda track: (track.images, track))
    return {track: tracks[track] for track in in_order}, variations


def _budget(records: Sequence[Record]) -> int:
    def rows(chosen: Callable[[Record], bool]) -> int:
        return len({name_of(record) for record in records if chosen(record)})

    def order(images: int) -> tuple[int, int, int]:
        within = rows(lambda record: _within(record, images))
        return within, rows(lambda record: images_seen(record) == images), images

    return max({images_seen(record) or 0 for record in records}, key=order)


def _within(record: Record, budget: int) -> bool:
    return abs((images_seen(record) or 0) - budget) <= TOLERANCE * budget


def keeps_pretrained(record: Record) -> bool:
    """Whether validation kept the pretrained network unchanged."""
    if record.pretraining is None:
        return False
    if record.shared_training:
        return record.shared_training.kept_step == 0
    return record.timings.steps == 0 or record.kept_step == 0


def kept(records: Iterable[Record]) -> str:
    """The kept step and the number of steps: ``2,100 of 3,000``; empty if not recorded.

    Args:
        records: the seeds of one row.
    """
    steps: dict[str, list[int]] = {}
    pretrained = others = 0
    for record in records:
        shared = record.shared_training
        if record.pretraining and record.timings.steps == 0 and not shared:
            steps.setdefault(f"{record.pretraining.steps:,} pretraining", []).append(
                record.pretraining.kept_step
            )
        elif keeps_pretrained(record):
            pretrained += 1
            continue
        elif shared:
            steps.setdefault(f"{shared.steps:,}", []).append(shared.kept_step)
        elif record.kept_step is not None:
            steps.setdefault(f"{record.timings.steps:,}", []).append(record.kept_step)
        others += 1
    parts = [f"{_span(own)} of {total}" for total, own in steps.items()]
    if pretrained:
        seeds = f" ({pretrained} of {pretrained + others} seeds)" if others else ""
        parts.append(f"the pretrained network{seeds}")
    return ", ".join(parts)


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def training_seconds(record: Record) -> float | None:
    """Seconds of training, shared trainings included; None if nothing was trained.

    On a CPU those of one core, so that runs of one and of several threads can be compared: processor time,
    or the wall-clock time of all threads where that is less (the processor time of the run has its evaluation
    too) or all that is recorded. With a GPU, wall-clock time.
    """
    if not (record.trained or record.pretraining):
        return None
    shared, wall = _shared(record), record.timings.train_s * cores(record)
    if on_gpu(record):
        return wall + sum(training.seconds for training in shared)
    own = min(wall, record.timings.processor_s or wall)
    return own + sum(training.processor_s or training.seconds for training in shared)


def cores(record: Record) -> int:
    """How many cores its wall-clock time counts for: one per thread, or 1 beside a GPU."""
    return 1 if on_gpu(record) else record.environment.threads


def processor_seconds(record: Record) -> float | None:
    """Processor time of the run and of its shared trainings; None if not recorded."""
    if record.timings.processor_s is None:
        return None
    return record.timings.processor_s + sum(training.processor_s for training in _shared(record))


def cost(records: Iterable[Record]) -> Cost | None:
    """Cost of the seeds of a row; None if nothing was trained."""
    trained = [record for record in records if record.trained or record.pretraining]
    if not trained:
        return None
    processor = [own for record in trained if (own := processor_seconds(record)) is not None]
    wall = [record.timings.total_s + sum(one.seconds for one in _shared(record)) for record in trained]
    threads = sorted({record.environment.threads for record in trained})
    gpu = {on_gpu(record) for record in trained}
    beside = (" + GPU" if all(gpu) else ", some + GPU") if any(gpu) else ""
    known = fmean(processor) if len(processor) == len(trained) else None
    at_most = fmean(own * cores(record) for own, record in zip(wall, trained, strict=True))
    return Cost(known, fmean(wall), "/".join(map(str, threads)) + beside, known or at_most)


def on_gpu(record: Record) -> bool:
    """Whether a device other than the CPU trained or evaluated it."""
    shared = (training.where.partition(",")[0] for training in _shared(record))
    return any(device not in ("", "cpu") for device in (record.environment.device, *shared))


class Shared(NamedTuple):
    """Rows that use the same trained network, in some seeds.

    Attributes:
        rows: their positions. seeds: in which all of them use it.
    """

    rows: tuple[int, ...]
    seeds: tuple[int, ...]


def shared_networks(rows: Sequence[Sequence[Record]]) -> list[Shared]:
    """Rows that use the same trained network: one entry per set of rows.

    Args:
        rows: the records of each row.
    """
    users: dict[str, set[int]] = {}
    seed: dict[str, int] = {}
    for position, records in enumerate(rows):
        for record in records:
            if sha256 := network(record):
                users.setdefault(sha256, set()).add(position)
                seed[sha256] = record.seed
    sets: dict[tuple[int, ...], set[int]] = {}
    for sha256, own in users.items():
        if len(own) > 1:
            sets.setdefault(tuple(sorted(own)), set()).add(seed[sha256])
    return [Shared(own, tuple(sorted(sets[own]))) for own in sorted(sets)]


def network(record: Record) -> str | None:
    """SHA-256 of the evaluated weights, or of the pretrained network if it was kept unchanged."""
    if record.pretraining and keeps_pretrained(record):
        return record.pretraining.model
    return record.model


def uncommitted(records: Iterable[Record]) -> bool:
    """Whether any was made by uncommitted code."""
    return any(record.environment.git_dirty for record in records)
