"""Lines with intervals, one per row: the leading rows in colour, with their names, the others in grey."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.figures.picture import Palette
from bench.reporting.figures.points import LEADING, Named, name_beside
from bench.reporting.figures.style import DASHES, GREY, MARKERS, SERIES, axes, legend, row_name
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Line(NamedTuple):
    """A row's values: fractions with their intervals at `x`."""

    label: str
    x: list[float]
    y: list[Interval]


class Horizontal(NamedTuple):
    """The axis that all panels share.

    Attributes:
        label: with its unit.
        ticks: where numbers stand.
        apart: how far rows are shifted, so that their intervals do not hide each other.
    """

    label: str
    ticks: Sequence[float]
    apart: float = 0.0


def one_panel(lines: Sequence[Line], horizontal: Horizontal, vertical: str, palette: Palette) -> Figure:
    """One panel; the leading rows, the first of `lines`, have their names at the ends of their lines."""
    leading = lines[:LEADING]
    numbers = palette.numbers([line.label for line in leading])
    figure, (place,) = axes(3.4)
    for line in lines[LEADING:]:
        place.plot(line.x, [100 * y.value for y in line.y], color=GREY.light, lw=0.8, alpha=0.6)
    ends = []
    for line in leading:
        number = numbers[line.label]
        move = _shift(numbers, line.label, horizontal)
        _draw(place, line, number, move)
        name = row_name(line.label)
        ends.append(Named(line.x[-1] + move, 100 * line.y[-1].value, name, SERIES[number].light))
    place.set_xticks(list(horizontal.ticks))
    _percent(place, vertical)
    place.set_xlabel(horizontal.label)
    name_beside(place, ends)
    return figure


def panels(
    by_title: Mapping[str, Sequence[Line]], horizontal: Horizontal, vertical: str, palette: Palette
) -> Figure:
    """Panels one below the other, each with the same rows, of which there are at most `LEADING`."""
    labels = list(dict.fromkeys(line.label for lines in by_title.values() for line in lines))
    numbers = palette.numbers(labels)
    height = 2.1 * len(by_title) + 0.2 * math.ceil(len(labels) / 2) + 0.2
    figure, places = axes(height, len(by_title), sharex=True)
    handles = {}
    for place, (title, lines) in zip(places, by_title.items(), strict=True):
        place.set_title(title)
        for line in lines:
            move = _shift(numbers, line.label, horizontal)
            handles[line.label] = _draw(place, line, numbers[line.label], move)
        place.set_xticks(list(horizontal.ticks))
        _percent(place, vertical)
    places[-1].set_xlabel(horizontal.label)
    legend(figure, list(handles.values()), list(handles))
    return figure


def _shift(numbers: Mapping[str, int], label: str, horizontal: Horizontal) -> float:
    return (sorted(numbers.values()).index(numbers[label]) - (len(numbers) - 1) / 2) * horizontal.apart


def _draw(place: Axes, line: Line, number: int, move: float) -> object:
    values = [100 * y.value for y in line.y]
    low = [100 * (y.value - y.low) for y in line.y]
    high = [100 * (y.high - y.value) for y in line.y]
    return place.errorbar(
        [x + move for x in line.x],
        values,
        [[max(0.0, v) for v in low], [max(0.0, v) for v in high]],
        color=SERIES[number].light,
        marker=MARKERS[number],
        linestyle=DASHES[number],
        capsize=2.5,
        elinewidth=1.1,
    )


def _percent(place: Axes, label: str) -> None:
    place.set_ylabel(label)
    place.yaxis.set_major_formatter("{x:g}")


def told(lines: Sequence[Line], horizontal: str) -> str:
    """The leading lines in words: each row's first and last value."""
    parts = []
    for line in lines[:LEADING]:
        ends = sorted({0, len(line.y) - 1})
        values = " and ".join(f"{100 * line.y[i].value:.1f}% at {line.x[i]:g}" for i in ends)
        parts.append(f"{row_name(line.label)} {values}")
    return f"Lines with 95% intervals against {horizontal}: {'; '.join(parts)}."
