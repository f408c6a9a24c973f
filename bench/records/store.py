"""Reads and writes records: one validated JSON file per run, and an npz file with the individual answers."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.common.errors import UserError
from bench.common.files import is_file, read_regular, write_files
from bench.records.schema import RUN_ID, Record

if TYPE_CHECKING:
    import numpy as np

OWN = "own"
"""The folder of a user's own runs in a folder of records; git ignores it, and readers show both."""

MOST_NAMES = 5  # of runs that start alike, in a message


def write(record: Record, directory: Path, episodes: Mapping[str, np.ndarray] | None = None) -> Path:
    """Write ``<run_id>.npz`` and then ``<run_id>.json``, each atomically.

    Only one process may write a record at a time.

    Args:
        record: `episode_file` and its hash are filled in here.
        directory: created if missing.
        episodes: per setting the number of correct queries ``[T]`` under its name (``5w1s``) and the number
            of queries per episode, scalar or ``[T]``, under ``5w1s/queries``; may hold other arrays.

    Returns:
        The JSON file's path.

    Raises:
        UserError: if a file cannot be written; then nothing of this record remains.
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
    # A path or argument that is not UTF-8 must not fail the run: wrong bytes become "?".
    files[path] = f"{text}\n".encode("utf-8", "replace")
    write_files(files, "--results", exclusive=True)
    if record.episode_file is None:  # an overwritten record may have had one
        with contextlib.suppress(OSError):
            npz.unlink(missing_ok=True)
    return path


def read(path: Path) -> Record:
    """Read and check one record.

    Raises:
        UserError: names the file and the first problem, in one line.
    """
    try:
        record = Record.model_validate_json(read_regular(path))
    except OSError as error:
        raise UserError("--results", path, error.strerror or "cannot be read") from error
    except ValidationError as error:
        raise UserError("--results", path, first_problem(error)) from None
    if path.name != f"{record.run_id}.json":
        raise UserError("--results", path, f"run_id: must be the file's name, not {record.run_id}")
    return record


def read_all(directory: Path, own: bool = True) -> tuple[list[Record], list[str]]:
    """All records of a folder, sorted by run_id, and one line per file that is not a valid record.

    Args:
        directory: the folder.
        own: also those of its folder `OWN`. Without it they are read only if there are no others.

    Raises:
        UserError: if the folder cannot be read.
    """
    try:
        paths = _files(directory)
        if (own or not paths) and (directory / OWN).is_dir():
            there = {path.name for path in paths}
            paths += [path for path in _files(directory / OWN) if path.name not in there]
    except OSError as error:
        raise UserError("--results", directory, f"must be a folder of records ({error.strerror})") from error
    found = [try_read(path) for path in paths]
    records = sorted((one for one in found if isinstance(one, Record)), key=lambda record: record.run_id)
    return records, [one for one in found if isinstance(one, str)]


def _files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.iterdir() if p.suffix == ".json" and p.name[0] != ".")


def try_read(path: Path) -> Record | str:
    """The record in a file, or a line that says why it is not valid."""
    try:
        return read(path)
    except UserError as error:
        return str(error)


def find(directory: Path, run_id: str) -> Path | None:
    """The file of the run called `run_id`, or None if it is not recorded there (see `locate_file`)."""
    path = locate_file(directory, f"{run_id}.json")
    return path if RUN_ID.fullmatch(run_id) and is_file(path) else None


def named(directory: Path, run: str) -> Path | None:
    """The file that a run id or the path of a record or of its answers means; None if there is none."""
    path = Path(run)
    if path.suffix not in (".json", ".npz"):
        return find(directory, path.name) if path.name == run or path.is_dir() else None
    own = path.with_suffix(".json")
    return own if is_file(own) else find(directory, path.stem)


def matching(directory: Path, run: str) -> list[Path]:
    """The files of the records that a run id, the start of some, or a path means; paths as in `named`."""
    if own := named(directory, run):
        return [own]
    begun = [name for name in _names(directory) if run and name.startswith(run)]
    return [locate_file(directory, f"{name}.json") for name in begun]


def find_run(directory: Path, run: str, flag: str = "show") -> Path:
    """The file of the one record that `run` means, as in `matching`.

    Raises:
        UserError: with this flag: there is none, or several run ids start with `run`.
    """
    found = matching(directory, run)
    if len(found) == 1:
        return found[0]
    if not directory.is_dir():
        raise UserError("--results", directory, "no such folder; must be the folder of records")
    if found:
        begun = ", ".join(path.stem for path in found[:MOST_NAMES]) + ", ..." * (len(found) > MOST_NAMES)
        raise UserError(flag, run, f"must be one run; {len(found)} start with this: {begun}")
    names = _names(directory)
    near = difflib.get_close_matches(Path(run).name, names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else "see `list runs`"
    raise UserError(flag, run, f"no such run in {directory}; {hint}" if names else f"{directory} has no runs")


def _names(directory: Path) -> list[str]:
    return sorted({path.stem for folder in (directory, directory / OWN) for path in folder.glob("*.json")})


def locate_file(directory: Path, name: str) -> Path:
    """The file `name` of a folder of records; of its folder `OWN`, or the one around, if only that has it."""
    paths = (folder / name for folder in (directory, directory / OWN, whole(directory)))
    return next((path for path in paths if is_file(path)), directory / name)


def whole(directory: Path) -> Path:
    """The folder around a folder `OWN`; any other folder itself."""
    return directory.parent if directory.name == OWN else directory


def first_problem(error: ValidationError) -> str:
    """One line: the field, what is wrong with it, and how many other problems there are."""
    problems = error.errors(include_url=False, include_input=False)
    where = ".".join(str(step) for step in problems[0]["loc"])
    message = problems[0]["msg"].removeprefix("Value error, ")
    text = f"{where}: {message}" if where else message
    if len(problems) > 1:
        text += f" (and {len(problems) - 1} more)"
    return text[:300]  # `UserError` escapes control characters
