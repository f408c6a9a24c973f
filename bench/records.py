"""Records: one run = one validated JSON file, with its per-episode accuracies in one npz file beside it."""

from __future__ import annotations

import contextlib
import functools
import gc
import glob
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1
"""Raised whenever a field of `Record` changes its meaning."""

RUN_ID = re.compile(r"[A-Za-z0-9_+@-][A-Za-z0-9._+@-]{0,199}")
"""What a run may be called: a safe file name on every system."""

FRACTIONS = ("fewshot/", "base/", "novel/", "generalized/")
"""Metrics under these names lie between 0 and 1."""

_ROUNDING = 1e-9


def _finite(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("numbers must be finite") from None
    return value


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Scalar = bool | int | float | str | None
MetricKey = Annotated[str, Field(pattern=r"^[\w.@+-]+(/[\w.@+-]+)+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(_Part):
    """A number with its 95% interval.

    Attributes:
        value: the estimate, usually a fraction.
        low: lower end of the interval.
        high: upper end of the interval.
        n: how many observations (episodes, pairs, triplets, classes) are behind it.
        std: how the single values behind it spread, where that says more than the interval; in no
            record's text where it does not.
    """

    value: float
    low: float
    high: float
    n: Positive
    std: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Metric:
        if not self.low - _ROUNDING <= self.value <= self.high + _ROUNDING:
            raise ValueError(f"low {self.low} <= value {self.value} <= high {self.high} does not hold")
        return self

    @model_serializer(mode="wrap")
    def _without_blank(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class SplitCounts(_Part):
    """How many classes and images each part of the split has."""

    base: Count
    validation: Count
    novel: Count
    train_images: Count
    validation_images: Count
    base_test_images: Count
    novel_images: Count
    novel_dropped_duplicates: Count


class EpisodeInfo(_Part):
    """What identifies a list of episodes.

    Attributes:
        way, shot, query: classes, and support and query images a class; query 0 means all other images.
        count: how many ran. seed: of the drawing. sha256: of the list itself.
    """

    way: Positive
    shot: Positive
    query: Count
    count: Positive
    seed: Count
    sha256: Sha256


class Timings(_Part):
    """Wall-clock seconds of the parts of a run, its rates, and its peak resident memory."""

    data_s: Seconds
    train_s: Seconds
    evaluate_s: Seconds
    total_s: Seconds
    steps: Count
    train_images_per_s: Rate | None = None
    episodes_per_s: Rate | None = None
    peak_memory_mib: Rate | None = None


class Environment(_Part):
    """Where a run was made; `libraries` maps names to versions."""

    libraries: dict[str, str]
    platform: str
    cpu: str
    device: str
    precision: str
    threads: Positive
    git_commit: str | None = None
    git_dirty: bool | None = None


class Record(_Part):
    """Everything about one run that a reader needs to believe it or to run it again.

    Attributes:
        schema_version: of this class.
        protocol_version: of splits, episodes and metrics; numbers of two versions do not compare.
        run_id: the record's file name without its ending.
        created: UTC.
        command: the exact command.
        transductive: queries of an episode were answered together.
        external_data: the weights have seen images beyond the base classes.
        config: the resolved run configuration, which can be run again; ``overrides`` holds what was
            changed from the preset.
        parameters: the backbone's parameter count.
        trained: False if the weights were evaluated as they came.
        weights: SHA-256 of the file of starting weights.
        fingerprint: of the data set.
        metrics: key to metric, e.g. ``fewshot/5w1s``, ``novel/pair_auc``; fractions.
        per_class: class name to metric key to metric.
        constant_answer: metric key to what always giving the same answer would score.
        thresholds: name to similarity threshold, found on validation pairs.
        episodes: setting (``5w1s``) to its list of episodes.
        pools: part (base, validation, novel) -> class name -> number of images, in the order that
            episodes, pairs and triplets are drawn from; with the fingerprint it tells which they were.
        episode_file: the npz file with what the metrics were computed from, answer by answer.
    """

    schema_version: int = SCHEMA_VERSION
    protocol_version: Positive
    run_id: str
    created: Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
    bench_version: str
    command: str
    method: str
    family: str
    paper: str
    transductive: bool
    external_data: bool
    preset: str
    hyperparameters: Annotated[dict[str, Scalar | list[Scalar]], AfterValidator(_finite)]
    config: Annotated[dict[str, JsonValue], AfterValidator(_finite)]
    backbone: str
    parameters: Count
    trained: bool
    weights: Sha256 | None = None
    dataset: str
    fingerprint: Sha256
    split: str
    seed: Count
    classes: SplitCounts
    metrics: dict[MetricKey, Metric]
    per_class: dict[str, dict[MetricKey, Metric]] = Field(default_factory=dict)
    constant_answer: dict[str, float] = Field(default_factory=dict)
    thresholds: dict[str, float] = Field(default_factory=dict)
    episodes: dict[str, EpisodeInfo] = Field(default_factory=dict)
    pools: dict[str, dict[str, Positive]] = Field(default_factory=dict)
    episode_file: str | None = None
    episode_file_sha256: Sha256 | None = None
    timings: Timings
    environment: Environment

    @field_validator("schema_version")
    @classmethod
    def _known_schema(cls, version: int) -> int:
        if version != SCHEMA_VERSION:
            raise ValueError(f"this bench reads version {SCHEMA_VERSION}, not {version}")
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
        for key in self.metrics:
            if key.startswith("fewshot/") and key.removeprefix("fewshot/") not in self.episodes:
                raise ValueError(f"episodes: lacks the episode list of {key}")
        if (self.episode_file is None) != (self.episode_file_sha256 is None):
            raise ValueError("episode_file and episode_file_sha256 go together")
        if self.episode_file not in (None, f"{self.run_id}.npz"):
            raise ValueError(f"episode_file: must be {self.run_id}.npz")
        return self


def write(record: Record, directory: Path, episodes: Mapping[str, np.ndarray] | None = None) -> Path:
    """Write ``<run_id>.json``, and ``<run_id>.npz`` before it, each whole or not at all.

    Args:
        record: `episode_file` and its hash are filled in here.
        directory: made if missing.
        episodes: for each setting ``[T]`` numbers of correct queries under its name (``5w1s``) and the
            number of queries an episode, scalar or ``[T]``, under ``5w1s/queries``; other arrays besides.

    Returns:
        The JSON file's path.

    Raises:
        UserError: if a file cannot be written; nothing of this record is left behind then.
    """
    path, npz = directory / f"{record.run_id}.json", directory / f"{record.run_id}.npz"
    files = {}
    if episodes:
        import numpy as np

        buffer = io.BytesIO()
        arrays: dict[str, Any] = {key: episodes[key] for key in sorted(episodes)}
        np.savez_compressed(buffer, **arrays)
        files[npz] = buffer.getvalue()
        digest = hashlib.sha256(files[npz]).hexdigest()
        record = record.model_copy(update={"episode_file": npz.name, "episode_file_sha256": digest})
    text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    # A path or an argument that is not UTF-8 must not cost the run: its odd bytes become "?".
    files[path] = f"{text}\n".encode("utf-8", "replace")
    write_files(files, "--results")
    if record.episode_file is None:  # an overwritten record may have had one
        with contextlib.suppress(OSError):
            npz.unlink(missing_ok=True)
    return path


def write_files(files: Mapping[Path, bytes], flag: str) -> None:
    """Write several files, all or none, each at once: no reader ever sees half a file.

    Args:
        files: path to content; missing folders are made.
        flag: what the error message blames.

    Raises:
        UserError: if one cannot be written.
    """
    new: list[Path] = []
    staged: list[tuple[Path, Path]] = []
    path = next(iter(files))
    try:
        new.extend(path for path in files if not path.exists())
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a killed run
                left_over.unlink(missing_ok=True)
            # In the same folder, so that it is a rename and not a copy.
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            staged.append((temporary, path))
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for temporary, path in staged:
            temporary.replace(path)
    except OSError as error:
        for written in new:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
        reason = error.strerror or type(error).__name__
        raise UserError(flag, path, f"a place that can be written to ({reason})") from error
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def read(path: Path) -> Record:
    """Read and check one record.

    Raises:
        UserError: naming the file and the first thing wrong with it, in one line.
    """
    try:
        record = Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError("--results", path, error.strerror or "cannot be read") from error
    except ValidationError as error:
        raise UserError("--results", path, _first_problem(error)) from None
    if path.name != f"{record.run_id}.json":
        raise UserError("--results", path, f"run_id: must be the file's name, not {record.run_id}")
    return record


def read_all(directory: Path) -> tuple[list[Record], list[str]]:
    """All records of a folder, by run_id, and one line for each file that is not a valid record.

    Raises:
        UserError: if there is no such folder.
    """
    records, problems = [], []
    with collection_paused():
        for found in read_each(directory):
            if isinstance(found, Record):
                records.append(found)
            else:
                problems.append(found)
    return sorted(records, key=lambda record: record.run_id), problems


def read_each(directory: Path) -> Iterator[Record | str]:
    """The records of a folder one by one, and for each file that is not a valid one a line that says why.

    Raises:
        UserError: if there is no such folder.
    """
    try:
        files = (path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")
        paths = sorted(files, key=lambda path: path.name)
    except OSError as error:
        raise UserError("--results", directory, f"a folder of records ({error.strerror})") from error
    for path in paths:
        try:
            yield read(path)
        except UserError as error:
            yield str(error)


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No search for reference cycles: among the objects of a thousand records it takes half the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def find(directory: Path, run_id: str) -> Path | None:
    """The file of the run called `run_id`, or None if it is not recorded in `directory`."""
    path = directory / f"{run_id}.json"
    return path if RUN_ID.fullmatch(run_id) and path.is_file() else None


def read_episodes(record: Record, directory: Path, settings: Collection[str]) -> dict[str, np.ndarray]:
    """Per-episode accuracies of a record: setting to float64 ``[T]``.

    Args:
        record: the record.
        directory: where it and its episode file lie.
        settings: which are wanted; those the record does not have are left out.

    Raises:
        UserError: if the episode file is missing, is not the one the record was written with, or does not
            hold what the record says.
    """
    if record.episode_file is None:
        return {}
    import zipfile
    import zlib

    path = directory / record.episode_file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError("--results", path, error.strerror or "cannot be read") from error
    if hashlib.sha256(content).hexdigest() != record.episode_file_sha256:
        raise UserError("--results", path, f"not the file that {record.run_id}.json was written with")
    accuracies = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            for setting in [name for name in record.episodes if name in settings]:
                correct, queries = [members.read(f"{name}.npy") for name in (setting, f"{setting}/queries")]
                accuracies[setting] = _npy(correct) / _npy(queries)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError("--results", path, f"per-episode accuracies as npz ({error})") from error
    for setting, values in accuracies.items():
        count = record.episodes[setting].count
        if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
            raise UserError("--results", path, f"{setting}: {count} numbers of correct queries")
    return accuracies


def _npy(content: bytes) -> np.ndarray:
    """What ``np.load`` gives for these bytes.

    It parses each array's header as Python source, which would be three quarters of the time that
    thousands of records take; their headers are all alike.
    """
    import numpy as np

    end = 10 + int.from_bytes(content[8:10], "little")
    shape, dtype = _npy_header(content[:end])
    return np.frombuffer(content, dtype, offset=end).reshape(shape)


@functools.lru_cache(maxsize=256)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    from numpy.lib import format as npy

    stream = io.BytesIO(header)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("not version 1.0 of the npy format")
    shape, _, dtype = npy.read_array_header_1_0(stream)
    return shape, dtype


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    where = ".".join(str(step) for step in problems[0]["loc"])
    message = problems[0]["msg"].removeprefix("Value error, ")
    text = f"{where}: {message}" if where else message
    if len(problems) > 1:
        text += f" (and {len(problems) - 1} more)"
    # Keys come from the file: no control characters to the terminal, no endless line.
    return "".join(c if c.isprintable() else " " for c in text)[:300]
