"""Curves that records keep: validation accuracy during training, and ROC curves of pairs of novel classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.common.errors import UserError
from bench.records.arrays import Pairs, pairs, read_arrays
from bench.records.naming import CURVE
from bench.reporting.figures.picture import LEADING, Gap, Named, Palette, Picture, name_beside, others_in_grey
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import DASHES, GREY, SERIES, axes, legend, row_name
from bench.reporting.ranking.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

KEY = f"{CURVE}/accuracy"
VALIDATION, ROC = "Validation accuracy during training", "ROC curves of pairs"
POINTS = 300  # of a ROC curve
FEW_POINTS = 30  # of one that only shows where the others are

Curves = Mapping[str, list[np.ndarray]]
"""Label of a row -> ``[n, 2]`` of step and value for each seed."""
Scored = Mapping[str, tuple[Pairs, float | None]]
"""Label of a row -> the pairs of its first seed, and the threshold."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """A line for each seed of each row during training, and a ROC curve for each row."""
    return [*_validation(section, palette), *_roc(section, palette)]


def _of_rows(
    rows: list[Row], read: Callable[[Row], T | None], title: str, missing: str
) -> tuple[dict[str, T], list[Picture | Gap]]:
    """Label of each row that has arrays -> what `read` returns; and a gap for files that cannot be read."""
    found: dict[str, T] = {}
    gaps: list[Picture | Gap] = []
    for row in rows:
        try:
            if own := read(row):
                found[row.label] = own
        except UserError as error:
            gaps.append(Gap(title, f"{row.first.run_id}: {error.allowed}"))
    return found, gaps if found else [*gaps, Gap(title, missing)]


def _validation(section: Section, palette: Palette) -> list[Picture | Gap]:
    def read(row: Row) -> list[np.ndarray]:
        seeds = [read_arrays(record, section.directory, KEY.__eq__) for record in row.records]
        own = [seed[KEY] for seed in seeds if KEY in seed]
        return [one for one in own if one.shape[1:] == (2,) and len(one) and np.isfinite(one).all()]

    missing = "no record has kept the curve (older records lack it)"
    curves, gaps = _of_rows(section.best(), read, VALIDATION, missing)
    if not curves:
        return gaps
    leading = list(curves)[:LEADING]
    best = "; ".join(
        f"{row_name(label)} {100 * max(float(own[:, 1].max()) for own in curves[label]):.1f}%"
        for label in leading
    )
    picture = Picture(
        name="validation",
        title=VALIDATION,
        caption="Mean of 5-way 1-shot and 5-shot accuracy on validation images, a line for each seed. The "
        f"weights of the best point are kept; novel classes play no part.{others_in_grey(len(curves))}",
        alt=f"Validation accuracy during training; best values: {best}.",
        draw=partial(_draw_validation, curves, palette.numbers(leading)),
    )
    return [*gaps, picture]


def _draw_validation(curves: Curves, numbers: dict[str, int]) -> Figure:
    figure, (place,) = axes(3.4)
    ends = []
    for label, seeds in reversed(list(curves.items())):  # the leading ones on top
        number = numbers.get(label)
        style: dict[str, Any] = {"color": GREY.light, "lw": 0.8, "alpha": 0.6}
        if number is not None:
            style = {"color": SERIES[number].light, "ls": DASHES[number], "lw": 1.3}
        shares = [own[:, 0] / max(own[-1, 0], 1) for own in seeds]
        for share, own in zip(shares, seeds, strict=True):
            # A curve of one point has no line.
            place.plot(share, 100 * own[:, 1], marker="o" if len(own) == 1 else "", **style)
        if number is not None:
            end = float(shares[0][-1]), 100 * float(seeds[0][-1, 1])
            ends.append(Named(*end, row_name(label), SERIES[number].light))
    place.set_xlim(0, 1.03)
    place.set_xlabel("training (share of the method's own steps)")
    place.set_ylabel("validation accuracy (%)")
    name_beside(place, ends)
    return figure


def _roc(section: Section, palette: Palette) -> list[Picture | Gap]:
    def read(row: Row) -> tuple[Pairs, float | None] | None:
        found = pairs(row.first, section.directory)
        return (found, row.first.thresholds.get("similarity")) if found else None

    missing = "no record has kept the scores of its pairs (older records lack them)"
    # Those that learn the tested classes have pairs of fewer images, and a given threshold.
    rows = [row for row in section.best("novel/pair_auc") if not row.first.labelled_novel_images]
    scored, gaps = _of_rows(rows, read, ROC, missing)
    if not scored:
        return gaps
    areas = {row.label: row.first.metrics.get("novel/pair_auc") for row in section.rows}
    names = {
        label: f"{label}, AUC {100 * area.value:.1f}%" if (area := areas[label]) else label
        for label in list(scored)[:LEADING]
    }
    picture = Picture(
        name="roc",
        title=ROC,
        caption="Pairs of novel classes, for every threshold; the mark is the threshold chosen on "
        f"validation pairs, the dashed line is chance.{others_in_grey(len(scored))}",
        alt=f"ROC curves with the area under each: {'; '.join(map(row_name, names.values()))}.",
        draw=partial(_draw_roc, scored, names, palette.numbers(names)),
    )
    return [*gaps, picture]


def _draw_roc(scored: Scored, names: Mapping[str, str], numbers: dict[str, int]) -> Figure:
    figure, (place,) = axes(4.4 + 0.2 * math.ceil(len(names) / 2))
    for label, (found, _) in scored.items():
        if label not in names:
            place.plot(*_thin(found, FEW_POINTS), color=GREY.light, lw=0.7, alpha=0.6)
    lines = [_curve(place, *scored[label], numbers[label]) for label in names]
    place.plot([0, 100], [0, 100], color=GREY.light, lw=0.8, ls=(0, (4, 3)))
    place.set_aspect("equal")
    place.set(xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
    place.set_xlabel("false accept rate (%)")
    place.set_ylabel("true accept rate (%)")
    legend(figure, lines, list(names.values()))
    return figure


def _curve(place: Axes, found: Pairs, threshold: float | None, number: int) -> object:
    colour = SERIES[number].light
    (line,) = place.plot(*_thin(found, POINTS), color=colour, ls=DASHES[number], lw=1.4)
    if threshold is not None:
        accepted = found.scores >= threshold
        place.plot(
            [100 * accepted[~found.same].mean()], [100 * accepted[found.same].mean()], "o", color=colour, ms=5
        )
    return line


def _thin(found: Pairs, points: int) -> tuple[np.ndarray, np.ndarray]:
    """A ROC curve in percent, of no more points than can be seen; they lie evenly along the curve."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(found.same, found.scores, drop_intermediate=False)
    along = np.linspace(0, 2, points)
    chosen = np.unique(np.searchsorted(false + true, along).clip(0, len(false) - 1))
    return 100 * false[chosen], 100 * true[chosen]
