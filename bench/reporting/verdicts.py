"""Output of `compare`: ranks, differences, and a sentence about each pair of sides."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from bench.common.errors import one_line
from bench.records.identity import marks
from bench.reporting import terminal
from bench.reporting.blocks import percent_text
from bench.reporting.compare import Compared
from bench.reporting.leaderboard.cells import images
from bench.reporting.ranking.rows import interval_of
from bench.statistics import (
    ENOUGH_SEEDS,
    Comparison,
    Difference,
    Interval,
    RankRange,
    rank_ranges,
    seeds_needed,
    significantly_better,
)

POINT = 0.01  # the difference that seeds should detect
SIGNIFICANT = 0.05


def sentence(compared: Compared, comparison: Comparison) -> str:
    """Which is better and by how much on these classes, or how many seeds would show a difference."""
    difference = comparison.difference
    names = [comparison.first, comparison.second]
    where = f"on these novel classes of {one_line(compared.sides[0].records[0].split)}"
    p = f"p {p_text(comparison.p)}"
    if comparison.p > SIGNIFICANT:
        by = f"{points(difference.value, difference)} ± {points(difference.half_width, difference)} points"
        return (
            f"{' and '.join(names)}: no difference shown {where} ({by}, {p}); "
            f"{_what_would_show_it(more_seeds(compared, comparison), difference)}."
        )
    better, worse = names if difference.value > 0 else names[::-1]
    by = f"{points(abs(difference.value), difference)} ± {points(difference.half_width, difference)} points"
    said = f"{better} is better than {worse} by {by} {where} ({p})."
    return said if difference.over_training else f"As trained here, {said}"


def basis(difference: Difference) -> str:
    """Basis and population of a comparison over episodes."""
    applies = (
        "retraining with other seeds"
        if difference.over_training
        else "these trained models only: retraining may reverse it"
    )
    first, second = difference.seeds
    seeds = f"{first} training seed{'s' if first > 1 else ''} each"
    if first != second:
        seeds = f"{first} and {second} training seeds"
    elif difference.paired_seeds:
        seeds = f"the same {first} trained network{'s' if first > 1 else ''}"
    return (
        f"New episodes of these classes: based on {difference.episodes:,} identical episodes and {seeds}; "
        f"applies to {applies}."
    )


def for_new_classes(comparison: Comparison, interval: Interval | None) -> str:
    """Result for new classes."""
    if interval is None:
        return "New classes: not known; these episodes do not give an interval over classes."
    width = comparison.difference._replace(low=interval.low, high=interval.high)
    by = f"{points(interval.value, width)} ± {points(interval.half_width, width)} points"
    over = f"{by} over the {interval.n} novel classes ({comparison.first} minus {comparison.second})"
    shown = comparison.p <= SIGNIFICANT
    if interval.low <= 0 <= interval.high:
        known = "the order may be reversed" if shown else "no difference shown either"
        return f"New classes: {known}; {over}."
    better = comparison.first if interval.value > 0 else comparison.second
    return f"New classes: {better} is{' also' if shown else ''} better; {over}."


def p_text(p: float) -> str:
    """``= 0.002``, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def points(fraction: float, difference: Difference) -> str:
    """A fraction in points, with a second decimal if the interval is narrow."""
    return f"{100 * fraction:.{1 if difference.half_width >= 0.001 else 2}f}"


def more_seeds(compared: Compared, comparison: Comparison) -> int | None:
    """Number of additional seeds per side that would detect a difference of 1 point; None if none would.

    With fewer than three seeds of either: the number missing to know the effect of retraining.
    """
    difference = comparison.difference
    fewest = min(difference.seeds)
    if not difference.over_training:
        return ENOUGH_SEEDS - fewest
    accuracies = {side.name: side.accuracies[:, : difference.episodes] for side in compared.sides}
    ends = accuracies[comparison.first], accuracies[comparison.second]
    needed = seeds_needed(*ends, POINT, paired_seeds=difference.paired_seeds)
    return None if needed is None else max(0, needed - fewest)


