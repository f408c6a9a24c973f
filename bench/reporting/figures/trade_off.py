"""What a new class costs the old ones: accuracy on the class that joined against that on the base classes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench.records.tracks import shared_networks
from bench.reporting.figures.picture import Palette, Picture
from bench.reporting.figures.points import LEADING, Named, add_point, name_beside, others_in_grey
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, SERIES, axes, row_name
from bench.reporting.leaderboard.generalized import joins_of
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOTS = 5


class Point(NamedTuple):
    """A row: its name, both accuracies, and the set of rows that answer with the same network; None alone."""

    label: str
    novel: Interval
    base: Interval
    network: int | None

    @property
    def harmonic(self) -> float:
        """The harmonic mean of both values; 0 where both are."""
        novel, base = self.novel.value, self.base.value
        return 2 * novel * base / (novel + base) if novel + base else 0.0


def pictures(section: Section, palette: Palette) -> list[Picture]:
    """Novel against base accuracy where one class joins with 5 shots, if at least two rows have both."""
    joins = {join for row in section.rows for join in joins_of(row.row) if join[1:] == (1, SHOTS)}
    return [picture for base, *_ in sorted(joins) if (picture := _picture(section, base, palette))]


def points_of(section: Section, base: int) -> list[Point]:
    """Rows from the highest accuracy on the base classes to the lowest.

    Args:
        section: of one split. base: number of base classes.
    """
    novel, old = (f"generalized/{base}+1/{SHOTS}s/{part}" for part in ("novel", "base"))
    rows = [row for row in section.best() if row.intervals.keys() >= {novel, old}]
    sets = shared_networks([row.records for row in rows])
    network = {position: number for number, own in enumerate(sets) for position in own}
    found = [
        Point(row.label, row.intervals[novel], row.intervals[old], network.get(position))
        for position, row in enumerate(rows)
    ]
    return sorted(found, key=lambda point: (-point.base.value, point.novel.value, point.label))


def _picture(section: Section, base: int, palette: Palette) -> Picture | None:
    points = points_of(section, base)
    if len(points) < 2:
        return None
    leading = sorted(points, key=lambda point: -point.harmonic)[:LEADING]
    told = "; ".join(
        f"{row_name(point.label)} novel {100 * point.novel.value:.1f}%, base {100 * point.base.value:.1f}%"
        for point in leading
    )
    return Picture(
        name="trade-off",
        section=section.title,
        title=f"Accuracy on a class that joined and on the {base} base classes",
        caption=f"One novel class joins the {base} base classes with {SHOTS} images, and all are classified "
        "jointly; 95% intervals. Up and to the right is better; names have the harmonic mean of both. A "
        "line connects rows with the same trained network, such as one finetuned more and more."
        + others_in_grey(len(points)),
        alt=f"Points: {told}.",
        draw=partial(_draw, points, [point.label for point in leading], base, palette),
    )


def _draw(points: list[Point], leading: list[str], base: int, palette: Palette) -> Figure:
    numbers = palette.numbers(leading)
    figure, (place,) = axes(4.2)
    for network in sorted({point.network for point in points if point.network is not None}):
        own = [point for point in points if point.network == network]
        place.plot(
            [100 * point.base.value for point in own], [100 * point.novel.value for point in own],
            color=GREY.light, lw=1.2, ls=(0, (4, 2)),
        )  # fmt: skip
    names = []
    for point in points:
        leads = point.label in numbers
        colour = (SERIES[numbers[point.label]] if leads else GREY).light
        add_point(place, point.base, point.novel, colour, leads)
        if leads:
            name = f"{row_name(point.label)}: {100 * point.harmonic:.1f}%"
            names.append(Named(100 * point.base.value, 100 * point.novel.value, name, colour))
    place.margins(0.1)
    place.set_xlabel(f"accuracy on the {base} base classes (%)")
    place.set_ylabel("accuracy on the class that joined (%)")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter("{x:g}")
    name_beside(place, names)
    return figure
