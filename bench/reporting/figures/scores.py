"""ROC curves of pairs of novel classes, with the threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import UserError
from bench.records.arrays import Pairs, pairs
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.points import LEADING, others_in_grey
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import DASHES, GREY, SERIES, axes, legend, row_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "ROC curves of pairs"
POINTS = 300  # of a curve
FEW_POINTS = 30  # of one that only shows where the others are
Scored = Mapping[str, tuple[Pairs, float | None]]
"""Label of a row -> the pairs of its first seed, and the threshold."""
Names = Mapping[str, str]
"""Label of a row -> what its panel or line is called: with the area under its ROC curve."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """How pairs of novel classes are scored, a panel for each row, and all ROC curves."""
    scored: dict[str, tuple[Pairs, float | None]] = {}
    gaps: list[Picture | Gap] = []
    for row in section.best("novel/pair_auc"):
        try:
            found = pairs(row.first, row.directory)
        except UserError as error:
            gaps.append(Gap(section.title, TITLE, f"{row.first.run_id}: {error.allowed}"))
            continue
        if found:
            scored[row.label] = found, row.first.thresholds.get("similarity")
    if not scored:
        why = "no record has kept the scores of its pairs (those of before do not)"
        return [*gaps, Gap(section.title, TITLE, why)]
    areas = {row.label: row.first.metrics.get("novel/pair_auc") for row in section.rows}
    names = {
        label: f"{label}, AUC {100 * area.value:.1f}%" if (area := areas[label]) else label
        for label in list(scored)[:LEADING]
    }
    picture = Picture(
        name="roc",
        section=section.title,
        title=TITLE,
        caption="Pairs of novel classes, for every threshold; the mark is the threshold chosen on "
        f"validation pairs, the dashed line is chance.{others_in_grey(len(scored))}",
        alt=f"ROC curves with the area under each: {'; '.join(map(row_name, names.values()))}.",
        draw=partial(_draw, scored, names, palette),
    )
    return [*gaps, picture]


def roc(found: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates for every threshold, from 0 to 1."""
    order = np.argsort(-found.scores, kind="stable")
    # Where several pairs have one score, only all of them or none can be accepted.
    last = np.append(np.flatnonzero(np.diff(found.scores[order])), len(order) - 1)
    rates = []
    for kind in (~found.same, found.same):
        accepted = np.cumsum(kind[order])
        rates.append(np.concatenate([[0.0], accepted[last] / accepted[-1]]))
    return rates[0], rates[1]


def _draw(scored: Scored, names: Names, palette: Palette) -> Figure:
    numbers = palette.numbers(list(names))
    figure, (place,) = axes(4.4 + 0.2 * math.ceil(len(names) / 2))
    for label, (found, _) in scored.items():
        if label not in names:
            place.plot(*_thin(*roc(found), FEW_POINTS), color=GREY.light, lw=0.7, alpha=0.6)
    handles = {
        label: _curve(place, *scored[label], SERIES[numbers[label]].light, DASHES[numbers[label]])
        for label in names
    }
    _square(place)
    place.set_xlabel("false accept rate (%)")
    place.set_ylabel("true accept rate (%)")
    legend(figure, list(handles.values()), list(names.values()))
    return figure


def _curve(place: Axes, found: Pairs, threshold: float | None, colour: str, dashes: object) -> object:
    (line,) = place.plot(*_thin(*roc(found)), color=colour, ls=dashes, lw=1.4)
    if threshold is not None:
        accepted = found.scores >= threshold
        place.plot(
            [100 * accepted[~found.same].mean()], [100 * accepted[found.same].mean()], "o", color=colour, ms=5
        )
    return line


def _thin(false: np.ndarray, true: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """In percent, and no more points than can be seen; they lie evenly along the curve."""
    along = np.linspace(0, 2, points)
    chosen = np.unique(np.searchsorted(false + true, along).clip(0, len(false) - 1))
    return 100 * false[chosen], 100 * true[chosen]


def _square(place: Axes) -> None:
    place.plot([0, 100], [0, 100], color=GREY.light, lw=0.8, ls=(0, (4, 3)))
    place.set_aspect("equal")
    place.set_xlim(0, 100)
    place.set_ylim(0, 100)
    place.set_xticks([0, 25, 50, 75, 100])
    place.set_yticks([0, 25, 50, 75, 100])
