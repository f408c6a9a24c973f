"""What the rows of all tables get from their npz files."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.common.processes import PAYS_FROM, shared_out
from bench.reporting.leaderboard.rows import Row, fill_in_intervals, take_in_answers

if TYPE_CHECKING:
    from bench.statistics import Interval
    from bench.statistics.all_pairs import Answers


class Job(NamedTuple):
    """A row to be read.

    Attributes:
        row: its records.
        directory: where their npz files lie.
        counts: as of `take_in_answers`.
        needed: whether its answers are needed at all.
    """

    row: Row
    directory: Path | None
    counts: Mapping[str, Sequence[int]]
    needed: bool


class Found(NamedTuple):
    """What a row gets: see there."""

    answers: dict[str, Answers]
    whole: bool
    intervals: dict[str, Interval]


def read_rows(jobs: Sequence[Job]) -> Generator[Found, None, None]:
    """What the rows get, in their order."""
    pays = sum(len(job.row.records) for job in jobs if job.needed) >= PAYS_FROM
    if pays:  # lest each forked process imports them anew
        import bench.records.arrays
        import bench.statistics.all_pairs  # noqa: F401

    return shared_out(_read, jobs, pays)


def _read(job: Job) -> Found:
    row = job.row
    if job.needed:
        take_in_answers(row, job.directory, job.counts)
    fill_in_intervals(row)
    # As they are, those of a long table would not fit into memory.
    answers = {
        setting: own._replace(means=own.means.astype("float32")) for setting, own in row.answers.items()
    }
    return Found(answers, row.whole, row.intervals)