def _what_would_show_it(needed: int | None, difference: Difference) -> str:
    if needed is None:
        return "no number of seeds would detect 1 point with so few episodes"
    more = f"{needed} more seed{'s' if needed > 1 else ''} of each would be needed"
    if not difference.over_training:
        return f"at least {more} to know the effect of retraining"
    if needed == 0:
        return "these seeds would detect a difference of 1 point with 80% power"
    return f"{more} to detect 1 point"


def as_text(compared: Compared) -> str:
    """Ranks, differences, and sentences for every pair."""
    first = compared.sides[0].records[0]
    names = [side.name for side in compared.sides]
    better = significantly_better(names, compared.comparisons)
    ranks = dict(zip(names, rank_ranges(better), strict=True))
    new_class_ranks = _new_class_ranks(compared)
    sides = []
    for side in sorted(compared.sides, key=lambda side: -float(side.accuracies.mean())):
        own = interval_of(side.accuracies)
        sides.append(
            {
                "rank": str(ranks[side.name]),
                "for new classes": str(new_class_ranks.get(side.name, "–")),
                "method": side.name,
                compared.setting: percent_text(own),
                "episodes": f"{own.n:,}",
                "seeds": len(side.records),
                "images": "".join(images(side.records)),
                "marks": ", ".join(marks(side.records[0])) or "–",
            }
        )
    if all(side["marks"] == "–" for side in sides):
        sides = [{key: value for key, value in side.items() if key != "marks"} for side in sides]
    pairs = [
        {
            "difference": f"{comparison.first} - {comparison.second}",
            "points": f"{100 * comparison.difference.value:+.2f}",
            "95%, new episodes": _ends(comparison.difference),
            "p": p_text(comparison.difference.p).removeprefix("= "),
            "p (Holm)": p_text(comparison.p).removeprefix("= "),
            "95%, new classes": _ends(interval) if interval else "–",
        }
        for comparison, interval in _both(compared)
    ]
    where = one_line(f"novel classes of {first.dataset} {first.split}")
    head = f"{compared.setting}, {where}, protocol {first.protocol_version}"
    said = [
        f"{sentence(compared, comparison)}\n  {basis(comparison.difference)}\n"
        f"  {for_new_classes(comparison, interval)}"
        for comparison, interval in _both(compared)
    ]
    return "\n\n".join([head, terminal.text(sides), terminal.text(pairs), "\n".join(said)])


def _both(compared: Compared) -> list[tuple[Comparison, Interval | None]]:
    return list(zip(compared.comparisons, compared.new_classes, strict=True))


def _new_class_ranks(compared: Compared) -> dict[str, RankRange]:
    """Side -> possible ranks by the intervals over classes; empty if one is not known."""
    names = [side.name for side in compared.sides]
    better = np.zeros((len(names), len(names)), dtype=bool)
    for (i, j), interval in zip(combinations(range(len(names)), 2), compared.new_classes, strict=True):
        if interval is None:
            return {}
        better[i, j], better[j, i] = interval.low > 0, interval.high < 0
    return dict(zip(names, rank_ranges(better), strict=True))


def _ends(interval: Difference | Interval) -> str:
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"


def as_json(compared: Compared) -> dict[str, Any]:
    """The comparison for programs; fractions, not points."""
    first = compared.sides[0].records[0]
    return {
        "setting": compared.setting,
        "dataset": first.dataset,
        "split": first.split,
        "protocol_version": first.protocol_version,
        "sides": [
            {
                "name": side.name,
                "runs": [record.run_id for record in side.records],
                "accuracy": float(side.accuracies.mean()),
                "marks": marks(side.records[0]),
            }
            for side in compared.sides
        ],
        "comparisons": [
            {
                "first": c.first,
                "second": c.second,
                "difference": c.difference.value,
                "low": c.difference.low,
                "high": c.difference.high,
                "p": c.difference.p,
                "p_holm": c.p,
                "episodes": c.difference.episodes,
                "seeds": list(c.difference.seeds),
                "over_training": c.difference.over_training,
                "more_seeds_needed": more_seeds(compared, c),
                "new_classes": interval
                and {"low": interval.low, "high": interval.high, "classes": interval.n},
                "sentence": sentence(compared, c),
            }
            for c, interval in _both(compared)
        ],
    }
