"""Several processes on the same folders: each run is made once, and no process waits while work is left."""

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
"""Folder for the locks of records, in the results folder; hidden, and ignored by git."""


LOOK_EVERY_S = 0.5

Job = TypeVar("Job")
Made = TypeVar("Made")


class Locked(Exception):
    """Another process is making the run."""


@contextmanager
def exclusive(run_id: str, results: Path, runs: Path) -> Iterator[None]:
    """Lock a run's record and its folder, so that only one process writes them at a time.

    Raises:
        Locked: another process holds one of them.
        UserError: the folders are not writable.
    """
    with ExitStack() as held:
        # Processes with the same results folder may have different runs folders, and the reverse.
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
                raise UserError(flag, place, f"must be a writable folder ({error})") from None
        yield


def make_all(
    jobs: Iterable[Job], make: Callable[[Job], Made], where: tuple[Path, Path], say: Callable[[str], None]
) -> Iterator[Made]:
    """Make each job and yield its result: first the jobs that no other process has locked, then the others.

    Args:
        jobs: of runs.
        make: raises `Locked` if another process is making the run.
        where: folders of results and of runs.
        say: called with a line about each postponed run.
    """
    left: deque[tuple[Job, str | None]] = deque((job, None) for job in jobs)
    busy = 0  # locked jobs since the last run
    while left:
        job, run_id = left.popleft()
        if run_id and not _is_free(run_id, where):
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
                then = "postponed" if left else "waiting for it"
                say(f"{locked} is running in another process; {then}")
            left.append((job, str(locked)))
        else:
            busy = 0
            yield made


def _is_free(run_id: str, where: tuple[Path, Path]) -> bool:
    try:
        with exclusive(run_id, *where):
            return True
    except Locked:
        return False
