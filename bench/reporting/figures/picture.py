"""Figures before they are drawn, and the colour of each row in all figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.figures.style import SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A figure that can be drawn.

    Attributes:
        name: of its files, without an ending; unique.
        section: its heading.
        title: what it shows.
        caption: how to read it.
        alt: description for readers who cannot see it.
        draw: draws it.
    """

    name: str
    section: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


class Gap(NamedTuple):
    """A figure that could not be drawn, and why."""

    section: str
    title: str
    why: str


class Palette:
    """The same colour for the same row in every figure, as long as there are enough colours.

    Args:
        labels: of all rows.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.wanted = {label: number % len(SERIES) for number, label in enumerate(sorted(set(labels)))}

    def numbers(self, labels: Sequence[str]) -> dict[str, int]:
        """A number of colour, marker and dashes for each of at most `len(SERIES)` rows."""
        taken: dict[str, int] = {}
        free = list(range(len(SERIES)))
        for label in sorted(labels, key=lambda label: (self.wanted.get(label, 0), label)):
            wanted = self.wanted.get(label, 0)
            taken[label] = wanted if wanted in free else free[0]
            free.remove(taken[label])
        return taken
