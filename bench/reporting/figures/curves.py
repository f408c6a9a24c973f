"""Training loss and validation accuracy, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import UserError
from bench.records.arrays import read_arrays
from bench.reporting.figures.lines import MOST, TOGETHER
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.rows import Row, Section
from bench.reporting.figures.style import (
    DASHES,
    GREY,
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

LOSS, ACCURACY = "curve/loss", "curve/accuracy"
STEP = "training step (number)"
TITLES = {LOSS: "Training loss", ACCURACY: "Validation accuracy in training"}
Curves = Mapping[str, Sequence[np.ndarray]]
"""Label of a row -> ``[n, 2]`` of step and value for each seed."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """The loss of each row in its own panel, because losses are not comparable, and all validation curves."""
    found: list[Picture | Gap] = []
    read = {}
    for row in section.best():
        try:
            read[row.label] = _read(row)
        except UserError as error:
            found.append(Gap(section.title, TITLES[LOSS], f"{row.first.run_id}: {error.allowed}"))
    for name, title in TITLES.items():
        curves = {label: [own[name] for own in seeds if name in own] for label, seeds in read.items()}
        curves = dict([(label, own) for label, own in curves.items() if own][:MOST])
        if not curves:
            found.append(Gap(section.title, title, "needs a record with the curve (older records lack it)"))
        elif name == LOSS:
            found.append(_loss(section, curves))
        else:
            found.append(_validation(section, curves, palette))
    return found


def _read(row: Row) -> list[dict[str, np.ndarray]]:
    seeds = [read_arrays(record, row.directory, TITLES.__contains__) for record in row.records]
    return [{name: own for name, own in seed.items() if _is_curve(own)} for seed in seeds]


def _is_curve(own: np.ndarray) -> bool:
    return own.ndim == 2 and own.shape[1] == 2 and len(own) > 0 and bool(np.isfinite(own).all())


def _loss(section: Section, curves: Curves) -> Picture:
    ends = "; ".join(
        f"{row_name(label)} from {own[0][0, 1]:.3g} to {own[0][-1, 1]:.3g}" for label, own in curves.items()
    )
    return Picture(
        name="loss",
        section=section.title,
        title=TITLES[LOSS],
        caption="One panel per method, one line per seed. Losses of different methods are not comparable; "
        "only the shape of a line is informative.",
        alt=f"Loss against training step: {ends}.",
        draw=partial(_loss_panels, curves),
    )


def _loss_panels(curves: Curves) -> Figure:
    columns = 1 if len(curves) == 1 else 2
    rows = math.ceil(len(curves) / columns)
    titles, higher = panel_titles(curves)
    figure, places = axes((2.9 if rows == 1 else 1.6 * rows + 0.4) + higher * rows, rows, columns)
    for place, title, seeds in zip(places, titles, curves.values(), strict=False):
        for own in seeds:
            place.plot(*_thinned(own).T, color=SERIES[0].light, lw=1.1, alpha=0.8, marker=_dot(own))
        place.set_title(title, fontsize=SMALL)
        _few_steps(place)
    remove_unused(places, len(curves), columns)
    figure.supxlabel(STEP, fontsize=10)
    figure.supylabel("loss (no unit)", fontsize=10)
    return figure


def _validation(section: Section, curves: Curves, palette: Palette) -> Picture:
    best = "; ".join(
        f"{row_name(label)} {100 * max(float(own[:, 1].max()) for own in seeds):.1f}%"
        for label, seeds in curves.items()
    )
    return Picture(
        name="validation",
        section=section.title,
        title=TITLES[ACCURACY],
        caption="Mean of 5-way 1-shot and 5-shot accuracy on validation images, one line per seed. The "
        "weights of the best point are kept; novel classes are not used.",
        alt=f"Validation accuracy against training step; best values: {best}.",
        draw=partial(_validation_panels, curves, palette),
    )


def _validation_panels(curves: Curves, palette: Palette) -> Figure:
    if len(curves) > TOGETHER:
        return _validation_each(curves)
    numbers = palette.numbers(list(curves))
    figure, (place,) = axes(2.9 + 0.2 * math.ceil(len(curves) / 2))
    handles = {}
    for label, seeds in curves.items():
        for own in seeds:
            (handles[label],) = place.plot(
                own[:, 0], 100 * own[:, 1], color=SERIES[numbers[label]].light, ls=DASHES[numbers[label]],
                lw=1.3, marker=_dot(own),
            )  # fmt: skip
    _few_steps(place)
    place.set_xlabel(STEP)
    place.set_ylabel("validation accuracy (%)")
    legend(figure, list(handles.values()), list(handles))
    return figure


def _validation_each(curves: Curves) -> Figure:
    rows = math.ceil(len(curves) / 2)
    titles, higher = panel_titles(curves)
    figure, places = axes((1.45 + higher) * rows + 0.5, rows, 2, sharey=True)
    for place, title, seeds in zip(places, titles, curves.values(), strict=False):
        for other in curves.values():
            for own in other:
                place.plot(own[:, 0] / own[-1, 0], 100 * own[:, 1], color=GREY.light, lw=0.6, alpha=0.4)
        for own in seeds:
            place.plot(
                own[:, 0] / own[-1, 0], 100 * own[:, 1], color=SERIES[0].light, lw=1.4, marker=_dot(own)
            )
        place.set_title(title, fontsize=SMALL)
        place.set_xlim(0, 1.03)
    remove_unused(places, len(curves), 2)
    figure.supxlabel("training (share of the method's own steps)", fontsize=10)
    figure.supylabel("validation accuracy (%)", fontsize=10)
    return figure


def _dot(curve: np.ndarray) -> str:
    """A curve of one point is no line."""
    return "o" if len(curve) == 1 else ""


def _thinned(curve: np.ndarray, points: int = 400) -> np.ndarray:
    """No more points than can be seen."""
    return curve[:: max(1, len(curve) // points)]


def _few_steps(place: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    place.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    place.xaxis.set_major_formatter(
        FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")
    )
