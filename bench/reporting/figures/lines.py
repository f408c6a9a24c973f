"""Lines with intervals, one per row: in one panel, or in separate panels if there are too many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.figures.picture import Palette
from bench.reporting.figures.style import (
    DASHES,
    GREY,
    MARKERS,
    SERIES,
    SMALL,
    axes,
    legend,
    panel_titles,
    remove_unused,
    row_name,
)
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOGETHER = len(SERIES)
"""Maximum number of lines that can be distinguished in one panel."""

MOST = 24
"""Panels of one picture."""


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
        apart: by how much rows are moved apart, so that their intervals do not hide each other.
    """

    label: str
    ticks: Sequence[float]
    apart: float = 0.0


def one_panel(lines: Sequence[Line], horizontal: Horizontal, vertical: str, palette: Palette) -> Figure:
    """Every row in one panel, or, if they are too many, each in its own with the others in grey."""
    if len(lines) > TOGETHER:
        return _a_panel_each(lines[:MOST], horizontal, vertical)
    return panels({"": lines}, horizontal, vertical, palette)


def panels(
    by_title: Mapping[str, Sequence[Line]], horizontal: Horizontal, vertical: str, palette: Palette
) -> Figure:
    """Panels one below the other, each with the same rows, of which there are at most `TOGETHER`."""
    labels = list(dict.fromkeys(line.label for lines in by_title.values() for line in lines))
    numbers = palette.numbers(labels)
    height = (2.9 if len(by_title) == 1 else 2.1 * len(by_title)) + 0.2 * math.ceil(len(labels) / 2) + 0.2
    figure, places = axes(height, len(by_title), sharex=True)
    handles = {}
    for place, (title, lines) in zip(places, by_title.items(), strict=True):
        place.set_title(title)
        for line in lines:
            number = numbers[line.label]
            move = (sorted(numbers.values()).index(number) - (len(labels) - 1) / 2) * horizontal.apart
            handles[line.label] = _draw(place, line, SERIES[number].light, number, move)
        place.set_xticks(list(horizontal.ticks))
        _percent(place, vertical)
    places[-1].set_xlabel(horizontal.label)
    legend(figure, list(handles.values()), list(handles))
    return figure


def _a_panel_each(lines: Sequence[Line], horizontal: Horizontal, vertical: str) -> Figure:
    rows = math.ceil(len(lines) / 2)
    titles, higher = panel_titles(line.label for line in lines)
    figure, places = axes((1.45 + higher) * rows + 0.5, rows, 2, sharex=True, sharey=True)
    for place, own, title in zip(places, lines, titles, strict=False):
        for line in lines:
            if line is not own:
                place.plot(line.x, [100 * y.value for y in line.y], color=GREY.light, lw=0.7, alpha=0.5)
        _draw(place, own, SERIES[0].light, 0, 0.0)
        place.set_title(title, fontsize=SMALL)
        place.set_xticks(list(horizontal.ticks))
        place.yaxis.set_major_formatter("{x:g}")
    remove_unused(places, len(lines), 2)
    figure.supxlabel(horizontal.label, fontsize=10)
    figure.supylabel(vertical, fontsize=10)
    return figure


def _draw(place: Axes, line: Line, colour: str, number: int, move: float) -> object:
    values = [100 * y.value for y in line.y]
    low = [100 * (y.value - y.low) for y in line.y]
    high = [100 * (y.high - y.value) for y in line.y]
    return place.errorbar(
        [x + move for x in line.x],
        values,
        [[max(0.0, v) for v in low], [max(0.0, v) for v in high]],
        color=colour,
        marker=MARKERS[number],
        linestyle=DASHES[number],
        capsize=2.5,
        elinewidth=1.1,
    )


def _percent(place: Axes, label: str) -> None:
    place.set_ylabel(label)
    place.yaxis.set_major_formatter("{x:g}")


def told(lines: Sequence[Line], horizontal: str) -> str:
    """The lines as text: each row's first and last value."""
    parts = []
    for line in lines[:MOST]:
        ends = sorted({0, len(line.y) - 1})
        values = " and ".join(f"{100 * line.y[i].value:.1f}% at {line.x[i]:g}" for i in ends)
        parts.append(f"{row_name(line.label)} {values}")
    return f"Lines with 95% intervals against {horizontal}: {'; '.join(parts)}."
