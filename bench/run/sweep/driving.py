"""Runs the jobs of a plan on an engine: each after the training that it needs; lost ones again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from bench.common.progress import Progress
from bench.run.sweep.engines import Engine
from bench.run.sweep.jobs import Job, Plan

Key = tuple[str, bool]

ATTEMPTS = 3
"""How often a job is started if its process dies, as it does when memory runs out."""

LOOK_EVERY_S = 1.0
LOCKED_S = 10.0
"""After how long a job is tried again that another process was running."""


def drive(
    plan: Plan, engine: Engine, progress: Progress, say: Callable[[str], None]
) -> Iterator[tuple[Job, str]]:
    """Run all jobs; a failed one affects only those that need it.

    Args:
        plan: what to do.
        engine: does it; it is closed at the end.
        progress: shows how much of the estimated work is done.
        say: told of each job that ends, in one line.

    Yields:
        The jobs that failed, and why.
    """
    waiting = list(plan.jobs)
    ended: set[Key] = set()
    failed: set[Key] = set()
    started: dict[Key, float] = {}
    later: dict[Key, float] = {}
    attempts: Counter[Key] = Counter()
    unknown = _typical(plan)
    size = {job.key: max(1.0, job.seconds or unknown) for job in plan.jobs}
    total = int(sum(size.values()))
    progress.start("sweep", total, "s of work")
    shared = {job.name for job in plan.jobs if job.shared}

    def ready(job: Job) -> bool:
        if time.monotonic() < later.get(job.key, 0.0):
            return False
        first = {job.needs} - {None}
        if not job.shared and job.name in shared:  # others use its training; if that failed, it records why
            first.add(job.name)
        return all((name, True) in ended | failed for name in first if (name, True) in size)

    def advance() -> None:
        now = time.monotonic()
        running = sum((min(now - since, 0.99 * size[key]) for key, since in started.items()), 0.0)
        done = int(sum(size[key] for key in ended | failed) + running)
        if len(ended | failed) < len(plan.jobs):
            done = min(done, total - 1)
        runs = f"{len(ended)}/{len(plan.jobs)}" + (f", {len(failed)} failed" if failed else "")
        progress.advance(max(0, done - progress.done), done=runs, running=str(len(started)))

    try:
        while waiting or started:
            for job in [job for job in waiting if job.needs and (job.needs, True) in failed]:
                waiting.remove(job)
                failed.add(job.key)
                yield job, f"needs {job.needs}, which failed"
            for job in [job for job in waiting if ready(job)]:
                if not engine.free():
                    break
                waiting.remove(job)
                engine.submit(job)
                started[job.key] = time.monotonic()
            if not started:
                time.sleep(LOOK_EVERY_S if waiting else 0)
                continue
            for job, outcome in engine.ended(LOOK_EVERY_S):
                since = started.pop(job.key)
                if outcome is None:
                    attempts[job.key] += 1
                    if attempts[job.key] < ATTEMPTS:
                        say(f"{job.name}: its process was killed; started again")
                        waiting.insert(0, job)
                        continue
                    reason = f"its process was killed {ATTEMPTS} times; out of memory?"
                elif outcome.locked:
                    if job.key not in later:
                        say(f"{job.name} is running in another process; left for later")
                    later[job.key] = time.monotonic() + LOCKED_S
                    waiting.append(job)
                    continue
                else:
                    reason = outcome.failure
                if reason:
                    failed.add(job.key)
                    yield job, reason
                else:
                    ended.add(job.key)
                    what = "shared training" if job.shared else "run"
                    say(f"{job.name}: {what} done in {time.monotonic() - since:.0f} s")
            advance()
    finally:
        progress.stop()
        engine.close()


def _typical(plan: Plan) -> float:
    """Estimated seconds of a job of unknown cost: the mean of the others."""
    known = [job.seconds for job in plan.jobs if job.seconds]
    return sum(known) / len(known) if known else 1.0
