"""Accuracy against the number of support images, with intervals: the leading rows in colour."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from bench.records.naming import JOINED, join
from bench.reporting.figures.picture import (
    LEADING,
    Gap,
    Named,
    Palette,
    Picture,
    bars,
    name_beside,
    others_in_grey,
)
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import DASHES, GREY, MARKERS, SERIES, axes, row_name
from bench.reporting.ranking.rows import Row, joins_of
from bench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Accuracy against shots"
FEWSHOT = re.compile(r"fewshot/5w(?P<shots>[0-9]+)s")
PARTS = {"novel": "novel classes", "base": "base classes", "harmonic": "harmonic mean of both"}


class Line(NamedTuple):
    """A row's values: fractions with their intervals, by number of shots."""

    label: str
    x: list[float]
    y: list[Interval]


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """5-way K-shot, and one or all novel classes joining the base classes."""
    lines = [line for row in section.best() if len((line := _line(row, FEWSHOT)).x) > 1]
    first: Picture | Gap = Gap(TITLE, "needs 5-way accuracies with two numbers of shots")
    if lines:
        first = Picture(
            name="shots",
            title=TITLE,
            caption="5-way accuracy on novel classes with 95% intervals." + others_in_grey(len(lines)),
            alt=_in_words(lines),
            draw=partial(_one_panel, lines, palette),
        )
    joins = {join[:2] for row in section.rows for join in joins_of(row)}
    by_new = sorted(joins, key=lambda join: (join[1], str(join[0])))
    return [first, *(_joined(section, base, new, palette) for base, new in by_new)]


def _line(row: Row, pattern: re.Pattern[str], **wanted: str) -> Line:
    points = sorted(
        (int(match["shots"]), own)
        for key, own in row.intervals.items()
        if (match := pattern.fullmatch(key)) and wanted.items() <= match.groupdict().items()
    )
    return Line(row.label, [float(x) for x, _ in points], [own for _, own in points])


def _joined(section: Section, base: int, new: int, palette: Palette) -> Picture:
    classes = {"base": str(base), "new": str(new)}
    having = [
        row for row in section.best(f"{join(base, new, 5)}/harmonic") if _line(row, JOINED, **classes).x
    ]
    by_title = {
        title: [_line(row, JOINED, **classes, part=part) for row in having[:LEADING]]
        for part, title in PARTS.items()
    }
    left_out = f" The best {LEADING} of {len(having)} methods." if len(having) > LEADING else ""
    joined = "one novel class joins" if new == 1 else f"{new} novel classes join at once"
    told = _in_words(by_title[PARTS["harmonic"]])
    return Picture(
        name=f"generalized-{base}+{new}",
        title=f"Accuracy against shots when {joined} the {base} base classes",
        caption=f"All {base} base classes and the new ones are distinguished at once; 95% intervals. 0 "
        f"shots: the base classes before any joined.{left_out}",
        alt=f"Three panels, novel classes, base classes and harmonic mean. {told}",
        draw=partial(_panels, by_title, palette),
    )


def _in_words(lines: Sequence[Line]) -> str:
    """The leading lines in words: each row's first and last value."""
    parts = []
    for line in lines[:LEADING]:
        ends = sorted({0, len(line.y) - 1})
        values = " and ".join(f"{100 * line.y[i].value:.1f}% at {line.x[i]:g}" for i in ends)
        parts.append(f"{row_name(line.label)} {values}")
    return f"Lines with 95% intervals against shots: {'; '.join(parts)}."


def _one_panel(lines: Sequence[Line], palette: Palette) -> Figure:
    """The leading rows, the first of `lines`, have their names at the ends of their lines."""
    numbers = palette.numbers(line.label for line in lines[:LEADING])
    figure, (place,) = axes(3.4)
    for line in lines[LEADING:]:
        place.plot(line.x, [100 * y.value for y in line.y], color=GREY.light, lw=0.8, alpha=0.6)
    _draw(place, lines[:LEADING], numbers, "5-way accuracy (%; guessing: 20)")
    _finish(place, lines, lines[:LEADING], numbers)
    return figure


def _panels(by_title: Mapping[str, Sequence[Line]], palette: Palette) -> Figure:
    """Panels one below the other with the same rows, at most `LEADING`, whose names are beside the last."""
    *_, last = by_title.values()
    numbers = palette.numbers(line.label for line in last)
    figure, places = axes(2.3 * len(by_title), len(by_title), sharex=True)
    for place, (title, lines) in zip(places, by_title.items(), strict=True):
        place.set_title(title)
        _draw(place, lines, numbers, "accuracy (%)")
    _finish(places[-1], list(chain.from_iterable(by_title.values())), last, numbers)
    return figure


def _draw(place: Axes, lines: Sequence[Line], numbers: dict[str, int], label: str) -> None:
    for line in lines:
        number = numbers[line.label]
        place.errorbar(
            line.x,
            [100 * y.value for y in line.y],
            bars(line.y),
            color=SERIES[number].light,
            marker=MARKERS[number],
            linestyle=DASHES[number],
            capsize=2.5,
            elinewidth=1.1,
        )
    place.set_ylabel(label)
    place.yaxis.set_major_formatter("{x:g}")


def _finish(place: Axes, lines: Sequence[Line], leading: Sequence[Line], numbers: dict[str, int]) -> None:
    """The axis of the shots of all lines, and the names of the leading ones at their ends."""
    place.set_xticks(sorted({x for line in lines for x in line.x}))
    place.set_xlabel("support images per class (shots, number)")
    ends = [(line.x[-1], 100 * line.y[-1].value, line.label) for line in leading]
    name_beside(place, [Named(x, y, row_name(name), SERIES[numbers[name]].light) for x, y, name in ends])
