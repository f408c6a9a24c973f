"""Accuracy against the number of base classes: the histogram of the Siamese project, for every method."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from functools import partial

from bench.records.identity import overrides
from bench.reporting.figures.lines import TOGETHER, Horizontal, Line, one_panel, told
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.rows import Row, Section, grouped

METRICS = {
    "fewshot/5w1s": "5-way 1-shot, novel classes",
    "novel/pair_accuracy": "pairs of novel classes",
    "base/pair_accuracy": "pairs of base classes",
    "base/triplet_accuracy": "triplets of base classes",
}
TITLE = "Accuracy against number of base classes"
RATIO = re.compile(r"\d+-\d+")


def pictures(sections: Sequence[Section], palette: Palette) -> list[Picture | Gap]:
    """One for each data set and metric that is known at two or more numbers of base classes."""
    found: list[Picture | Gap] = []
    ratios = [section for section in sections if RATIO.fullmatch(section.first.split)]
    for own in grouped(ratios, _images).values():
        dataset = own[0].first.dataset
        drawn = [p for key in METRICS if (p := _picture(own, key, palette))]
        if not drawn:
            why = f"needs records of one method at two or more splits of {dataset}, such as 50-50 and 90-10"
            found.append(Gap(dataset, TITLE, why))
        found += drawn
    return found


def _images(section: Section) -> str:
    return json.dumps([section.first.dataset, section.first.fingerprint, section.first.protocol_version])


def _method(row: Row) -> str:
    """Equal for rows of two splits that are of one method, and differ only in what the split asks for."""
    first = row.first
    same = [first.method, first.preset, first.backbone, overrides(first), first.weights, first.trained]
    return json.dumps(same, sort_keys=True)


def _picture(sections: Sequence[Section], key: str, palette: Palette) -> Picture | None:
    lines = []
    rows = [row for section in sections for row in section.best() if key in row.intervals]
    for own in grouped(rows, _method).values():
        by_base: dict[float, Row] = {}
        for row in own:  # of several rows of one split the best
            by_base.setdefault(row.first.classes.base, row)
        points = sorted(by_base.items())
        label = points[0][1].label
        lines.append(Line(label, [x for x, _ in points], [row.intervals[key] for _, row in points]))
    ticks = sorted({x for line in lines for x in line.x})
    if all(len(line.x) < 2 for line in lines):
        return None
    lines.sort(key=lambda line: (-len(line.x), -line.y[-1].value, line.label))
    apart = 0.05 * min(b - a for a, b in itertools.pairwise(ticks)) if len(lines) <= TOGETHER else 0.0
    horizontal = Horizontal("base classes trained on (number)", ticks, apart)
    dataset = sections[0].first.dataset
    return Picture(
        name="base-classes_" + key.replace("/", "-").replace("_", "-"),
        section=dataset,
        title=f"{TITLE}: {METRICS[key]}",
        caption="Bars are 95% intervals. More base classes mean fewer novel classes, so each split has "
        "other novel classes.",
        alt=told(lines, "the number of base classes"),
        draw=partial(one_panel, lines, horizontal, "accuracy (%)", palette),
    )
