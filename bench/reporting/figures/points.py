"""Which rows of a picture are coloured and named, and their names beside what they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.figures.style import GREY, LINE, PAPER, SERIES, folded
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEADING = len(SERIES)
"""Rows of a picture that have a colour and a name; the others are grey."""

WIDEST_NAME = 25  # letters
NAME_SIZE = 7.5  # points


class Named(NamedTuple):
    """A name and what it belongs to, in data coordinates."""

    x: float
    y: float
    name: str
    colour: str


def others_in_grey(count: int) -> str:
    """What a caption says of the rows that are not named."""
    if count <= LEADING:
        return ""
    rest = count - LEADING
    return f" The {LEADING} leading methods are named; {rest} other{'s are' if rest > 1 else ' is'} grey."


def name_beside(place: Axes, named: Sequence[Named]) -> None:
    """Write names to the right of the axes, at the heights of their points, but not over one another."""
    if not named:
        return
    low, high = place.get_ylim()
    inches = 0.7 * place.figure.get_figure(root=True).get_size_inches()[1]
    line = 0.9 * LINE * (high - low) / inches
    ordered = sorted(named, key=lambda one: one.y)
    texts = [folded(one.name, WIDEST_NAME) for one in ordered]
    heights = [line * (text.count("\n") + 1.2) for text in texts]
    middles = spread([one.y for one in ordered], heights)
    move = min(0.0, high - middles[-1] - heights[-1] / 2)  # down, into the axes; then up if that was too far
    move = max(move, low - middles[0] + heights[0] / 2)
    for one, text, middle in zip(ordered, texts, middles, strict=True):
        place.annotate(
            text,
            (one.x, one.y),
            xytext=(1.04, middle + move),
            textcoords=place.get_yaxis_transform(),
            color=one.colour,
            size=NAME_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "relpos": (0, 0.5), "color": one.colour, "lw": 0.6, "shrinkB": 3,
            },
        )  # fmt: skip
    place.set_ylim(low, high)


def spread(middles: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The middles of boxes, ascending, moved as little as possible until none lies on another."""
    import numpy as np
    from sklearn.isotonic import isotonic_regression

    sizes = np.asarray(heights)
    below = np.concatenate([[0.0], np.cumsum((sizes[1:] + sizes[:-1]) / 2)])
    return (isotonic_regression(np.asarray(middles) - below) + below).tolist()


def add_point(place: Axes, x: float | Interval, y: Interval, colour: str, leads: bool = True) -> None:
    """A dot with the interval of each coordinate that has one; fractions, drawn in percent."""
    across = None
    if isinstance(x, Interval):
        across, x = _bars(x), 100 * x.value
    height, bars = 100 * y.value, _bars(y)
    if leads:
        place.errorbar([x], [height], bars, across, color=GREY.light, capsize=2.5, elinewidth=1.1)
    place.plot([x], [height], "o", ms=8 if leads else 5, color=colour, mec=PAPER.light)


def _bars(interval: Interval) -> list[list[float]]:
    return [[100 * (interval.value - interval.low)], [100 * (interval.high - interval.value)]]
