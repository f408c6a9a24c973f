"""Accuracy against the number of support images."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import partial

from bench.reporting.figures.lines import Horizontal, Line, one_panel, panels, told
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.points import LEADING, others_in_grey
from bench.reporting.figures.rows import Row, Section

FEWSHOT = re.compile(r"fewshot/5w(\d+)s")
GENERALIZED = re.compile(r"generalized/(\d+)\+(\d+)/(\d+)s/novel")
TITLE = "Accuracy against shots"
HORIZONTAL = "support images per class (shots, number)"
PARTS = {"novel": "new classes", "base": "base classes", "harmonic": "harmonic mean of both"}


def pictures(section: Section, palette: Palette) -> list[Picture | Gap]:
    """5-way K-shot, and one or all novel classes joining the base classes."""
    found: list[Picture | Gap] = []
    lines = [line for row in section.best() if len((line := _line(row, FEWSHOT.fullmatch)).x) > 1]
    if lines:
        found.append(
            Picture(
                name="shots",
                section=section.title,
                title=TITLE,
                caption="5-way accuracy on novel classes with 95% intervals." + others_in_grey(len(lines)),
                alt=told(lines, "shots"),
                draw=partial(one_panel, lines, _horizontal([lines]), "5-way accuracy (%)", palette),
            )
        )
    else:
        found.append(Gap(section.title, TITLE, "needs 5-way accuracies with two numbers of shots"))
    keys = {
        m.group(1, 2) for row in section.rows for key in row.intervals if (m := GENERALIZED.fullmatch(key))
    }
    for base, new in sorted(keys, key=lambda key: (int(key[1]), key)):
        found.append(_joined(section, base, new, palette))
    return found


def _line(row: Row, match) -> Line:
    points = sorted((int(m.groups()[-1]), own) for key, own in row.intervals.items() if (m := match(key)))
    return Line(row.label, [float(x) for x, _ in points], [own for _, own in points])


def _horizontal(groups: Sequence[Sequence[Line]]) -> Horizontal:
    ticks = sorted({x for lines in groups for line in lines for x in line.x})
    return Horizontal(
        HORIZONTAL, ticks, 0.06 * min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    )


def _joined(section: Section, base: str, new: str, palette: Palette) -> Picture:
    prefix = f"generalized/{base}+{new}/"
    having = [
        r for r in section.best(f"{prefix}5s/harmonic") if any(k.startswith(prefix) for k in r.intervals)
    ]
    rows = having[:LEADING]
    by_title = {
        title: [_line(row, re.compile(rf"{re.escape(prefix)}(\d+)s/{part}").fullmatch) for row in rows]
        for part, title in PARTS.items()
    }
    left_out = f" The best {LEADING} of {len(having)} methods." if len(having) > LEADING else ""
    joined = "one novel class joins" if new == "1" else f"all {new} novel classes join"
    harmonic = by_title[PARTS["harmonic"]]
    return Picture(
        name=f"generalized-{base}+{new}",
        section=section.title,
        title=f"Accuracy against shots when {joined} the {base} base classes",
        caption=f"All {base} base classes and the new ones are distinguished at once; 95% intervals. 0 "
        f"shots: the base classes before any joined.{left_out}",
        alt=f"Three panels, new classes, base classes and harmonic mean. {told(harmonic, 'shots')}",
        draw=partial(panels, by_title, _horizontal(list(by_title.values())), "accuracy (%)", palette),
    )
