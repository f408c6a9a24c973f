"""The model behind the page: a recorded run's, or the embedding of characters that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.common.errors import UserError
from bench.common.files import is_file, is_folder
from bench.records import store
from bench.records.schema import MODEL_FILE, Record
from bench.serving.finding import find_folder

SHIPPED = Path(__file__).with_name("embedding")
"""A folder of one record, and of its model in a folder of its name (`bench.demo.ship` puts them there)."""


class Run(NamedTuple):
    """A recorded run whose model is there, and the folder of models."""

    record: Record
    runs: Path


def shipped() -> Run:
    """The run whose model is in the package."""
    (path,) = SHIPPED.glob("*.json")
    return Run(store.read(path), SHIPPED)


def with_models(results: Path, runs: Path) -> dict[str, Run]:
    """Run id -> run, for all whose model is there; the shipped one is the first."""
    own = shipped()
    found = {own.record.run_id: own}
    for record in store.read_all(results)[0] if results.is_dir() else ():
        if record.run_id not in found and (runs / record.run_id / MODEL_FILE).is_file():
            found[record.run_id] = Run(record, runs)
    return found


def chosen(name: str | None, results: Path, runs: Path) -> Run:
    """The run that ``--run`` names, of those whose model is there; the shipped one if it is not given.

    Raises:
        UserError: there is no such run, or its record is not at hand.
    """
    if name is None:
        return shipped()
    if not is_folder(results):
        raise UserError("--results", results, "no such folder; must be the folder of records")
    folder = find_folder(name, runs, results)
    given = Path(name)
    path = given if given.suffix == ".json" and is_file(given) else store.find(results, folder.name)
    if path is None:
        raise UserError("--results", results, f"has no record of {folder.name}")
    return Run(store.read(path), folder.parent)
