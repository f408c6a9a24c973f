"""Numbered points with a legend, because the names are too long for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.reporting.figures.style import GREY, LINE, PAPER, axes, folded
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def numbered_axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure whose legend, below the axes, gives the name of each number from 1."""
    from matplotlib.lines import Line2D

    lines = [folded(f"{number}  {name}", 68) for number, name in enumerate(names, start=1)]
    figure, (place,) = axes(3.0 + LINE * sum(line.count("\n") + 1 for line in lines))
    blanks = [Line2D([], [], linestyle="")] * len(lines)
    figure.legend(blanks, lines, loc="outside lower left", handlelength=0, handletextpad=0)
    return figure, place


def add_point(place: Axes, number: int, x: float | Interval, y: Interval, colour: str) -> None:
    """A number with the interval of each coordinate that has one; fractions, drawn in percent."""
    across = None
    if isinstance(x, Interval):
        across, x = _bars(x), 100 * x.value
    height = 100 * y.value
    place.errorbar([x], [height], _bars(y), across, color=GREY.light, capsize=2.5, elinewidth=1.1)
    place.plot([x], [height], "o", ms=12, color=colour, mec=PAPER.light)
    place.annotate(
        str(number), (x, height), ha="center", va="center", color=PAPER.light, size=8, weight="bold"
    )


def _bars(interval: Interval) -> list[list[float]]:
    return [[100 * (interval.value - interval.low)], [100 * (interval.high - interval.value)]]
