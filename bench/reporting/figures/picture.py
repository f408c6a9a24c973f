"""What a picture is before it is drawn, and which colour each row has in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.figures.style import SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A picture that can be drawn.

    Attributes:
        name: of its files, without an ending; no two pictures have the same.
        section: the heading that it belongs under.
        title: what it shows.
        caption: how to read it.
        alt: what is to be seen, for those who do not see it.
        draw: makes it.
    """

    name: str
    section: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


class Gap(NamedTuple):
    """A picture that could not be drawn, and why."""

    section: str
    title: str
    why: str


class Palette:
    """The same colour for the same row in every picture, as far as the colours go.

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
