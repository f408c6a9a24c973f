"""Accuracy on base and novel classes from split to split: the histogram of the Siamese project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.records.identity import across_splits
from bench.reporting.figures.picture import Gap, Picture, bars
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import INK, SERIES, axes, legend, row_name
from bench.reporting.published import Published, published
from bench.reporting.ranking.rows import Row, grouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "triplets": {"base": "base/triplet_accuracy", "novel": "novel/triplet_accuracy"},
    "pairs, area under the ROC curve": {"base": "base/pair_auc", "novel": "novel/pair_auc"},
    "5-way 1-shot": {"novel": "fewshot/5w1s"},
}
"""Title -> part -> metric key."""

MEASURED = sorted(key for keys in PANELS.values() for key in keys.values())
COLOURS = {"base": SERIES[1].light, "novel": SERIES[0].light}
TITLE = "Base and novel classes from split to split"
RATIO = re.compile(r"(\d+)-\d+")
BAR = 0.38  # of the distance between two splits

Splits = dict[str, Row]
"""Split, by number of base classes -> its row."""


def pictures(sections: Sequence[Section]) -> list[Picture | Gap]:
    """One for each data set: the method that is recorded on most ratio splits."""
    found: list[Picture | Gap] = []
    ratios = [section for section in sections if RATIO.fullmatch(section.first.split)]
    for (dataset, *_), own in grouped(ratios, _images).items():
        rows = _most_splits(own)
        if len(rows) < 2:
            why = f"needs records of one method at two or more splits of {dataset}, such as 50-50 and 90-10"
            found.append(Gap(TITLE, why, dataset))
        else:
            found.append(_picture(dataset, rows))
    return found


def _images(section: Section) -> tuple[str, str, int]:
    return section.first.dataset, section.first.fingerprint, section.first.protocol_version


def _values(row: Row) -> dict[str, float]:
    return {key: row.intervals[key].value for key in MEASURED if key in row.intervals}


def _most_splits(sections: Sequence[Section]) -> Splits:
    """The rows of one method, of those with most splits the best at the last one."""
    rows = [row for section in sections for row in section.best() if _values(row)]
    methods: list[list[Row]] = []
    for own in grouped(rows, lambda row: across_splits(row.first)).values():
        # The first, the best, of several rows of one split.
        of_split = [alike[0] for alike in grouped(own, lambda row: row.first.split).values()]
        methods.append(sorted(of_split, key=lambda row: row.first.classes.base))
    most = max(methods, key=lambda own: (len(own), max(_values(own[-1]).values())), default=[])
    return {row.first.split: row for row in most}


def published_at(dataset: str, rows: Splits) -> dict[str, Published]:
    """Published results at most of these splits of the same images, by split: of the source with most."""
    alike = [one for one in published() if one.dataset == dataset and one.split in rows]
    sources = grouped(alike, lambda one: (one.method, one.backbone, one.setting, one.source))
    best = max(sources.values(), key=len, default=[])
    return {one.split: one for one in best} if len(best) > 1 else {}


def _picture(dataset: str, rows: Splits) -> Picture:
    others = published_at(dataset, rows)
    name = row_name(next(iter(rows.values())).label)
    source = next((f"{one.method}, {one.backbone}; {one.source}" for one in others.values()), "")
    parts = []
    for split, row in rows.items():
        values = ", ".join(f"{key} {100 * value:.1f}%" for key, value in _values(row).items())
        parts.append(f"{split}: {values}")
    return Picture(
        name="splits",
        section=dataset,
        title=f"{TITLE}: {name}",
        caption="Bars have 95% intervals. Each split has other novel classes: the more base classes, the "
        "fewer novel ones." + (f" Diamonds: {source}." if source else ""),
        alt=f"Bars of base and novel classes for each split. {'; '.join(parts)}.",
        draw=partial(_draw, rows, others),
    )


def _draw(rows: Splits, others: dict[str, Published]) -> Figure:
    measured = {key for row in rows.values() for key in row.intervals}
    panels = {title: keys for title, keys in PANELS.items() if measured & set(keys.values())}
    figure, places = axes(1.9 * len(panels) + 0.6, len(panels), sharex=True)
    handles: dict[str, Any] = {}
    for place, (title, keys) in zip(places, panels.items(), strict=True):
        place.set_title(title)
        for part, key in keys.items():
            move = (BAR / 2) * (-1 if part == "base" else 1) * (len(keys) > 1)
            for position, (split, row) in enumerate(rows.items()):
                if own := row.intervals.get(key):
                    handles[f"{part} classes"] = place.bar(
                        position + move, 100 * own.value, BAR, yerr=bars([own]), color=COLOURS[part],
                        alpha=0.75, ecolor=INK.light, capsize=2.5,
                    )  # fmt: skip
                if split in others and key in others[split].values:
                    value = float(others[split].values[key][0])
                    diamond = place.plot([position + move], [value], "D", color=INK.light, ms=4.5)
                    handles["published"] = diamond[0]
        place.set_ylabel("accuracy (%)" if "ROC" not in title else "area (%)")
        place.set_ylim(0, 100)
        place.set_xticks(range(len(rows)), list(rows))
        place.grid(visible=False, axis="x")
    places[-1].set_xlabel("split (base-novel classes, percent)")
    legend(figure, list(handles.values()), list(handles), columns=3)
    return figure
