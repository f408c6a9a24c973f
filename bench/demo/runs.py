"""The model behind the page: a recorded run's, or the embedding of characters that the package ships."""

from __future__ import annotations

from pathlib import Path

from bench.records import store
from bench.records.schema import MODEL_FILE
from bench.reporting.run_page import find_run
from bench.serving.shipped import Run, shipped


def with_models(results: Path, runs: Path) -> dict[str, Run]:
    """Run id -> run, for all whose model is there; the shipped one is the first."""
    own = shipped()
    found = {own.record.run_id: own}
    for record in store.read_all(results)[0] if results.is_dir() else ():
        if record.run_id not in found and (runs / record.run_id / MODEL_FILE).is_file():
            found[record.run_id] = Run(record, runs)
    return found


def chosen(name: str | None, results: Path, runs: Path) -> Run:
    """The run that ``--run`` names; the shipped one if it is not given.

    Raises:
        UserError: there is no such run.
    """
    return shipped() if name is None else Run(store.read(find_run(results, name, "--run")), runs)
