"""Accuracy against training time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.reporting.figures.picture import Gap, Picture
from bench.reporting.figures.points import add_point, numbered_axes
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, SERIES, row_name
from bench.reporting.numbers import duration
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "fewshot/5w1s"
TITLE = "Accuracy against training time"
MOST = 24

Point = tuple[str, float, Interval]
"""Label, seconds, accuracy."""


def pictures(section: Section) -> list[Picture | Gap]:
    """5w1s against the mean training time of the seeds."""
    points: list[Point] = [
        (row.label, row.training_seconds, row.intervals[KEY])
        for row in section.best(KEY)
        if row.training_seconds and KEY in row.intervals
    ][:MOST]
    if not points:
        return [Gap(section.title, TITLE, "needs a trained record with 5-way 1-shot accuracy")]
    told = "; ".join(
        f"{number} {row_name(label)} {100 * own.value:.1f}% in {duration(seconds)}"
        for number, (label, seconds, own) in enumerate(points, start=1)
    )
    return [
        Picture(
            name="training-time",
            section=section.title,
            title=TITLE,
            caption="5-way 1-shot accuracy with 95% intervals against the mean training time of the "
            "seeds; machines may differ. The line connects methods for which no faster one is better.",
            alt=f"Numbered points: {told}.",
            draw=partial(_draw, points),
        )
    ]


def pays(points: list[Point]) -> list[Point]:
    """The Pareto-optimal points in time and accuracy, by time."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2].value)):
        if not front or point[2].value > front[-1][2].value:
            front.append(point)
    return front


def _draw(points: list[Point]) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, place = numbered_axes(
        [f"{label}: {100 * own.value:.1f} %, {duration(seconds)}" for label, seconds, own in points]
    )
    front = pays(points)
    place.step(
        [seconds for _, seconds, _ in front], [100 * own.value for *_, own in front],
        where="post", color=GREY.light, lw=1.2, ls=(0, (4, 2)),
    )  # fmt: skip
    paying = {label for label, *_ in front}
    for number, (label, seconds, own) in enumerate(points, start=1):
        add_point(place, number, seconds, own, SERIES[0].light if label in paying else GREY.light)
    place.set_xscale("log")
    times = [seconds for _, seconds, _ in points]
    place.set_xlim(min(times) / 1.5, max(times) * 1.5)
    place.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.margins(y=0.15)
    place.set_xlabel("training time (seconds, logarithmic)")
    place.set_ylabel("5-way 1-shot accuracy (%)")
    place.yaxis.set_major_formatter("{x:g}")
    return figure
