"""Similarity of same and different pairs, with the threshold, and the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import UserError
from bench.records.arrays import Pairs, pairs
from bench.reporting.figures.lines import MOST, TOGETHER
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import (
    DASHES,
    GREY,
    INK,
    SERIES,
    SMALL,
    axes,
    legend,
    panel_titles,
    remove_unused,
    row_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Similarity of same and different pairs"
ROC = "ROC curves of pairs"
BINS = 50
POINTS = 300  # of a curve
FEW_POINTS = 30  # of a grey curve for comparison
Scored = Mapping[str, tuple[Pairs, float | None]]
"""Label of a row -> the pairs of its first seed, and the threshold."""
Names = Mapping[str, str]
"""Label of a row -> name of its panel or line, with the area under its ROC curve."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """Scores of pairs of novel classes, one panel per row, and all ROC curves."""
    scored: dict[str, tuple[Pairs, float | None]] = {}
    gaps: list[Picture | Gap] = []
    for row in section.best("novel/pair_auc"):
        try:
            found = pairs(row.first, row.directory)
        except UserError as error:
            gaps.append(Gap(section.title, TITLE, f"{row.first.run_id}: {error.allowed}"))
            continue
        if found and len(scored) < MOST:
            scored[row.label] = found, row.first.thresholds.get("similarity")
    if not scored:
        why = "needs a record with the scores of its pairs (older records lack them)"
        return [*gaps, Gap(section.title, TITLE, why), Gap(section.title, ROC, why)]
    areas = {row.label: row.first.metrics.get("novel/pair_auc") for row in section.rows}
    names = {label: f"{label}, AUC {100 * area.value:.1f}%" if (area := areas[label]) else label
             for label in scored}  # fmt: skip
    return [
        *gaps,
        Picture(
            name="scores",
            section=section.title,
            title=TITLE,
            caption="Pairs of images of novel classes. From the threshold, chosen on validation pairs, a "
            "pair is classified as same. Each method has its own scale.",
            alt=f"Histograms of the similarity of same and different pairs for {len(scored)} methods.",
            draw=partial(_distributions, scored, names),
        ),
        Picture(
            name="roc",
            section=section.title,
            title=ROC,
            caption="Pairs of novel classes, for every threshold; the mark is the threshold chosen on "
            "validation pairs, the dashed line is chance.",
            alt=f"ROC curves with the area under each: {'; '.join(map(row_name, names.values()))}.",
            draw=partial(_roc, scored, names, palette),
        ),
    ]


def roc(found: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates for every threshold, from 0 to 1."""
    order = np.argsort(-found.scores, kind="stable")
    # Pairs with equal scores are accepted together.
    last = np.append(np.flatnonzero(np.diff(found.scores[order])), len(order) - 1)
    rates = []
    for kind in (~found.same, found.same):
        accepted = np.cumsum(kind[order])
        rates.append(np.concatenate([[0.0], accepted[last] / accepted[-1]]))
    return rates[0], rates[1]


def _distributions(scored: Scored, names: Names) -> Figure:
    columns = 1 if len(scored) == 1 else 2
    rows = math.ceil(len(scored) / columns)
    titles, higher = panel_titles(names.values())
    figure, places = axes((2.8 if rows == 1 else 1.6 * rows + 0.5) + higher * rows, rows, columns)
    handles: dict[str, object] = {}
    for place, title, (found, threshold) in zip(places, titles, scored.values(), strict=False):
        handles |= _histograms(place, found, threshold)
        place.set_title(title, fontsize=SMALL)
    remove_unused(places, len(scored), columns)
    # Not one label of the whole figure: the legend would lie on it.
    for place in places[max(0, len(scored) - columns) : len(scored)]:
        place.set_xlabel("similarity (no unit)")
    figure.supylabel("pairs of the kind (% per bin)", fontsize=10)
    legend(figure, list(handles.values()), list(handles), columns=3)
    return figure


def _histograms(place: Axes, found: Pairs, threshold: float | None) -> dict[str, object]:
    from matplotlib.ticker import MaxNLocator

    low, high = np.quantile(found.scores, [0.001, 0.999])  # a few far-off pairs would hide all others
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    handles: dict[str, object] = {}
    for name, kind, colour, line in (
        ("different", ~found.same, SERIES[1], "-"),
        ("same", found.same, SERIES[0], (0, (5, 1))),
    ):
        counts, _ = np.histogram(found.scores[kind].clip(low, high), edges)
        share = 100 * counts / kind.sum()
        handles[name] = place.stairs(share, edges, fill=True, color=colour.light, alpha=0.3)
        place.stairs(share, edges, color=colour.light, lw=1.3, ls=line)
    if threshold is not None:
        handles["threshold"] = place.axvline(threshold, color=INK.light, lw=1.1, ls=(0, (2, 2)))
    place.xaxis.set_major_locator(MaxNLocator(4))
    place.yaxis.set_major_locator(MaxNLocator(3))
    return handles


def _roc(scored: Scored, names: Names, palette: Palette) -> Figure:
    if len(scored) > TOGETHER:
        return _roc_each(scored, names)
    numbers = palette.numbers(list(scored))
    figure, (place,) = axes(4.4 + 0.2 * math.ceil(len(scored) / 2))
    handles = {
        label: _curve(place, *own, SERIES[numbers[label]].light, DASHES[numbers[label]])
        for label, own in scored.items()
    }
    _square(place)
    place.set_xlabel("false accept rate (%)")
    place.set_ylabel("true accept rate (%)")
    legend(figure, list(handles.values()), list(names.values()))
    return figure


def _roc_each(scored: Scored, names: Names) -> Figure:
    rows = math.ceil(len(scored) / 2)
    titles, higher = panel_titles(names.values())
    figure, places = axes((2.2 + higher) * rows + 0.4, rows, 2, sharex=True, sharey=True)
    thin = {label: _thin(*roc(found), FEW_POINTS) for label, (found, _) in scored.items()}
    for place, title, own in zip(places, titles, scored.values(), strict=False):
        for rates in thin.values():
            place.plot(*rates, color=GREY.light, lw=0.5, alpha=0.5)
        _curve(place, *own, SERIES[0].light, "-")
        _square(place)
        place.set_title(title, fontsize=SMALL)
    remove_unused(places, len(scored), 2)
    figure.supxlabel("false accept rate (%)", fontsize=10)
    figure.supylabel("true accept rate (%)", fontsize=10)
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
