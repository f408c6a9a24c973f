"""The parts of a record: a metric, a list of episodes, a training, a machine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

LARGEST = 1e15
"""No number is larger: sums and percentages of larger ones overflow floats."""

_ROUNDING = 1e-9

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Seconds = Annotated[float, Field(ge=0, le=LARGEST)]
Rate = Annotated[float, Field(ge=0, le=LARGEST)]
Value = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class Part(BaseModel):
    """Immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Part):
    """A number with its 95% interval.

    Attributes:
        value: the estimate, usually a fraction.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of observations (episodes, pairs, triplets, classes).
        std: standard deviation of the single values, if it says more than the interval; otherwise absent.
    """

    value: Value
    low: Value
    high: Value
    n: Positive
    std: Rate | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Metric:
        if not self.low - _ROUNDING <= self.value <= self.high + _ROUNDING:
            raise ValueError(f"low {self.low} <= value {self.value} <= high {self.high} does not hold")
        return self

    @model_serializer(mode="wrap")
    def _without_blank(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class SplitCounts(Part):
    """Numbers of classes and images of each part of the split."""

    base: Count
    validation: Count
    novel: Count
    train_images: Count
    validation_images: Count
    base_test_images: Count
    novel_images: Count
    novel_dropped_duplicates: Count
    dropped_copies: Count = 0


class EpisodeInfo(Part):
    """Identity of a list of episodes.

    Attributes:
        way, shot, query: classes, and support and query images per class; query 0 means all other images.
        count: number of episodes. seed: of the random draw. sha256: of the list.
    """

    way: Positive
    shot: Positive
    query: Count
    count: Positive
    seed: Count
    sha256: Sha256


class OpenSetInfo(EpisodeInfo):
    """Identity of a list of open-set episodes.

    Attributes:
        way: classes of the support set. others: further classes, of which there are only queries.
    """

    others: Positive


class Sources(Part):
    """SHA-256 of what determines the numbers, except configuration and images (`bench.run.run_id`).

    Attributes:
        split: of the classes and images of each part. novel: of the novel ones; None in older records.
        method: of the code of the method and of its imports, except libraries.
        bench: of the code that trains and measures.
        plugin: name and version of the package of a plug-in method; the empty string for others.
    """

    split: Sha256
    method: Sha256
    bench: Sha256
    plugin: str = ""
    novel: Sha256 | None = None


class Training(Part):
    """Cost of a training.

    Attributes:
        steps: number of steps. kept_step: the step of the kept weights.
        images: number of training images seen, repetitions included.
        seconds: wall-clock time. processor_s: processor time of all threads.
        where: device, precision and threads; empty in older records.
    """

    steps: Count
    kept_step: Count
    images: Count
    seconds: Seconds
    processor_s: Seconds
    where: str = ""

    @classmethod
    def none(cls) -> Training:
        """A training of 0 steps."""
        return cls(steps=0, kept_step=0, images=0, seconds=0.0, processor_s=0.0)


class SharedTraining(Training):
    """A training that is done once for all runs that start from its weights or use them.

    Attributes:
        run_id: its folder under ``--runs``.
        model: SHA-256 of its weights file.
    """

    run_id: str
    model: Sha256


class Timings(Part):
    """Wall-clock seconds of the parts of a run, rates, and peak resident memory.

    The training before an interruption counts in `train_s`, `total_s` and `processor_s`. Pretraining and the
    training of another run do not count in any of them.

    Attributes:
        processor_s: processor time of the run, all threads.
    """

    data_s: Seconds
    train_s: Seconds
    evaluate_s: Seconds
    total_s: Seconds
    steps: Count
    processor_s: Seconds | None = None
    train_images_per_s: Rate | None = None
    episodes_per_s: Rate | None = None
    peak_memory_mib: Rate | None = None


class Environment(Part):
    """Machine and software of a run; `libraries` maps names to versions.

    Attributes:
        compiled: whether training used compiled operations, which round differently.
        devices: number of devices that shared the training.
    """

    libraries: dict[str, str]
    platform: str
    cpu: str
    device: str
    precision: str
    threads: Positive
    compiled: bool = False
    devices: Positive = 1
    git_commit: str | None = None
    git_dirty: bool | None = None
