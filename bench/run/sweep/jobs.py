"""What a sweep has to do: runs, and the trainings that several of them start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.common.errors import UserError
from bench.config.run_config import RunConfig
from bench.records import store
from bench.run.materials import Materials
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from bench.run.sweep.cost import Costs


@dataclass(frozen=True)
class Job:
    """A run, or a training that runs share, which is made once and before them.

    Attributes:
        name: the run's id, or that of the shared training.
        config: of the run; of one of the runs that share the training.
        shared: whether it is a shared training.
        needs: the shared training that comes first.
        seconds: of a processor that it will probably take; None where no record tells.
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
        recorded: records that are there already. refused: configurations that cannot run here, and why.
    """

    jobs: list[Job] = field(default_factory=list)
    recorded: list[Path] = field(default_factory=list)
    refused: list[tuple[RunConfig, str]] = field(default_factory=list)


def plan(grid: Sequence[RunConfig], options: Options, costs: Costs, shard: tuple[int, int] = (1, 1)) -> Plan:
    """Prepare each run once, to see whether it can be made, what it needs and whether it is recorded.

    Args:
        grid: without repetitions.
        options: what is recorded is there, unless it is to be run again.
        costs: what runs took before.
        shard: this part of so many, from 1; runs that share a training are in the same part.
    """
    materials, found = Materials(options), Plan()
    prepared: list[Prepared] = []
    for config in grid:
        try:
            prepared.append(prepare(config, options, materials))
        except UserError as error:
            found.refused.append((config, str(error)))
    if shard[0] > 1:
        found.refused = []  # the first part names them
    made: set[tuple[str, bool]] = set()
    for run in _part_of(prepared, shard):
        recorded = store.find(options.results, run.run_id)
        if recorded and not options.overwrite:
            found.recorded.append(recorded)
            continue
        for job in _jobs(run, costs):
            if job.key not in made:
                made.add(job.key)
                found.jobs.append(job)
    return found


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
    return [*jobs, Job(run.run_id, run.config, False, needs, costs.of(run.config))]


def _part_of(runs: Sequence[Prepared], shard: tuple[int, int]) -> list[Prepared]:
    """The runs of one part of several of about the same size; which is which depends on the grid alone."""
    number, of = shard
    groups = [_first_training(run) for run in runs]
    sizes = [0] * of
    part_of: dict[str, int] = {}
    for group, size in sorted(Counter(groups).items(), key=lambda item: -item[1]):
        part_of[group] = sizes.index(min(sizes))
        sizes[part_of[group]] += size
    return [run for run, group in zip(runs, groups, strict=True) if part_of[group] == number - 1]


def _first_training(run: Prepared) -> str:
    while run.start:
        run = run.start
    return run.run_id
