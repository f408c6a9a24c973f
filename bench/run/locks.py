"""Several processes on the same folders: each run is made once, and nobody waits while other work is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from bench.common.errors import UserError

LOCKS = ".locks"
"""Folder for the locks of records, beside them; hidden, and ignored by git wherever it lies."""


LOOK_EVERY_S = 0.5

Job = TypeVar("Job")
Made = TypeVar("Made")


class Locked(Exception):
    """Another process is making the run."""


@contextmanager
def alone(run_id: str, results: Path, runs: Path) -> Iterator[None]:
    """Hold a run's record and its folder, which only one process may write at a time.

    Raises:
        Locked: another process holds one of them.
        UserError: the folders cannot be written to.
    """
    with ExitStack() as held:
        # Processes with one folder of results may have different folders of runs, and the reverse.
        for flag, folder in (("--results", results / LOCKS), ("--runs", runs)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if folder.name == LOCKS and not (folder / ".gitignore").exists():
                    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
                held.enter_context(FileLock(folder / f"{run_id}.lock").acquire(timeout=0))
            except Timeout:
                raise Locked(run_id) from None
            except (OSError, NotImplementedError) as error:
                place = results if flag == "--results" else runs
                raise UserError(flag, place, f"must be a folder that can be written to ({error})") from None
        yield


def in_turn(
    jobs: Iterable[Job], make: Callable[[Job], Made], where: tuple[Path, Path], say: Callable[[str], None]
) -> Iterator[Made]:
    """What `make` gives for each job: first those that no other process has, then the others when free.

    Args:
        jobs: of runs.
        make: raises `Locked` if another process is making the run.
        where: folders of results and of runs.
        say: told of the runs that are left for later.
    """
    left: deque[tuple[Job, str | None]] = deque((job, None) for job in jobs)
    busy = 0  # how many were looked at in vain since the last run
    while left:
        job, run_id = left.popleft()
        if run_id and not _free(run_id, where):
            left.append((job, run_id))
            busy += 1
            if busy >= len(left):
                time.sleep(LOOK_EVERY_S)
                busy = 0
            continue
        try:
            made = make(job)
        except Locked as locked:
            if not run_id:
                then = "left for later" if left else "waiting for it"
                say(f"{locked} is running in another process; {then}")
            left.append((job, str(locked)))
        else:
            busy = 0
            yield made


def _free(run_id: str, where: tuple[Path, Path]) -> bool:
    try:
        with alone(run_id, *where):
            return True
    except Locked:
        return False
