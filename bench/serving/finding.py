"""Finds the folder of a run's model; without one, says how to make it."""

from __future__ import annotations

from pathlib import Path

from bench.common.errors import UserError, one_of
from bench.common.files import is_folder
from bench.records import store
from bench.records.commands import repeat_command
from bench.records.schema import Record
from bench.run.models import CARD, check_kept, exists


def find_folder(run: str, runs: Path, results: Path = Path("results")) -> Path:
    """The folder of a run's model.

    Args:
        run: a run id, the start of exactly one whose model is there, the run's folder, or its record.
        runs: folder of runs. results: folder of records, to say what is missing.

    Raises:
        UserError: there is no such model.
    """
    path = Path(run)
    if exists(path):
        return path
    name = path.stem if path.suffix in (".json", ".npz") else path.name
    if exists(runs / name):
        return runs / name
    names = sorted(card.parent.name for card in runs.glob(f"*/{CARD}")) if is_folder(runs) else []
    begun = [other for other in names if name and other.startswith(name)]
    if len(begun) == 1:
        return runs / begun[0]
    if begun:
        raise UserError("--run", run, f"must be one run; {len(begun)} start with this; {one_of(name, begun)}")
    tried = map(store.try_read, store.matching(results, run))
    recorded = [record for record in tried if isinstance(record, Record)]
    if len(recorded) == 1:
        raise UserError("--run", run, _without_model(recorded[0], runs))
    if recorded:
        problem = f"{len(recorded)} recorded runs start with this, but none of their models is in {runs}"
        every = one_of(name, (record.run_id for record in recorded))
        raise UserError("--run", run, f"{problem}; {every}")
    if is_folder(path):
        raise UserError("--run", run, f"has no {CARD}: it is not the folder of a finished run")
    there = one_of(name, names) if names else "there are none: `python -m bench run` makes one"
    raise UserError("--run", run, f"no such run in {runs}; {there}")


def _without_model(record: Record, runs: Path) -> str:
    check_kept(record.run_id, record.backbone)
    if record.failure is not None:
        return f"has no model: {record.failure}"
    made = f"`{repeat_command(record, runs)}` makes it again (as another run, if the code has changed since)"
    return f"is recorded, but its model is not in {runs}; {made}"
