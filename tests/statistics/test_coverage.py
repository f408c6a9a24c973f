"""95% intervals hold the truth 94 to 96.5% of the time where they claim to (by default a rougher band)."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage, simulations

REPETITIONS = 5_000
OF_SLOW_ONES = {
    simulations.pairs: 1000,
    simulations.pairs_of_new_classes: 1000,
    simulations.triplets_of_new_classes: 1000,
    simulations.new_classes: 2000,
    simulations.difference_on_new_classes: 2000,
    simulations.fresh_images: 2000,
    simulations.paired: 4000,
    simulations.paired_seeds: 2000,
}


CUT = 5
"""Into how many parts the repetitions are cut; `-m soak` makes all of them."""


STATED = {
    ("these images", "all queries pooled (naive)"): "as some tables do, cover 64%.",
    ("fresh images", "closed interval"): "covers 86% for fresh images,",
    ("new classes", "closed interval"): "13% for new classes,",
    ("training again", "closed interval, 5 seeds, 2 points apart"): "and 84% for retraining.",
    ("new classes", "paired interval over episodes"): "the difference on new classes 22% of the time.",
}
"""Population and formula -> what docs/statistics.md says of an interval that is asked something else."""


def stated(sentence):
    """The share in a sentence of docs/statistics.md."""
    page = Path(__file__).parents[2] / "docs" / "statistics.md"
    assert sentence in " ".join(page.read_text(encoding="utf-8").split())
    return pytest.approx(int(re.search(r"(\d+)%", sentence)[1]) / 100, abs=0.03)


def named(rows):
    """Cases of a row and its repetitions; of slow rows of one simulation, all but the first are for soak."""
    cases, seen = [], set()
    for row in rows:
        kind, name = getattr(row.run, "func", row.run), f"{row.population}: {row.formula}"
        repetitions = OF_SLOW_ONES.get(kind, REPETITIONS)
        if kind not in seen or kind not in OF_SLOW_ONES:
            cases.append(pytest.param(row, repetitions // CUT, id=name))
        cases.append(pytest.param(row, repetitions, marks=pytest.mark.soak, id=f"{name}, all repetitions"))
        seen.add(kind)
    return pytest.mark.parametrize("row, repetitions", cases)


def covered(row, repetitions):
    return {name: interval.value for _, name, interval in coverage.measured(row, repetitions)}


@pytest.mark.slow
@named([row for row in coverage.ROWS if row.valid])
def test_intervals_cover_what_they_claim(row, repetitions):
    """Fewer repetitions get a band as much wider as chance then moves the share more."""
    all_of_them = OF_SLOW_ONES.get(getattr(row.run, "func", row.run), REPETITIONS)
    low, high = coverage.BAND
    middle, half_width = (low + high) / 2, (high - low) / 2 * (all_of_them / repetitions) ** 0.5
    for name, share in covered(row, repetitions).items():
        assert share == pytest.approx(middle, abs=half_width), name


@pytest.mark.slow
@named([row for row in coverage.ROWS if not row.valid])
def test_intervals_do_not_cover_what_they_say_nothing_of(row, repetitions):
    (share,) = covered(row, repetitions).values()
    assert share < 0.9
    if sentence := STATED.get((row.population, row.formula)):
        assert share == stated(sentence)


@pytest.mark.slow
def test_skewed_classes_are_covered_less():
    run = partial(simulations.new_classes, classes=10, skewed=True)
    row = coverage.Row(coverage.CLASSES, "jackknife, 10 skewed classes", run)
    (share,) = covered(row, 2000).values()
    assert share == stated("the jackknife with 10 classes covers 91%;")


def test_every_stated_share_is_simulated():
    assert STATED.keys() <= {(row.population, row.formula) for row in coverage.ROWS if not row.valid}


def test_the_simulated_images_have_the_truth_they_say():
    correct, truth = simulations.episodes_of_these_images(np.random.default_rng(0), 200, 200)
    assert (correct / 75).mean() == pytest.approx(truth, abs=4 * (correct / 75).std() / 200)


def test_the_simulated_scores_have_the_metrics_they_say():
    rng = np.random.default_rng(0)
    same, different = 1 + 0.7 * rng.normal(size=10**6), 0.4 * rng.normal(size=10**6)
    at_far = np.quantile(different, 0.9)
    grid = np.linspace(-1, 2, 3001)
    crossing = np.abs(
        np.searchsorted(np.sort(same), grid) - (10**6 - np.searchsorted(np.sort(different), grid))
    )
    expected = [
        ((same >= 0.5).mean() + (different < 0.5).mean()) / 2,
        (same > different).mean(),
        (same < grid[crossing.argmin()]).mean(),
        (same > at_far).mean(),
    ]
    np.testing.assert_allclose(simulations.true_metrics(0.7, 0.4), expected, atol=2e-3)


def test_the_picture_is_drawn(tmp_path):
    found = [one for row in coverage.ROWS[:2] for one in coverage.measured(row, 20)]
    coverage.draw(found, 20, tmp_path / "coverage.png")
    assert (tmp_path / "coverage.png").read_bytes().startswith(b"\x89PNG")
