"""Repeated, interleaved timings, and the table that shows them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Side = Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """One line of the table before it is measured.

    Attributes:
        what: the work, and the unit of its numbers.
        against: the peer, for people.
        ours, peer: names of the two sides.
        show: how seconds a unit are written, e.g. as units a second.
        how: what exactly each side does.
        goal: least ratio of the peer's time to ours, where one was set.
    """

    what: str
    against: str
    ours: str
    peer: str
    show: Callable[[float], float]
    how: str
    goal: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table, as text."""

    what: str
    against: str
    ours: str
    peer: str
    ratio: str
    goal: str
    how: str


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(sides: Mapping[str, Side], repeats: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Measure every side, then every side again, so that a slow minute of the machine meets all of them.

    Args:
        sides: name -> does its work and returns seconds a unit.
        repeats: how often each is measured.
        say: told what was just measured.

    Returns:
        Name -> seconds a unit, one for each repeat.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            found[name].append(side())
            say(f"{repeat + 1}/{repeats} {name}: {found[name][-1] * 1e3:.4g} ms a unit")
    return found


def compare(comparison: Comparison, measured: Mapping[str, Sequence[float]]) -> Row:
    """One line of the table: medians with their range; the ratio is taken repeat by repeat."""
    ours, peer = measured[comparison.ours], measured[comparison.peer]
    ratios = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    return Row(
        what=comparison.what,
        against=comparison.against,
        ours=spread([comparison.show(value) for value in ours]),
        peer=spread([comparison.show(value) for value in peer]),
        ratio=spread(ratios, "x"),
        goal=verdict(statistics.median(ratios), comparison.goal),
        how=comparison.how,
    )


def verdict(ratio: float, goal: float | None) -> str:
    """The goal, and whether the median ratio reaches it."""
    if goal is None:
        return ""
    return f">= {goal:g}x: {'met' if ratio >= goal else 'missed'}"


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, then lowest and highest in brackets."""
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return short(middle) + unit
    return f"{short(middle)}{unit} ({short(low)} to {short(high)})"


def short(value: float) -> str:
    """Three significant digits, whole numbers in full."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [("what", "peer", "ours", "the peer's", "ratio", "goal", "how measured"), ("---",) * 7]
    lines += [(row.what, row.against, row.ours, row.peer, row.ratio, row.goal, row.how) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Counts:
    """How much of each kind of work one timing does.

    Attributes:
        ours: episodes that we draw and answer.
        gathered: episodes whose images we gather.
        peer: tasks that learn2learn, and easyfsl from images, sample and answer.
        indices: tasks that the peers sample as indices, and easyfsl answers from features.
        steps, peer_steps: training steps.
        eager_steps: training steps against a bare eager loop, by backbone.
        ready: batches made before the bare loop starts.
    """

    ours: int = 10_000
    gathered: int = 2_000
    peer: int = 200
    indices: int = 1_000
    steps: int = 205
    peer_steps: int = 105
    eager_steps: dict[str, int] = field(default_factory=lambda: {"conv4": 65, "resnet12-32": 25})
    ready: int = 32


QUICK = Counts(
    ours=512,
    gathered=64,
    peer=8,
    indices=32,
    steps=15,
    peer_steps=10,
    eager_steps={"conv4": 15, "resnet12-32": 10},
    ready=4,
)


def a_second(value: float) -> float:
    """Seconds a unit -> units a second."""
    return 1 / value
