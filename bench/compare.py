"""`compare`: runs or methods, two by two, on identical episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.comparable import why_not
from bench.configurations import Table, name_of, named
from bench.episode_files import read_episodes
from bench.errors import UserError, one_line, one_of
from bench.records import Record

if TYPE_CHECKING:
    import numpy as np

    from bench.statistics import Comparison, Difference

POINT = 0.01  # the difference that seeds are asked to show
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Side:
    """One of the things compared.

    Attributes:
        name: how it is called in sentences.
        records: one a seed, all of one configuration.
        accuracies: float64 ``[R, T]``.
    """

    name: str
    records: list[Record]
    accuracies: np.ndarray


@dataclass(frozen=True)
class Compared:
    """Two or more sides on one setting, and every pair of them."""

    setting: str
    sides: list[Side]
    comparisons: list[Comparison]

    def side(self, name: str) -> Side:
        """The side of that name."""
        return next(side for side in self.sides if side.name == name)


def compare(operands: Sequence[str], table: Table, setting: str) -> Compared:
    """Compare every two of the operands.

    Args:
        operands: run ids, paths of records, or comma lists of these that differ only in the seed; or
            names of methods in `table`.
        table: where to look.
        setting: such as ``5w1s``.

    Raises:
        UserError: an operand is not there or not one configuration, or their episodes are not the same.
    """
    from bench.statistics import compare_all

    if len(operands) < 2:
        raise UserError("compare", " ".join(operands), "needs two or more runs or methods")
    found = [named(operand, table) for operand in operands]
    for operand, of in zip(operands, found, strict=True):
        _check_setting(operand, [record for record, _ in of], setting)
    names = _names([[record for record, _ in of] for of in found])
    sides = [
        Side(name, [record for record, _ in of], _accuracies(of, setting))
        for name, of in zip(names, found, strict=True)
    ]
    pairs = list(zip(itertools.combinations(operands, 2), itertools.combinations(sides, 2), strict=True))
    for given, (one, other) in pairs:
        if shared := {record.run_id for record in one.records} & {record.run_id for record in other.records}:
            raise UserError("compare", " ".join(given), f"{min(shared)} is in both")
    for given, (one, other) in pairs:
        if reason := why_not(one.records[0], other.records[0], setting):
            raise UserError("compare", " ".join(given), reason)
    comparisons = compare_all({side.name: side.accuracies for side in sides})
    return Compared(setting, sides, comparisons)


def _names(sides: Sequence[list[Record]]) -> list[str]:
    """Names of the sides; with seeds, or as run ids, where they are the same otherwise."""
    ways: list[Callable[[list[Record]], str]] = [
        lambda of: name_of(of[0]),
        lambda of: f"{name_of(of[0])}, seed {' '.join(str(record.seed) for record in of)}",
    ]
    for way in ways:
        names = [one_line(way(of)) for of in sides]
        if len(set(names)) == len(names):
            return names
    return [" ".join(record.run_id for record in of) for of in sides]


def _check_setting(operand: str, records: Iterable[Record], setting: str) -> None:
    for record in records:
        if record.failure is not None:
            raise UserError("compare", operand, f"{record.run_id} failed: {record.failure}")
        if setting not in record.episodes:
            raise UserError(
                "--setting", setting, f"{operand} has no such setting; {one_of(setting, record.episodes)}"
            )


def _accuracies(found: Sequence[tuple[Record, Path]], setting: str) -> np.ndarray:
    import numpy as np

    rows = []
    for record, folder in found:
        episodes = read_episodes(record, folder, [setting])
        if setting not in episodes:
            raise UserError("compare", record.run_id, "has no file of per-episode answers")
        rows.append(episodes[setting])
        if len(rows[-1]) < 2:
            raise UserError("compare", record.run_id, "answered one episode, which tells no spread")
    lists = {(record.episodes[setting].sha256, record.episodes[setting].count) for record, _ in found}
    if len(lists) > 1:
        raise UserError("compare", found[0][0].run_id, f"its seeds answered different episodes of {setting}")
    return np.stack(rows)


def sentence(compared: Compared, comparison: Comparison) -> str:
    """Who is better and by how much, or that nothing is shown and what would show it."""
    difference = comparison.difference
    names = [comparison.first, comparison.second]
    where = f"on novel classes of {one_line(compared.sides[0].records[0].split)}"
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


def p_text(p: float) -> str:
    """``= 0.002``, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def points(fraction: float, difference: Difference) -> str:
    """A fraction in points, with a second decimal where the interval is so narrow that it matters."""
    return f"{100 * fraction:.{1 if difference.half_width >= 0.001 else 2}f}"


