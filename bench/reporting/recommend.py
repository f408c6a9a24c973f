"""Output of `rank`: a table of the candidates, which of them to take, and how sure that is.

Differences are tested for fresh images of the same classes: on episodes that have no image in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any
from warnings import catch_warnings

import numpy as np

from bench.records.arrays import read_episodes
from bench.records.identity import split_digest
from bench.records.store import Record
from bench.records.tracks import cores, on_gpu, training_seconds
from bench.reporting import terminal
from bench.reporting.blocks import NOTHING, duration, percent_text
from bench.reporting.compare import why_incomparable
from bench.reporting.ranking.rows import by_size
from bench.reporting.reach import FEWEST_EPISODES, episodes_apart, fresh_images
from bench.reporting.verdicts import SIGNIFICANT
from bench.statistics import holm

Runs = Mapping[str, tuple[Record, Path]]
"""Name of a candidate -> its record, and the record's folder."""


def text(runs: Runs) -> tuple[str, str]:
    """A table of the candidates and a recommendation; and the name of the candidate to take.

    Args:
        runs: one or more, with a few-shot setting that all have.
    """
    settings = _settings(runs)
    # One that is not shown to be worse than the highest in any setting, and of these the highest on average.
    worse = {setting: _shown_to_be_worse(runs, setting) for setting in settings}
    left = [name for name in runs if not any(name in found for found in worse.values() if found)]
    take = max(left or runs, key=lambda name: fmean(_value(runs, name, setting) for setting in settings))
    lines = [_of_setting(runs, setting, worse[setting]) for setting in settings] if len(runs) > 1 else []
    lines += _warnings(runs, settings, take)
    return "\n".join([terminal.text(_rows(runs, settings)), "", *lines, f"Recommendation: {take}."]), take


def _settings(runs: Runs) -> list[str]:
    """The few-shot settings that all have, the one with the most shots last; all-way only without others."""
    shared = set.intersection(*(set(record.episodes) for record, _ in runs.values()))
    named = sorted((name for name in shared if name[0].isdecimal()), key=by_size)
    return named or sorted(shared)


def _value(runs: Runs, name: str, setting: str) -> float:
    return runs[name][0].metrics[f"fewshot/{setting}"].value


def _ordered(runs: Runs, setting: str) -> list[str]:
    return sorted(runs, key=lambda name: -_value(runs, name, setting))


def _rows(runs: Runs, settings: list[str]) -> list[dict[str, Any]]:
    """One row each, the best first: intervals for fresh images and for other episodes, and the time."""
    rows = []
    time = "time" if any(on_gpu(record) for record, _ in runs.values()) else "time of one core"
    for name in _ordered(runs, settings[-1]):
        record, folder = runs[name]
        fresh = fresh_images(record, folder)
        row: dict[str, Any] = {"method": name}
        for setting in settings:
            row[f"{setting}, fresh images"] = percent_text(fresh.get(f"fewshot/{setting}"))
            row[f"{setting}, these images"] = percent_text(record.metrics[f"fewshot/{setting}"])
        seconds = (training_seconds(record) or 0.0) + record.timings.evaluate_s * cores(record)
        rows.append(row | {time: duration(seconds)})
    kept = [key for key in rows[0] if any(row[key] != "".join(NOTHING) for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


def _shown_to_be_worse(runs: Runs, setting: str) -> dict[str, float] | None:
    """Candidates that are significantly worse than the highest on fresh images, with their p after Holm.

    The p-values are corrected over all pairs, because the highest was not known before. None if there are too
    few images for a test.
    """
    from scipy.stats import ttest_ind, ttest_rel

    apart: dict[str, np.ndarray] = {}
    for name, (record, folder) in runs.items():
        chosen = episodes_apart(record, setting)
        if chosen is None or len(chosen) < FEWEST_EPISODES:
            return None
        apart[name] = read_episodes(record, folder, [setting])[setting][chosen]
    pairs = list(itertools.combinations(runs, 2))
    found = []
    for first, second in pairs:
        a, b = apart[first], apart[second]
        # A method that adapts answers fewer episodes, the first of them.
        both = min(len(a), len(b))
        # They differ where other images are copies of each other at another size, and in preset `smoke`.
        paired = why_incomparable(runs[first][0], runs[second][0], setting) is None
        with catch_warnings(action="ignore"):  # of the same answers in every episode, for which p is NaN
            test = ttest_rel(a[:both], b[:both]) if paired else ttest_ind(a, b, equal_var=False)
        p = float(test.pvalue)
        found.append(1.0 if isnan(p) else p)
    corrected = {frozenset(pair): p for pair, p in zip(pairs, holm(found), strict=True)}
    best, *others = _ordered(runs, setting)
    ps = {name: corrected[frozenset((best, name))] for name in others}
    return {name: p for name, p in ps.items() if p <= SIGNIFICANT}


def _of_setting(runs: Runs, setting: str, worse: dict[str, float] | None) -> str:
    best, *others = _ordered(runs, setting)
    leads = {name: 100 * (_value(runs, best, setting) - _value(runs, name, setting)) for name in others}

    def said(names: list[str]) -> str:
        return ", ".join(f"{name} (by {leads[name]:.1f} points)" for name in names)

    if worse is None:
        unknown = "There are too few images to say whether it would lead on others."
        return f"{setting}: {best} leads on these images, ahead of {said(others)}. {unknown}"
    shown, not_shown = ([name for name in others if (name in worse) is which] for which in (True, False))
    parts = [f"{setting}: {best} is highest."]
    if shown:
        where = f"on fresh images of these classes (p < {SIGNIFICANT})"
        parts.append(f"It is significantly better {where} than {said(shown)}.")
    if not_shown:
        parts.append(f"It is not significantly better than {said(not_shown)}.")
    return " ".join(parts)


def _warnings(runs: Runs, settings: list[str], take: str) -> list[str]:
    lines = []
    record, folder = runs[take]
    setting = settings[-1]
    key, way = f"fewshot/{setting}", record.episodes[setting].way
    if (fresh_images(record, folder).get(key) or record.metrics[key]).low <= 1 / way:
        lines.append(f"{take} is not shown to be better than guessing ({100 / way:.3g}%).")
    if len({(one.images_id, split_digest(one)) for one, _ in runs.values()}) > 1:
        lines.append(
            "Some candidates were tested on other episodes of the same classes, and are compared unpaired."
        )
    if any(one.timings.steps or one.pretraining for one, _ in runs.values()):
        lines.append("Training used one seed: another --seed or other classes may change the order.")
    return lines
