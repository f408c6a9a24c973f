"""The model behind the page: a recorded run's, or the embedding of characters that the package ships."""

from __future__ import annotations

from pathlib import Path

from bench.common.errors import UserError
from bench.common.files import is_folder
from bench.records import store
from bench.records.schema import MODEL_FILE
from bench.serving.shipped import DRAWINGS, Run, shipped


def with_models(results: Path, runs: Path) -> dict[str, Run]:
    """Run id -> run, for all whose model is there; the shipped one is the first."""
    own = shipped(DRAWINGS)
    found = {own.record.run_id: own}
    for record in store.read_all(results)[0] if results.is_dir() else ():
        if record.run_id not in found and (runs / record.run_id / MODEL_FILE).is_file():
            found[record.run_id] = Run(record, runs)
    return found


def chosen(name: str | None, results: Path, runs: Path) -> Run:
    """The run that ``--run`` names, of those whose model is there; the shipped one if it is not given.

    Raises:
        UserError: there is no such run, or it has no record there.
    """
    if name is None:
        return shipped(DRAWINGS)
    if not is_folder(results):
        raise UserError("--results", results, "no such folder; must be the folder of records")
    from bench.serving.finding import find_folder  # imports torch

    folder = find_folder(name, runs, results)
    path = store.named(results, name) or store.find(results, folder.name)
    if path is None:
        raise UserError("--results", results, f"has no record of {folder.name}")
    return Run(store.read(path), folder.parent)
