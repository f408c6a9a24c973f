"""What a sweep has to do: runs, and the trainings that several of them start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pydantic import ValidationError

from bench.common.environment import pick_device
from bench.common.errors import UserError
from bench.config.run_config import RunConfig
from bench.records.identity import content_key, split_digest
from bench.records.store import Record
from bench.run.materials import Materials
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from bench.run.sweep.cost import Costs
from methods.base_classifier import BaseClassifier


@dataclass(frozen=True)
class Job:
    """A run, or a shared training, which runs once, before the runs that need it.

    Attributes:
        name: the run's id, or that of the shared training.
        config: of the run; of one of the runs that share the training.
        shared: whether it is a shared training.
        needs: the shared training that comes first.
        seconds: estimated processor time, or on a GPU wall-clock time; None if unknown.
    """

    name: str
    config: RunConfig
    shared: bool = False
    needs: str | None = None
    seconds: float | None = None

    @property
    def key(self) -> tuple[str, bool]:
        """A run may share its training under its own name."""
        return self.name, self.shared


@dataclass
class Plan:
    """The jobs of a grid, in the order in which they are started.

    Attributes:
        jobs: each after the one that it needs.
        recorded: number of runs that are already recorded. by_other_code: those of them whose record was made
            by another version of the code.
        diverged: recorded runs without numbers: run id, and why.
        refused: configurations that cannot run here, and why.
        gpu: whether the jobs are to run on a GPU.
    """

    jobs: list[Job] = field(default_factory=list)
    recorded: int = 0
    by_other_code: int = 0
    diverged: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[RunConfig, UserError]] = field(default_factory=list)
    gpu: bool = False


class _Cell(NamedTuple):
    """What is kept of a run of the grid: not its network. `jobs` is empty for one that is refused."""

    config: RunConfig
    group: str
    jobs: Sequence[Job] = ()
    content: str = ""
    error: UserError | None = None


def plan(
    grid: Sequence[RunConfig],
    options: Options,
    records: Sequence[Record],
    shard: tuple[int, int] = (1, 1),
    remake: bool = False,
) -> Plan:
    """Prepare each run once, to see whether it can be made, what it needs and whether it is recorded.

    Args:
        grid: without repetitions.
        options: of all runs.
        records: of the results folder; they also tell what runs cost.
        shard: part I of N, from 1; runs that share a training are in the same part.
        remake: make runs again whose record was made by another version of the code.
    """
    device = pick_device("auto").type if options.device == "auto" else options.device
    found = Plan(gpu=device != "cpu")
    materials, costs = Materials(options), Costs(records, found.gpu)
    # A device that is not on this machine may be on those that do the jobs.
    options = replace(options, device="cpu")
    cells = []
    for config in grid:
        try:
            run = prepare(config, options, materials)
        except UserError as error:
            cells.append(_Cell(config, str(config.model_dump()), error=error))
        else:
            jobs = _jobs(run, costs)
            cells.append(_Cell(config, jobs[0].name, jobs, _content_of(run)))
    by_id = {record.run_id: record for record in records}
    by_content = {} if remake else {_content(record): record for record in records}
    made: set[tuple[str, bool]] = set()
    for cell in _part_of(cells, shard):
        if cell.error:
            found.refused.append((cell.config, cell.error))
            continue
        own = by_id.get(cell.jobs[-1].name)
        record = own or (by_content.get(cell.content) if cell.content else None)
        if record:
            found.recorded += 1
            found.by_other_code += own is None
            if record.failure:
                found.diverged.append((record.run_id, record.failure))
            continue
        for job in cell.jobs:
            if job.key not in made:
                made.add(job.key)
                found.jobs.append(job)
    # A run whose own training others share only answers with it.
    for number, job in enumerate(found.jobs):
        if not job.shared and (job.name, True) in made:
            found.jobs[number] = replace(job, seconds=costs.of(job.config, shares=True))
    return found


def _content(record: Record) -> str:
    """Its `content_key`; the empty string for a record of a version with other settings or methods."""
    try:
        config = RunConfig.model_validate(record.config)
        return content_key(config, record.fingerprint, split_digest(record), record.weights)
    except (ValidationError, UserError):
        return ""


def _content_of(run: Prepared) -> str:
    """Its `content_key`; the empty string for a plug-in's method, whose code may be quite another one."""
    if run.identity.plugin:
        return ""
    return content_key(run.config, run.data.fingerprint, run.identity.split, run.weights_sha256)


def _jobs(run: Prepared, costs: Costs) -> list[Job]:
    """The shared trainings of a run, the first one first, and the run."""
    stages: list[Prepared] = []
    stage = run.start
    while stage:
        stages.insert(0, stage)
        stage = stage.start
    jobs: list[Job] = []
    for stage in stages:
        needs = jobs[-1].name if jobs else None
        jobs.append(Job(stage.run_id, run.config, True, needs, costs.of_shared(stage.config)))
    needs = jobs[-1].name if jobs else None
    shares = any(not isinstance(stage.method, BaseClassifier) for stage in stages)
    return [*jobs, Job(run.run_id, run.config, False, needs, costs.of(run.config, shares))]


def _part_of(cells: Sequence[_Cell], shard: tuple[int, int]) -> list[_Cell]:
    """The runs of one part of several of about the same size, whatever is recorded."""
    number, of = shard
    sizes = [0] * of
    part_of: dict[str, int] = {}
    for group, size in sorted(Counter(cell.group for cell in cells).items(), key=lambda item: -item[1]):
        part_of[group] = sizes.index(min(sizes))
        sizes[part_of[group]] += size
    return [cell for cell in cells if part_of[cell.group] == number - 1]
