"""The schema of a record: everything about one run, as a validated model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from bench.records.parts import (
    Count,
    Environment,
    EpisodeInfo,
    Metric,
    OpenSetInfo,
    Part,
    Positive,
    Sha256,
    SharedTraining,
    Sources,
    SplitCounts,
    Timings,
    Value,
)

SCHEMA_VERSION = 1
"""Raised when a field of `Record` changes its meaning, or one without a default is added."""

RUN_ID = re.compile(r"[A-Za-z0-9_+@-][A-Za-z0-9._+@-]{0,199}")
"""What a run may be called: a safe file name on every system."""

MODEL_FILE = "model.safetensors"
"""The weights of a run, in its folder under ``--runs``, with a card (`bench.run.models`)."""

CONFIG_FILE = "config.yaml"  # its settings; without it, a split from a file cannot be made again
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = f"{CHECKPOINTS}/last.ckpt"

FRACTIONS = ("fewshot/", "base/", "novel/", "generalized/", "open")
"""Metrics under these names are between 0 and 1."""

MOST_IMAGES = 20_000_000
"""Maximum per part of a split: redrawing the episodes of a record with more would fill the memory."""

MOST_ANSWERS = 100_000_000
"""Maximum of episodes times classes, for the same reason."""

Scalar = bool | int | float | str | None
MetricKey = Annotated[str, Field(pattern=r"^[\w.@+-]+(/[\w.@+-]+)+$")]


def _finite(value: Any) -> Any:
    try:
        # A JSON number may have hundreds of digits.
        json.loads(json.dumps(value, allow_nan=False), parse_int=_as_float)
    except ValueError:
        raise ValueError("numbers must be finite") from None
    return value


def _as_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(digits)
    return number


def _utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("not in the years 1 to 9999 of UTC") from None


class Record(Part):
    """Everything about one run that is needed to check or repeat it.

    Attributes:
        schema_version: of this class.
        protocol_version: of splits, episodes and metrics; numbers of different versions are not comparable.
        run_id: the record's file name without its ending.
        created: UTC.
        command: the exact command.
        transductive: queries of an episode were classified together.
        external_data: the weights have seen images beyond the base classes.
        labelled_novel_images: number of labelled training images per novel class (of the largest class) that
            it learned from before that class was tested. Its numbers are not few-shot numbers.
        config: the resolved run configuration, which can be run again; ``overrides`` holds what was
            changed from the preset.
        parameters: the backbone's parameter count.
        trained: False if the weights were evaluated without training.
        weights: SHA-256 of the file of starting weights.
        fingerprint: of the data set.
        drawn_by: what episodes, pairs and triplets are drawn by (`ImageSet.drawn_by`); None if that is the
            fingerprint.
        left_out_images: number of unreadable images. left_out_classes: of classes with too few others.
        no_training_classes: base classes of the split that are left out, without training images.
        metrics: key -> metric, e.g. ``fewshot/5w1s``, ``novel/pair_auc``; fractions.
        per_class: class name -> metric key -> metric.
        constant_answer: metric key -> score of always giving the same answer.
        thresholds: name -> similarity threshold, chosen on validation pairs; of an open-set setting, the
            threshold of scores, chosen on episodes of validation images.
        episodes: setting (``5w1s``) -> its list of episodes.
        open_set: the same for open-set settings (``open5w1s``).
        pools: part (base, validation, novel) -> class name -> number of images, in the order that
            episodes, pairs and triplets are drawn from. With `images_id` it identifies them.
        pretraining: the classifier of the base classes that it started from; None for random weights or
            weights from a file.
        shared_training: the run whose weights it uses, because both differ only in test-only
            hyperparameters; None if its weights are from its own training.
        images: number of training images seen by its own steps, repetitions included; None in older records.
        kept_step: the step of its own training that was kept, of `timings.steps`; 0 means the starting
            weights.
        failure: how training failed, if it did. Such a run has no numbers and is never ranked.
        sources: digests of classes and code; None in older records.
        model: SHA-256 of the file of the evaluated weights, `MODEL_FILE`.
        episode_file: the npz file with the individual answers behind the metrics.
    """

    schema_version: int = SCHEMA_VERSION
    protocol_version: Positive
    run_id: str
    created: Annotated[AwareDatetime, AfterValidator(_utc)]
    bench_version: str
    command: str
    method: str
    family: str
    paper: str
    transductive: bool
    external_data: bool
    labelled_novel_images: Count = 0
    preset: str
    hyperparameters: Annotated[dict[str, Scalar | list[Scalar]], AfterValidator(_finite)]
    config: Annotated[dict[str, JsonValue], AfterValidator(_finite)]
    backbone: str
    parameters: Count
    trained: bool
    weights: Sha256 | None = None
    dataset: str
    fingerprint: Sha256
    drawn_by: Sha256 | None = None
    left_out_images: Count = 0
    left_out_classes: Count = 0
    no_training_classes: list[str] = Field(default_factory=list)
    split: str
    seed: Count
    classes: SplitCounts
    metrics: dict[MetricKey, Metric]
    per_class: dict[str, dict[MetricKey, Metric]] = Field(default_factory=dict)
    constant_answer: dict[str, Value] = Field(default_factory=dict)
    thresholds: dict[str, Value] = Field(default_factory=dict)
    episodes: dict[str, EpisodeInfo] = Field(default_factory=dict)
    open_set: dict[str, OpenSetInfo] = Field(default_factory=dict)
    pools: dict[str, dict[str, Positive]] = Field(default_factory=dict)
    pretraining: SharedTraining | None = None
    shared_training: SharedTraining | None = None
    images: Count | None = None
    kept_step: Count | None = None
    failure: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    sources: Sources | None = None
    model: Sha256 | None = None
    episode_file: str | None = None
    episode_file_sha256: Sha256 | None = None
    timings: Timings
    environment: Environment

    @property
    def images_id(self) -> str:
        """What episodes, pairs and triplets are drawn by: the same for the same images of any size."""
        return self.drawn_by or self.fingerprint

    @field_validator("schema_version")
    @classmethod
    def _known_schema(cls, version: int) -> int:
        if version != SCHEMA_VERSION:
            newer = ": a newer bench wrote it" if version > SCHEMA_VERSION else ""
            raise ValueError(f"this bench reads version {SCHEMA_VERSION}, not {version}{newer}")
        return version

    @field_validator("run_id")
    @classmethod
    def _safe_name(cls, run_id: str) -> str:
        if not RUN_ID.fullmatch(run_id):
            raise ValueError("1 to 200 of A-Z a-z 0-9 . _ + @ -, not starting with a dot")
        return run_id

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        for owner, metrics in [("metrics", self.metrics), *self.per_class.items()]:
            for key, metric in metrics.items():
                if key.startswith(FRACTIONS) and not (metric.low >= 0 and metric.high <= 1):
                    raise ValueError(f"{owner} {key}: must be a fraction between 0 and 1")
        for part, sizes in self.pools.items():
            if sum(sizes.values()) > MOST_IMAGES:
                raise ValueError(f"pools {part}: more than {MOST_IMAGES:,} images")
        for name, info in self.episodes.items():
            if info.count * info.way > MOST_ANSWERS:
                raise ValueError(f"episodes {name}: more than {MOST_ANSWERS:,} answers")
        for name, info in self.open_set.items():
            if info.count * (info.way + info.others) > MOST_ANSWERS:
                raise ValueError(f"open_set {name}: more than {MOST_ANSWERS:,} answers")
        for key in self.metrics:
            if key.startswith("open") and key.partition("/")[0] not in self.open_set:
                raise ValueError(f"open_set: the episode list of {key} is missing")
            if key.startswith("fewshot/") and key.removeprefix("fewshot/") not in self.episodes:
                raise ValueError(f"episodes: the episode list of {key} is missing")
        if self.labelled_novel_images and (self.episodes or not _only_verified(self.metrics)):
            raise ValueError("labelled_novel_images: such a run must have only pairs and triplets")
        if self.kept_step is not None and self.kept_step > self.timings.steps:
            raise ValueError(f"kept_step: {self.kept_step}, but there were {self.timings.steps} steps")
        if self.shared_training:
            if not self.trained or self.timings.steps or self.images or self.kept_step:
                raise ValueError("shared_training: such a run must not have its own training")
            if self.shared_training.run_id == self.run_id:
                raise ValueError("shared_training: must be another run")
            if self.failure is None and self.model != self.shared_training.model:
                raise ValueError("model: must be the weights of shared_training")
        if self.failure is not None and (self.metrics or self.per_class or self.episode_file):
            raise ValueError("failure: such a run must not have metrics, classes or an episode file")
        if (self.episode_file is None) != (self.episode_file_sha256 is None):
            raise ValueError("episode_file and episode_file_sha256 must be given together")
        if self.episode_file not in (None, f"{self.run_id}.npz"):
            raise ValueError(f"episode_file: must be {self.run_id}.npz")
        return self


def _only_verified(metrics: Iterable[str]) -> bool:
    return all(key.startswith(("base/", "novel/")) for key in metrics)
