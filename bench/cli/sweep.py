"""`sweep`: a grid of runs on several processes or machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import DATA_ROOT, NO_DOWNLOAD, OWN_RESULTS, RUNS, Device, OwnResults, app, flag
from bench.common.errors import UserError, one_line, one_of
from bench.common.streams import say

if TYPE_CHECKING:
    from bench.run.sweep.jobs import Plan

ENGINES = ("local", "ray")


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, as `run --config` takes it.")],
    jobs: Annotated[
        int | None, flag("--jobs", "N", "Runs at once.", default="one per core, or one per GPU")
    ] = None,
    engine: Annotated[str, flag("--engine", "NAME", "local or ray.")] = "local",
    address: Annotated[
        str | None,
        flag("--address", "ADDR", "A running Ray cluster.", default="one that starts on this machine"),
    ] = None,
    shard: Annotated[
        str | None, flag("--shard", "I/N", "Only part I of N, such as a task of a Slurm array.")
    ] = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "", "Run nothing; list the runs with their estimated cost.")
    ] = False,
    remake: Annotated[
        bool, flag("--remake", "", "Repeat runs that were recorded by another version of the code.")
    ] = False,
    data_root: Annotated[Path | None, flag("--data-root", "DIR", DATA_ROOT)] = None,
    results: OwnResults = OWN_RESULTS,
    runs: Annotated[
        Path, flag("--runs", "DIR", "Folder of checkpoints, logs and resolved configurations.")
    ] = RUNS,
    device: Device = "auto",
    offline: Annotated[bool, flag("--offline", "", NO_DOWNLOAD)] = False,
) -> None:
    """Run everything in a file that is not recorded yet, several runs at once.

    Shared trainings run once, before the runs that need them. A failed run does not stop the others. If
    interrupted, the same command resumes.
    """
    from bench.common.environment import check_device, pick_device
    from bench.common.files import check_writable

    check_device(device)
    if engine not in ENGINES:
        raise UserError("--engine", engine, one_of(engine, ENGINES))
    if address is not None and engine != "ray":
        raise UserError("--address", address, "can only be used with --engine ray")
    if engine == "ray" and device not in ("auto", "cpu"):
        raise UserError("--device", device, "must be auto or cpu with --engine ray")
    if jobs is not None and jobs < 1:
        raise UserError("--jobs", jobs, "must be 1 or more")
    part = _part(shard)
    check_writable(results, "--results")
    check_writable(runs, "--runs")

    from bench.config.grid import LeftOut, build, cell_of

    grid = build(file, {}, {})
    if engine == "local":
        pick_device(device)
    from bench.common.progress import Progress
    from bench.records.store import read_all, whole
    from bench.run.plan import Options
    from bench.run.sweep.driving import drive
    from bench.run.sweep.engines import Engine, Local, OnRay, slots
    from bench.run.sweep.jobs import plan

    options = Options(results, runs, "", data_root, device, offline=offline)  # each run has its own command
    records, problems = read_all(whole(results)) if whole(results).is_dir() else ([], [])
    for problem in problems:
        say(f"warning: {problem}")
    work = plan(grid, options, records, part, remake)
    if (
        work.refused
        and not work.jobs
        and not work.recorded
        and len({str(why) for _, why in work.refused}) == 1
    ):
        raise work.refused[0][1]
    left_out = LeftOut()
    refused = [one for one, _ in work.refused]
    left_out.problems = [(cell_of(one), one.method, why) for one, why in work.refused if one in grid.optional]
    left_out.report({cell_of(one) for one in grid if one not in refused})
    work.refused = [(one, error) for one, error in work.refused if one not in grid.optional]
    at_once = jobs or (slots(device) if engine == "local" else None)
    if dry_run:
        _show(work, at_once)
        return
    failed = [(_name(config), str(error)) for config, error in work.refused] + work.diverged
    say(_summary(work, at_once))
    if work.jobs:
        where: Engine = (
            Local(options, at_once) if at_once and engine == "local" else OnRay(options, address, jobs)
        )
        for job, reason in drive(work, where, Progress(), say):
            say(f"{job.name}: failed: {reason}")
            failed.append((job.name, reason))
    if failed:
        from bench.reporting import terminal

        print(terminal.text([{"failed": name, "why": reason} for name, reason in failed], {"why": 80}))
        raise typer.Exit(1)


def _part(shard: str | None) -> tuple[int, int]:
    if shard is None:
        return 1, 1
    form = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    if not form or not 1 <= int(form[1]) <= int(form[2]):
        raise UserError("--shard", shard, "must be I/N with I from 1 to N, e.g. 1/4")
    return int(form[1]), int(form[2])


def _show(work: Plan, jobs: int | None) -> None:
    """The table of what is to be done, and what it will take."""
    from bench.reporting import terminal

    minutes = "minutes" if work.gpu else "core-minutes"
    rows = [
        {
            "to do": job.name,
            "what": "shared training" if job.shared else _name(job.config),
            minutes: "?" if job.seconds is None else f"{job.seconds / 60:.1f}",
            "after": job.needs or "",
        }
        for job in work.jobs
    ]
    print(terminal.text(rows))
    for config, reason in work.refused:
        print(one_line(f"cannot run: {_name(config)}: {reason}"))
    print(_summary(work, jobs))


def _summary(work: Plan, jobs: int | None) -> str:
    shared = sum(job.shared for job in work.jobs)
    known = [job.seconds for job in work.jobs if job.seconds is not None]
    hours = sum(known) / 3600
    by_other_code = ""
    if work.by_other_code:
        by_other_code = f" ({work.by_other_code} by another version of the code; --remake repeats them)"
    parts = [f"{work.recorded} recorded{by_other_code}", f"{len(work.jobs) - shared} to do"]
    parts += [f"{shared} trainings that they share"] if shared else []
    parts += [f"{len(work.refused)} that cannot run"] if work.refused else []
    cost = f"about {hours:.1f} {'hours of one process' if work.gpu else 'core-hours'}" if known else ""
    if known and jobs:
        cost += f", {hours / jobs:.1f} hours with {jobs} at once"
    if unknown := len(work.jobs) - len(known):
        cost += f"{' and ' if cost else ''}{unknown} of unknown cost"
    return f"runs: {', '.join(parts)}" + (f"; {cost}" if cost else "")


def _name(config: Any) -> str:
    changed = ", ".join(f"{key}={value}" for key, value in config.overrides.items())
    return f"{config.method} {config.split} seed {config.seed} ({config.preset}{changed and ', '}{changed})"
