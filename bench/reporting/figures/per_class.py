"""The hardest and the easiest novel classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench.records.store import Metric
from bench.reporting.figures.picture import Gap, Picture
from bench.reporting.figures.rows import Row, Section, of_model
from bench.reporting.figures.style import GREY, INK, SERIES, SMALL, axes, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Hardest and easiest classes"
KEYS = {
    "fewshot/5w1s": "5-way 1-shot accuracy (%)",
    "novel/pair_accuracy": "pair accuracy (%)",
    "novel/triplet_accuracy": "triplet accuracy (%)",
}
MOST = 20


class Ranked(NamedTuple):
    """Classes of one row, from the hardest to the easiest.

    Attributes:
        key: the metric.
        row: whose numbers they are.
        classes: name and metric.
        others: for each of them the values of the section's other rows.
    """

    key: str
    row: Row
    classes: list[tuple[str, Metric]]
    others: list[list[float]]


def ranked(section: Section) -> Ranked | None:
    """The classes of the section's best row that has any."""
    for key in KEYS:
        for row in section.best(key):
            own = {name: values[key] for name, values in row.first.per_class.items() if key in values}
            if own:
                classes = sorted(own.items(), key=lambda item: (item[1].value, item[0]))
                rest = [other.first.per_class for other in section.rows if other is not row]
                others = [
                    [per[name][key].value for per in rest if key in per.get(name, {})] for name, _ in classes
                ]
                return Ranked(key, row, classes, others)
    return None


def ends(classes: Sequence[str], most: int) -> list[str]:
    """Of ranked classes the first and the last, `most` together."""
    half = most // 2
    return list(classes) if len(classes) <= most else [*classes[:half], *classes[-half:]]


def pictures(section: Section) -> list[Picture | Gap]:
    """Bars of the best row's classes, and points of the other rows'."""
    found = ranked(section)
    if found is None:
        return [Gap(section.title, TITLE, "needs numbers per class")]
    names = [name for name, _ in found.classes]
    hardest, easiest = (
        (plain(n).strip(), f"{100 * m.value:.1f}%") for n, m in (found.classes[0], found.classes[-1])
    )
    left_out = len(names) - len(ends(names, MOST))
    return [
        Picture(
            name="per-class",
            section=section.title,
            title=of_model(TITLE, found.row.first),
            caption="Bars: the model of the best row of this split, with 95% intervals; points: "
            "other rows." + (f" {left_out} classes in between are left out." if left_out else ""),
            alt=f"Accuracy of each novel class; hardest {' '.join(hardest)}, easiest {' '.join(easiest)}.",
            draw=partial(_draw, found),
        )
    ]


def _draw(found: Ranked) -> Figure:
    chosen = set(ends([name for name, _ in found.classes], MOST))
    shown = [
        (name, metric, others)
        for (name, metric), others in zip(found.classes, found.others, strict=True)
        if name in chosen
    ]
    gap = 1 if len(chosen) < len(found.classes) else 0
    places = [i + (gap if i >= len(shown) / 2 else 0) for i in range(len(shown))]
    figure, (place,) = axes(0.9 + 0.24 * (len(shown) + gap))
    values = [100 * metric.value for _, metric, _ in shown]
    error = [
        [100 * max(0.0, m.value - m.low) for _, m, _ in shown],
        [100 * max(0.0, m.high - m.value) for _, m, _ in shown],
    ]
    place.barh(
        places, values, 0.72, xerr=error, color=SERIES[5].light, alpha=0.6,
        error_kw={"ecolor": INK.light, "elinewidth": 1.0, "capsize": 2},
    )  # fmt: skip
    for where, (_, _, others) in zip(places, shown, strict=True):
        place.plot([100 * value for value in others], [where] * len(others), "o", ms=2.6, color=INK.light)
    if gap:
        hidden = len(found.classes) - len(shown)
        place.annotate(f"… {hidden} classes in between …", (0.02, len(shown) // 2), size=SMALL,
                       xycoords=("axes fraction", "data"), va="center", color=GREY.light)  # fmt: skip
    place.set_yticks(places, [plain(name, 24) for name, *_ in shown])
    place.set_ylim(max(places) + 0.6, -0.6)
    place.set_xlim(0, 100)
    place.grid(visible=False, axis="y")
    place.set_xlabel(KEYS[found.key])
    place.set_ylabel("novel class (name)")
    return figure
