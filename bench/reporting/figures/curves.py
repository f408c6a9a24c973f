"""Validation accuracy during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import UserError
from bench.records.arrays import read_arrays
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.points import LEADING, Named, name_beside, others_in_grey
from bench.reporting.figures.rows import Row, Section
from bench.reporting.figures.style import DASHES, GREY, SERIES, axes, row_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "curve/accuracy"
TITLE = "Validation accuracy during training"
Curves = Mapping[str, Sequence[np.ndarray]]
"""Label of a row -> ``[n, 2]`` of step and value for each seed."""


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """One picture with a line for each seed of each row; rows from the best to the worst."""
    found: list[Picture | Gap] = []
    curves: dict[str, list[np.ndarray]] = {}
    for row in section.best():
        try:
            if own := _read(row):
                curves[row.label] = own
        except UserError as error:
            found.append(Gap(section.title, TITLE, f"{row.first.run_id}: {error.allowed}"))
    if not curves:
        return [*found, Gap(section.title, TITLE, "no record has kept the curve (older records lack it)")]
    best = "; ".join(
        f"{row_name(label)} {100 * max(float(own[:, 1].max()) for own in seeds):.1f}%"
        for label, seeds in list(curves.items())[:LEADING]
    )
    picture = Picture(
        name="validation",
        section=section.title,
        title=TITLE,
        caption="Mean of 5-way 1-shot and 5-shot accuracy on validation images, a line for each seed. The "
        f"weights of the best point are kept; novel classes play no part.{others_in_grey(len(curves))}",
        alt=f"Validation accuracy during training; best values: {best}.",
        draw=partial(_draw, curves, palette),
    )
    return [*found, picture]


def _read(row: Row) -> list[np.ndarray]:
    seeds = [read_arrays(record, row.directory, KEY.__eq__) for record in row.records]
    return [seed[KEY] for seed in seeds if KEY in seed and _is_curve(seed[KEY])]


def _is_curve(own: np.ndarray) -> bool:
    return own.ndim == 2 and own.shape[1] == 2 and len(own) > 0 and bool(np.isfinite(own).all())


def _draw(curves: Curves, palette: Palette) -> Figure:
    leading = list(curves)[:LEADING]
    numbers = palette.numbers(leading)
    figure, (place,) = axes(3.4)
    ends = []
    for label, seeds in reversed(list(curves.items())):  # the leading ones on top
        number = numbers.get(label)
        for own in seeds:
            share, values = own[:, 0] / max(own[-1, 0], 1), 100 * own[:, 1]
            marker = "o" if len(own) == 1 else ""  # a curve of one point has no line
            if number is None:
                place.plot(share, values, color=GREY.light, lw=0.8, alpha=0.6, marker=marker)
            else:
                style = {"color": SERIES[number].light, "ls": DASHES[number]}
                place.plot(share, values, lw=1.3, marker=marker, **style)
        if number is not None:
            own = seeds[0]
            end = float(own[-1, 0] / max(own[-1, 0], 1)), 100 * float(own[-1, 1])
            ends.append(Named(*end, row_name(label), SERIES[number].light))
    place.set_xlim(0, 1.03)
    place.set_xlabel("training (share of the method's own steps)")
    place.set_ylabel("validation accuracy (%)")
    name_beside(place, ends)
    return figure
