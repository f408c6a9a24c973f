"""95% intervals hold the truth 94 to 96.5% of the time where they claim to, and nowhere else."""

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


def named(rows):
    """The rows as cases; of rows that one simulation makes, all but the first are for `-m soak`."""
    cases, seen = [], set()
    for row in rows:
        kind = getattr(row.run, "func", row.run)
        marks = pytest.mark.soak if kind in seen and kind in OF_SLOW_ONES else ()
        cases.append(pytest.param(row, marks=marks, id=f"{row.population}: {row.formula}"))
        seen.add(kind)
    return pytest.mark.parametrize("row", cases)


def covered(row):
    found = coverage.measured(row, OF_SLOW_ONES.get(getattr(row.run, "func", row.run), REPETITIONS))
    return {name: interval.value for _, name, interval in found}


@pytest.mark.slow
@named([row for row in coverage.ROWS if row.valid])
def test_intervals_cover_what_they_claim(row):
    for name, share in covered(row).items():
        assert coverage.BAND[0] <= share <= coverage.BAND[1], name


@pytest.mark.slow
@named([row for row in coverage.ROWS if not row.valid])
def test_intervals_do_not_cover_what_they_say_nothing_of(row):
    assert all(share < 0.9 for share in covered(row).values())


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
