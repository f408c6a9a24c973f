"""Figures before they are drawn; which rows of one are coloured and named, and where their names stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.records.parts import Metric
from bench.reporting.figures.style import GREY, LINE, PAPER, SERIES, folded
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEADING = len(SERIES)
"""Rows of a picture that have a colour and a name; the others are grey."""

WIDEST_NAME = 25  # letters
NAME_SIZE = 7.5  # points


class Picture(NamedTuple):
    """A figure that can be drawn.

    Attributes:
        name: of its files, without an ending; unique.
        title: what it shows.
        caption: how to read it.
        alt: description for readers who cannot see it.
        draw: draws it.
        section: its heading.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    section: str = ""


class Gap(NamedTuple):
    """A figure that could not be drawn, and why."""

    title: str
    why: str
    section: str = ""


class Palette:
    """The same colour for the same row in every figure, as long as there are enough colours.

    Args:
        labels: of all rows.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.wanted = {label: number % len(SERIES) for number, label in enumerate(sorted(set(labels)))}

    def numbers(self, labels: Iterable[str]) -> dict[str, int]:
        """A number of colour, marker and dashes for each of at most `len(SERIES)` rows."""
        taken: dict[str, int] = {}
        free = list(range(len(SERIES)))
        for label in sorted(labels, key=lambda label: (self.wanted.get(label, 0), label)):
            wanted = self.wanted.get(label, 0)
            taken[label] = wanted if wanted in free else free[0]
            free.remove(taken[label])
        return taken


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


def name_beside(place: Axes, named: Iterable[Named]) -> None:
    """Write names to the right of the axes, at the heights of their points, but not over one another."""
    ordered = sorted(named, key=lambda one: one.y)
    if not ordered:
        return
    low, high = place.get_ylim()
    panels = len(place.figure.axes)
    inches = 0.7 * place.figure.get_figure(root=True).get_size_inches()[1] / panels
    line = 0.9 * LINE * (high - low) / inches
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


def add_point(
    place: Axes, numbers: dict[str, int], label: str, x: float | Interval, y: Interval, name: str
) -> list[Named]:
    """A dot with the interval of each coordinate that has one; fractions are drawn in percent.

    Args:
        place: the axes.
        numbers: label of a leading row -> number of its colour; other rows are grey, without intervals.
        label: of the row.
        x, y: its coordinates.
        name: of a leading row.

    Returns:
        The name and its place, if the row is a leading one.
    """
    across = None
    if isinstance(x, Interval):
        across, x = bars([x]), 100 * x.value
    height, leads = 100 * y.value, label in numbers
    colour = (SERIES[numbers[label]] if leads else GREY).light
    if leads:
        place.errorbar([x], [height], bars([y]), across, color=GREY.light, capsize=2.5, elinewidth=1.1)
    place.plot([x], [height], "o", ms=8 if leads else 5, color=colour, mec=PAPER.light)
    return [Named(x, height, name, colour)] if leads else []


def bars(intervals: Iterable[Interval | Metric]) -> list[list[float]]:
    """Distances from values to the lower and upper ends of their intervals, in percent."""
    ends = [(max(0.0, own.value - own.low), max(0.0, own.high - own.value)) for own in intervals]
    return [[100 * low for low, _ in ends], [100 * high for _, high in ends]]
