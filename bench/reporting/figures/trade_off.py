"""What a new class costs the old ones: accuracy on the class that joined against that on the base classes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench.records.tracks import shared_networks
from bench.reporting.figures.picture import Picture
from bench.reporting.figures.points import add_point, numbered_axes
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, SERIES, row_name
from bench.reporting.leaderboard.generalized import joins_of
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOTS = 5
MOST = 24


class Point(NamedTuple):
    """A row: its name, both accuracies, and its set of rows with the same network; None if alone."""

    label: str
    novel: Interval
    base: Interval
    network: int | None

    @property
    def harmonic(self) -> float:
        """The harmonic mean of both values; 0 where both are."""
        novel, base = self.novel.value, self.base.value
        return 2 * novel * base / (novel + base) if novel + base else 0.0


def pictures(section: Section) -> list[Picture]:
    """Novel against base accuracy where one class joins with 5 shots, if at least two rows have both."""
    joins = {join for row in section.rows for join in joins_of(row.row) if join[1:] == (1, SHOTS)}
    return [picture for base, *_ in sorted(joins) if (picture := _picture(section, base))]


def points_of(section: Section, base: int) -> list[Point]:
    """Rows from the highest accuracy on the base classes to the lowest.

    Args:
        section: of one split. base: number of base classes.
    """
    novel, old = (f"generalized/{base}+1/{SHOTS}s/{part}" for part in ("novel", "base"))
    rows = [row for row in section.best() if row.intervals.keys() >= {novel, old}][:MOST]
    sets = shared_networks([row.records for row in rows])
    network = {position: number for number, own in enumerate(sets) for position in own}
    found = [
        Point(row.label, row.intervals[novel], row.intervals[old], network.get(position))
        for position, row in enumerate(rows)
    ]
    return sorted(found, key=lambda point: (-point.base.value, point.novel.value, point.label))


def _picture(section: Section, base: int) -> Picture | None:
    points = points_of(section, base)
    if len(points) < 2:
        return None
    told = "; ".join(
        f"{number} {row_name(point.label)} novel {100 * point.novel.value:.1f}%, "
        f"base {100 * point.base.value:.1f}%"
        for number, point in enumerate(points, start=1)
    )
    return Picture(
        name="trade-off",
        section=section.title,
        title=f"Accuracy on a class that joined and on the {base} base classes",
        caption=f"One novel class joins the {base} base classes with {SHOTS} images, and all are classified "
        "jointly; 95% intervals. Up and to the right is better. A line connects rows with the same trained "
        "network, such as one finetuned more and more.",
        alt=f"Numbered points: {told}.",
        draw=partial(_draw, points, base),
    )


def _draw(points: list[Point], base: int) -> Figure:
    figure, place = numbered_axes(
        [f"{point.label}: harmonic mean {100 * point.harmonic:.1f} %" for point in points]
    )
    for network in sorted({point.network for point in points if point.network is not None}):
        own = [point for point in points if point.network == network]
        place.plot(
            [100 * point.base.value for point in own], [100 * point.novel.value for point in own],
            color=GREY.light, lw=1.2, ls=(0, (4, 2)),
        )  # fmt: skip
    for number, point in enumerate(points, start=1):
        colour = GREY if point.network is None else SERIES[point.network % len(SERIES)]
        add_point(place, number, point.base, point.novel, colour.light)
    place.margins(0.1)
    place.set_xlabel(f"accuracy on the {base} base classes (%)")
    place.set_ylabel("accuracy on the class that joined (%)")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter("{x:g}")
    return figure
