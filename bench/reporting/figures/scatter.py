"""A point per row: accuracy against training time, and on a class that joined against the base classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.records.naming import join
from bench.records.tracks import on_gpu, shared_networks
from bench.reporting.blocks import duration
from bench.reporting.figures.picture import (
    LEADING,
    Gap,
    Named,
    Palette,
    Picture,
    add_point,
    name_beside,
    others_in_grey,
)
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, axes, row_name
from bench.reporting.ranking.rows import Row, joins_of
from bench.statistics import Interval, closed_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "fewshot/5w1s"
COST = "Accuracy against training time"
SHOTS = 5
DASHED = (0, (4, 2))

PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16"}
"""Name by Lightning -> by ``--precision``."""

Timed = tuple[str, float, Interval]
"""Label of a row, seconds of training, accuracy."""


class Machine(NamedTuple):
    """What times are compared on: whether it is a GPU, and the precision, which may double the speed."""

    gpu: bool
    precision: str


class Joined(NamedTuple):
    """A row: its name, both accuracies, and the set of rows that use the same network, if others do."""

    label: str
    novel: Interval
    base: Interval
    network: int | None

    @property
    def harmonic(self) -> float:
        """The harmonic mean of both values; 0 where both are."""
        novel, base = self.novel.value, self.base.value
        return 2 * novel * base / (novel + base) if novel + base else 0.0


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """5w1s against the mean training time of the seeds: one picture per kind of device and precision.

    Then novel against base accuracy where one class joins with 5 shots, if at least two rows have both.
    """
    timed = _times(section, palette)
    joins = {join for row in section.rows for join in joins_of(row) if join[1:] == (1, SHOTS)}
    joined = [picture for base, *_ in sorted(joins) for picture in _of_join(section, base, palette)]
    return [*joined, *(timed or [Gap(COST, "needs a trained record with 5-way 1-shot accuracy")])]


def _times(section: Section, palette: Palette) -> list[Picture | Gap]:
    points: dict[Machine, list[Timed]] = {}
    for row in section.best(KEY):
        if (seconds := row.training_seconds) and KEY in row.intervals:
            precisions = [one.environment.precision for one in row.records]
            names = (PRECISIONS.get(precision, precision) for precision in precisions)
            machines = set(map(Machine, map(on_gpu, row.records), names))
            if len(machines) == 1:
                points.setdefault(machines.pop(), []).append((row.label, seconds, row.intervals[KEY]))
    return [_of_machine(machine, points[machine], palette) for machine in sorted(points)]


def _of_machine(machine: Machine, points: list[Timed], palette: Palette) -> Picture:
    # The fastest of the good ones, then the best.
    leading = dict.fromkeys(label for label, *_ in [*pareto_front(points)[-LEADING:], *points])
    named = list(leading)[:LEADING]
    told = "; ".join(
        f"{row_name(label)} {100 * own.value:.1f}% in {duration(seconds)}"
        for label, seconds, own in points
        if label in named
    )
    gpu, precision = machine
    of = f"{'wall-clock time of training' if gpu else 'training time of one core'} in {precision}"
    return Picture(
        name=f"training-time-{'gpu-' * gpu}{precision}",
        title=f"{COST} in {precision}{' on a GPU' * gpu}",
        caption=f"5-way 1-shot accuracy with 95% intervals against the {of}, the mean over "
        "seeds; machines may differ. Rows whose seeds differ in device or precision are left out. The line "
        "connects methods for which no faster one is better." + others_in_grey(len(points)),
        alt=f"Accuracy and {of}: {told}.",
        draw=partial(_draw_times, points, palette.numbers(named), gpu),
    )


def pareto_front(points: list[Timed]) -> list[Timed]:
    """The points that no other one beats in both time and accuracy, by time."""
    front: list[Timed] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2].value)):
        if not front or point[2].value > front[-1][2].value:
            front.append(point)
    return front


def _draw_times(points: list[Timed], numbers: dict[str, int], gpu: bool) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, (place,) = axes(3.6)
    front = pareto_front(points)
    place.step(
        [seconds / 60 for _, seconds, _ in front], [100 * own.value for *_, own in front],
        where="post", color=GREY.light, lw=1.2, ls=DASHED,
    )  # fmt: skip
    names: list[Named] = []
    for label, seconds, own in reversed(points):  # the best on top
        names += add_point(place, numbers, label, seconds / 60, own, row_name(label))
    place.set_xscale("log")
    times = [seconds / 60 for _, seconds, _ in points]
    place.set_xlim(min(times) / 1.5, max(times) * 1.5)
    place.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.margins(y=0.1)
    place.set_xlabel(f"training time (minutes{' of one core' * (not gpu)}, logarithmic)")
    place.set_ylabel("5-way 1-shot accuracy (%; guessing: 20)")
    place.yaxis.set_major_formatter("{x:g}")
    name_beside(place, names)
    return figure


def joined_rows(section: Section, base: int) -> list[Joined]:
    """Rows from the highest accuracy on the base classes to the lowest.

    Args:
        section: of one split. base: number of base classes.
    """
    novel, old = (f"{join(base, 1, SHOTS)}/{part}" for part in ("novel", "base"))
    rows = [row for row in section.best() if row.intervals.keys() >= {novel, old}]
    sets = shared_networks([row.records for row in rows])
    network = {position: number for number, own in enumerate(sets) for position in own.rows}
    over = zip(*(_over_common_classes(rows, key) for key in (novel, old)), strict=True)
    found = [Joined(rows[i].label, one, other, network.get(i)) for i, (one, other) in enumerate(over)]
    return sorted(found, key=lambda point: (-point.base.value, point.novel.value, point.label))


def _over_common_classes(rows: Sequence[Row], key: str) -> list[Interval]:
    """A number of each row over the classes that joined in all rows: finetuned networks get only some."""
    numbers = [[record.per_class for record in row.records] for row in rows]
    classes = [{name for name, own in one.items() if key in own} for seeds in numbers for one in seeds]
    common = sorted(set.intersection(*classes)) if classes else []
    if len(common) < 2 or all(len(own) == len(common) for own in classes):
        return [row.intervals[key] for row in rows]
    means = [[[one[name][key].value for name in common] for one in seeds] for seeds in numbers]
    return [closed_interval(np.mean(own, axis=0)) for own in means]


def _of_join(section: Section, base: int, palette: Palette) -> list[Picture | Gap]:
    points = joined_rows(section, base)
    if len(points) < 2:
        return []
    leading = sorted(points, key=lambda point: -point.harmonic)[:LEADING]
    told = "; ".join(
        f"{row_name(point.label)} novel {100 * point.novel.value:.1f}%, base {100 * point.base.value:.1f}%"
        for point in leading
    )
    return [
        Picture(
            name="trade-off",
            title=f"Accuracy on a class that joined and on the {base} base classes",
            caption=f"One novel class joins the {base} base classes with {SHOTS} images, and all are "
            "classified jointly; over the novel classes that joined in all rows, with 95% intervals. Up and "
            "to the right is better; names have the harmonic mean of both. A line connects rows with the "
            "same trained network, such as one finetuned more and more." + others_in_grey(len(points)),
            alt=f"Points: {told}.",
            draw=partial(_draw_join, points, palette.numbers(point.label for point in leading), base),
        )
    ]


def _draw_join(points: list[Joined], numbers: dict[str, int], base: int) -> Figure:
    figure, (place,) = axes(4.2)
    for network in sorted({point.network for point in points if point.network is not None}):
        own = [point for point in points if point.network == network]
        place.plot(
            [100 * point.base.value for point in own], [100 * point.novel.value for point in own],
            color=GREY.light, lw=1.2, ls=DASHED,
        )  # fmt: skip
    names: list[Named] = []
    for point in points:
        name = f"{row_name(point.label)}: {100 * point.harmonic:.1f}%"
        names += add_point(place, numbers, point.label, point.base, point.novel, name)
    place.margins(0.1)
    place.set_xlabel(f"accuracy on the {base} base classes (%)")
    place.set_ylabel("accuracy on the class that joined (%)")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter("{x:g}")
    name_beside(place, names)
    return figure
