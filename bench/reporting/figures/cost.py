"""Accuracy against training time: which method pays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.points import LEADING, Named, add_point, name_beside, others_in_grey
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, SERIES, axes, row_name
from bench.reporting.numbers import duration
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "fewshot/5w1s"
TITLE = "Accuracy against training time"

Point = tuple[str, float, Interval]
"""Label, seconds, accuracy."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """5w1s against the mean training time of the seeds: one picture for the processor, one for GPUs."""
    both = [picture for gpu in (False, True) for picture in _of_device(section, palette, gpu)]
    return both or [Gap(section.title, TITLE, "needs a trained record with 5-way 1-shot accuracy")]


def _of_device(section: Section, palette: Palette, gpu: bool) -> list[Picture | Gap]:
    points: list[Point] = [
        (row.label, row.training_seconds, row.intervals[KEY])
        for row in section.best(KEY)
        if row.on_gpu is gpu and row.training_seconds and KEY in row.intervals
    ]
    if not points:
        return []
    title = TITLE + " on a GPU" * gpu
    # The fastest of the good ones, then the best.
    leading = dict.fromkeys(label for label, *_ in [*pays(points)[-LEADING:], *points])
    named = list(leading)[:LEADING]
    told = "; ".join(
        f"{row_name(label)} {100 * own.value:.1f}% in {duration(seconds)}"
        for label, seconds, own in points
        if label in named
    )
    return [
        Picture(
            name="training-time" + "-gpu" * gpu,
            section=section.title,
            title=title,
            caption="5-way 1-shot accuracy with 95% intervals against the mean training time of the "
            "seeds; machines may differ. The line connects methods for which no faster one is better."
            + others_in_grey(len(points)),
            alt=f"Points: {told}.",
            draw=partial(_draw, points, named, palette),
        )
    ]


def pays(points: list[Point]) -> list[Point]:
    """The points that no other one beats in both time and accuracy, by time."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2].value)):
        if not front or point[2].value > front[-1][2].value:
            front.append(point)
    return front


def _draw(points: list[Point], named: list[str], palette: Palette) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    numbers = palette.numbers(named)
    figure, (place,) = axes(3.6)
    front = pays(points)
    place.step(
        [seconds / 60 for _, seconds, _ in front], [100 * own.value for *_, own in front],
        where="post", color=GREY.light, lw=1.2, ls=(0, (4, 2)),
    )  # fmt: skip
    names: list[Named] = []
    for label, seconds, own in reversed(points):  # the best on top
        colour = (SERIES[numbers[label]] if label in numbers else GREY).light
        add_point(place, seconds / 60, own, colour, label in numbers)
        if label in numbers:
            names.append(Named(seconds / 60, 100 * own.value, row_name(label), colour))
    place.set_xscale("log")
    times = [seconds / 60 for _, seconds, _ in points]
    place.set_xlim(min(times) / 1.5, max(times) * 1.5)
    place.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.margins(y=0.1)
    place.set_xlabel("training time (minutes, logarithmic)")
    place.set_ylabel("5-way 1-shot accuracy (%)")
    place.yaxis.set_major_formatter("{x:g}")
    name_beside(place, names)
    return figure
