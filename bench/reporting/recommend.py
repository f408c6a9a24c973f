"""Output of `rank`: a table of the candidates, which of them to take, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records.arrays import read_episodes
from bench.records.identity import Table
from bench.records.store import Record
from bench.records.tracks import training_seconds
from bench.reporting import terminal
from bench.reporting.blocks import NOTHING
from bench.reporting.compare import compare
from bench.reporting.frame import by_size
from bench.reporting.numbers import duration, number
from bench.reporting.reach import reaches
from bench.reporting.verdicts import SIGNIFICANT, p_text, points

if TYPE_CHECKING:
    from bench.statistics import Difference, Interval

Runs = Mapping[str, tuple[Record, Path]]
"""Name of a candidate -> its record, and the record's folder."""


@dataclass(frozen=True)
class Pair:
    """Two candidates, by name: the first minus the second; p after Holm's correction over all pairs."""

    first: str
    second: str
    difference: Difference
    new_classes: Interval | None
    p: float = 1.0

    def led_by(self, name: str) -> float:
        """The lead of one of them."""
        return self.difference.value if name == self.first else -self.difference.value


def text(runs: Runs, results: Path) -> tuple[str, str]:
    """A table of the candidates and a recommendation; and the name of the candidate to take.

    Args:
        runs: one or more.
        results: the folder of their records.
    """
    rows = _rows(runs)
    lines, take = [], ""
    for setting in _settings(runs):
        said, take = _of_setting(runs, setting, results)
        lines.append(f"{setting}: {said}")
    record, _ = runs[take]
    metric, way = record.metrics[f"fewshot/{setting}"], record.episodes[setting].way
    if metric.low <= 1 / way:
        lines.append(f"{take} is not shown to be better than guessing ({100 / way:.3g}%).")
    if f"{setting}, fresh images" not in rows[0]:
        lines.append("± is for these images; there are too few to say what fresh images would change.")
    if len({one.fingerprint for one, _ in runs.values()}) > 1:
        lines.append(
            "Embeddings that take images of another size answered other episodes of the same classes."
        )
    if any(one.timings.steps or one.pretraining for one, _ in runs.values()):
        lines.append("One training each: another --seed may change the order.")
    return "\n".join([terminal.text(rows), "", *lines]), take


def _rows(runs: Runs) -> list[dict[str, Any]]:
    """One row each, the best first: intervals for other episodes and for fresh images, and the time."""
    settings = _settings(runs)
    rows = []
    for name in _ordered(runs, settings[-1]):
        record, folder = runs[name]
        fresh = {reach.metric: reach.fresh_images for reach in reaches(record, folder)}
        row: dict[str, Any] = {"method": name}
        for setting in settings:
            row[setting] = "".join(number(record.metrics[f"fewshot/{setting}"]))
            row[f"{setting}, fresh images"] = "".join(number(fresh.get(f"fewshot/{setting}")))
        rows.append(row | {"time": duration(cost(record))})
    kept = [key for key in rows[0] if any(row[key] != "".join(NOTHING) for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


def _ordered(runs: Runs, setting: str) -> list[str]:
    return sorted(runs, key=lambda name: -runs[name][0].metrics[f"fewshot/{setting}"].value)


def cost(record: Record) -> float:
    """Seconds of training and evaluation."""
    return (training_seconds(record) or 0.0) + record.timings.evaluate_s


def _settings(runs: Runs) -> list[str]:
    """The few-shot settings that all have, the one with the most shots last; all-way only without others."""
    shared = set.intersection(*(set(record.episodes) for record, _ in runs.values()))
    named = sorted((name for name in shared if name[0].isdecimal()), key=by_size)
    return named or sorted(shared)


def _of_setting(runs: Runs, setting: str, results: Path) -> tuple[str, str]:
    best, *others = _ordered(runs, setting)
    if not others:
        return f"only {best} could be tried; there is nothing to compare it with.", best
    pairs = _pairs(runs, setting, results)
    leads = {p.second if p.first == best else p.first: p for p in pairs if best in (p.first, p.second)}
    tied = [name for name in others if leads[name].p > SIGNIFICANT]
    if not tied:
        following = others[0]
        said = f"{best} is best. Its lead over {following} is {_by(leads[following], best)}."
        return f"{said} {_for_new_classes(leads.values(), best)}", best
    cheapest = min([best, *tied], key=lambda name: cost(runs[name][0]))
    gaps = ", ".join(f"{name} by {_by(leads[name], best)}" for name in tied)
    return f"no difference is shown: {best} leads {gaps}. Take {cheapest}, the cheapest of them.", cheapest


def _by(pair: Pair, best: str) -> str:
    d = pair.difference
    lead = f"{points(pair.led_by(best), d)} ± {points(d.half_width, d)} points"
    return f"{lead} over {d.episodes:,} episodes (p {p_text(pair.p)})"


def _for_new_classes(pairs: Any, best: str) -> str:
    intervals = [(pair.new_classes, 1 if pair.first == best else -1) for pair in pairs]
    if any(interval is None for interval, _ in intervals):
        return "That is for these classes; for others it is not known."
    if all(min(sign * i.low, sign * i.high) > 0 for i, sign in intervals):
        return "It leads the others for new classes of this kind too."
    return "That is for these classes; for others it is not certain."


def _pairs(runs: Runs, setting: str, results: Path) -> list[Pair]:
    """All pairs: on identical episodes, or on separately drawn ones if the images have another size."""
    from bench.statistics import holm

    found: list[Pair] = []
    ids = {record.run_id: name for name, (record, _) in runs.items()}
    groups: dict[str, list[str]] = {}
    for record, _ in runs.values():
        groups.setdefault(record.fingerprint, []).append(record.run_id)
    for group in groups.values():
        if len(group) > 1:
            compared = compare(group, Table(results), setting)
            for (one, other), comparison, new in zip(
                itertools.combinations(group, 2), compared.comparisons, compared.new_classes, strict=True
            ):
                found.append(Pair(ids[one], ids[other], comparison.difference, new))
    for first, second in itertools.combinations(runs, 2):
        if runs[first][0].fingerprint != runs[second][0].fingerprint:
            found.append(Pair(first, second, _apart([runs[first], runs[second]], setting), None))
    corrected = holm([pair.difference.p for pair in found])
    return [
        Pair(one.first, one.second, one.difference, one.new_classes, p)
        for one, p in zip(found, corrected, strict=True)
    ]


def _apart(sides: Sequence[tuple[Record, Path]], setting: str) -> Difference:
    """Difference of two means over separately drawn episodes of the same classes: Welch (1947)."""
    from scipy.stats import ttest_ind

    from bench.statistics import Difference

    first, second = (read_episodes(record, folder, [setting])[setting] for record, folder in sides)
    value, episodes = float(first.mean() - second.mean()), min(len(first), len(second))
    if not value and not first.std() and not second.std():
        return Difference(value, value, value, 1.0, episodes, (1, 1), False)
    test = ttest_ind(first, second, equal_var=False)
    low, high = (float(end) for end in test.confidence_interval())
    shown = (max(-1.0, low), min(1.0, high), float(test.pvalue))
    return Difference(value, *shown, episodes, (1, 1), False)
