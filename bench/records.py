"""Records: one run = one validated JSON file, with its per-episode accuracies in one npz file beside it."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.files import write_files
from bench.record import (
    RUN_ID,
    SCHEMA_VERSION,
    Environment,
    EpisodeInfo,
    Metric,
    Record,
    SplitCounts,
    Timings,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "RUN_ID",
    "SCHEMA_VERSION",
    "Environment",
    "EpisodeInfo",
    "Metric",
    "Record",
    "SplitCounts",
    "Timings",
    "collection_paused",
    "find",
    "load_arrays",
    "read",
    "read_all",
    "read_each",
    "read_episodes",
    "write",
]


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
    except Exception as error:  # as in `load_arrays`
        raise UserError("--results", path, f"per-episode accuracies as npz ({error})") from error
    for setting, values in accuracies.items():
        count = record.episodes[setting].count
        if values.dtype.kind != "f" or values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
            raise UserError("--results", path, f"{setting}: {count} numbers of correct queries")
    return accuracies


def load_arrays(content: bytes, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name, without running code that one may carry.

    Args:
        content: of the file.
        wanted: whether the array of a name is read.

    Raises:
        ValueError: it is no npz file, or something in it is no array of numbers.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            found = {name: members[name] for name in members.files if wanted(name)}
    except Exception as error:  # whatever numpy and zipfile stumble over, and memory for a false size
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    for name, array in found.items():
        # Of what numpy does not know it gives the bytes.
        if not (isinstance(array, np.ndarray) and array.dtype.kind in "biuf"):
            raise ValueError(f"{name} is no array of numbers")
    return found


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