def more_seeds(compared: Compared, comparison: Comparison) -> int | None:
    """How many more seeds of each side would show a difference of 1 point; None if no number would.

    With fewer than three of either: how many are lacking to know what training again does.
    """
    from bench.statistics import ENOUGH_SEEDS, seeds_needed

    difference = comparison.difference
    fewest = min(difference.seeds)
    if not difference.over_training:
        return ENOUGH_SEEDS - fewest
    first, second = (
        compared.side(name).accuracies[:, : difference.episodes]
        for name in (comparison.first, comparison.second)
    )
    needed = seeds_needed(first, second, POINT)
    return None if needed is None else max(0, needed - fewest)


def _what_would_show_it(needed: int | None, difference: Difference) -> str:
    if needed is None:
        return "no number of seeds would show 1 point on so few episodes"
    more = f"{needed} more seed{'s' if needed > 1 else ''} of each would be needed"
    if not difference.over_training:
        return f"at least {more} to tell what training again does"
    if needed == 0:
        return "with these seeds 1 point would be shown four times in five"
    return f"{more} to show 1 point"


def basis(difference: Difference) -> str:
    """What a comparison rests on and speaks of."""
    speaks = (
        "training again with other seeds"
        if difference.over_training
        else "these trained models only: training again may turn it round"
    )
    first, second = difference.seeds
    seeds = f"{first} training seed{'s' if first > 1 else ''} each"
    if first != second:
        seeds = f"{first} and {second} training seeds"
    return f"It rests on {difference.episodes:,} identical episodes and {seeds}, and speaks of {speaks}."


def as_text(compared: Compared) -> str:
    """Ranks, differences, and a sentence for every pair."""
    from bench.show import plain_table
    from bench.statistics import ENOUGH_SEEDS, closed_interval, crossed_seeds, rank_ranges

    first = compared.sides[0].records[0]
    ranks = rank_ranges([side.name for side in compared.sides], compared.comparisons)
    sides = []
    for side in sorted(compared.sides, key=lambda side: -float(side.accuracies.mean())):
        crossed = len(side.records) >= ENOUGH_SEEDS
        own = crossed_seeds(side.accuracies) if crossed else closed_interval(side.accuracies.mean(axis=0))
        sides.append(
            {
                "rank": str(ranks[side.name]),
                "method": side.name,
                compared.setting: f"{100 * own.value:.2f} ± {100 * own.half_width:.2f}",
                "episodes": f"{own.n:,}",
                "seeds": len(side.records),
            }
        )
    pairs = []
    for comparison in compared.comparisons:
        d = comparison.difference
        pairs.append(
            {
                "difference": f"{comparison.first} - {comparison.second}",
                "points": f"{100 * d.value:+.2f}",
                "95% interval": f"{100 * d.low:+.2f} to {100 * d.high:+.2f}",
                "p": p_text(d.p).removeprefix("= "),
                "p (Holm)": p_text(comparison.p).removeprefix("= "),
            }
        )
    where = one_line(f"novel classes of {first.dataset} {first.split}")
    head = f"{compared.setting}, {where}, protocol {first.protocol_version}"
    said = [f"{sentence(compared, c)}\n  {basis(c.difference)}" for c in compared.comparisons]
    return "\n\n".join([head, plain_table(sides), plain_table(pairs), "\n".join(said)])


def as_json(compared: Compared) -> dict[str, Any]:
    """The same for programs; fractions, not points."""
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
                "sentence": sentence(compared, c),
            }
            for c in compared.comparisons
        ],
    }
