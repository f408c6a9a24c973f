import numpy as np
import pytest
from scipy import stats

from bench.statistics import Interval, crossed_seeds, over_seeds
from bench.statistics.student import half_width, p_value
from benchmarks import simulations


def crossed(rng, reps, seeds, episodes, seed_sd, episode_sd, rest_sd):
    """Two-way tables ``[reps, R, T]`` around 0.6."""
    return (
        0.6
        + seed_sd * rng.normal(size=(reps, seeds, 1))
        + episode_sd * rng.normal(size=(reps, 1, episodes))
        + rest_sd * rng.normal(size=(reps, seeds, episodes))
    )


def test_crossed_seeds_has_the_standard_error_of_the_analysis_of_variance():
    table = crossed(np.random.default_rng(0), 1, 4, 30, 0.02, 0.09, 0.06)[0]
    seeds, episodes = table.shape
    by_seed, by_episode = table.mean(axis=1), table.mean(axis=0)
    residual = sum(
        (table[r, t] - by_seed[r] - by_episode[t] + table.mean()) ** 2
        for r in range(seeds)
        for t in range(episodes)
    ) / ((seeds - 1) * (episodes - 1))
    from_seeds = by_seed.var(ddof=1) / seeds
    from_episodes = by_episode.var(ddof=1) / episodes - residual / (seeds * episodes)
    variance = from_seeds + from_episodes

    interval = crossed_seeds(table)
    assert interval.value == pytest.approx(table.mean())
    assert interval.n == episodes
    t_seeds, t_episodes = stats.t.ppf(0.975, [seeds - 1, episodes - 1])
    share = (from_seeds / variance) ** (1 + 1.2 * t_episodes / t_seeds)
    t = t_episodes + (t_seeds - t_episodes) * share
    assert interval.half_width == pytest.approx(t * np.sqrt(variance))


def test_the_variance_of_crossed_seeds_is_unbiased():
    # So near the middle, t with 39 degrees of freedom is the normal quantile within 0.7%.
    rng = np.random.default_rng(2)
    level, t = 1e-6, stats.norm.ppf(0.5 + 0.5e-6)
    tables = crossed(rng, 2000, 40, 40, 0.02, 0.03, 0.2)
    halves = np.array([crossed_seeds(table, level).half_width for table in tables])
    truth = 0.02**2 / 40 + 0.03**2 / 40 + 0.2**2 / 1600
    assert np.mean((halves / t) ** 2) == pytest.approx(truth, rel=0.03)


def test_a_negative_episode_variance_counts_as_none():
    # Seeds disagree about every episode, so the episode means are all alike.
    table = 0.5 + 0.1 * np.array([[1, -1, 1, -1], [-1, 1, -1, 1]])
    assert crossed_seeds(table) == Interval(0.5, 0.5, 0.5, 4)
    assert crossed_seeds(np.full((3, 4), 0.25)) == Interval(0.25, 0.25, 0.25, 4)


@pytest.mark.parametrize("shape", [(1, 10), (3, 1), (5,), (0, 0)])
def test_crossed_seeds_wants_a_table(shape):
    with pytest.raises(ValueError, match="2 or more"):
        crossed_seeds(np.zeros(shape))


def test_two_runs_keep_the_width_of_their_own_intervals():
    one, two = Interval(0.5, 0.4, 0.6, 100), Interval(0.7, 0.68, 0.72, 50)
    assert over_seeds([one]) == pytest.approx(one)
    assert over_seeds([one, two])[:4] == pytest.approx((0.6, 0.54, 0.66, 50))


def test_over_seeds_of_certain_runs_is_students_interval_over_the_seeds():
    values = np.array([0.5, 0.6, 0.55, 0.62])
    interval = over_seeds([Interval(v, v, v, 10) for v in values])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert interval[:3] == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize("seed_sd", [0.0, 0.01, 0.03])
def test_over_seeds_is_never_narrow(seed_sd):
    covered = simulations.from_intervals(np.random.default_rng(4), 2000, seed_sd).mean()
    assert 0.94 <= covered <= 0.985


def test_over_seeds_wants_an_interval():
    with pytest.raises(ValueError, match="no intervals"):
        over_seeds([])


@pytest.mark.parametrize(
    ("df", "low", "high"), [(2, 0.9415, 0.9595), (4, 0.9465, 0.9525), (9, 0.9485, 0.9505)]
)
def test_t_of_two_variances_covers_at_any_share(df, low, high):
    """By quadrature over the first variance, with the second known."""
    middles = (np.arange(1000) + 0.5) / 1000
    drawn = stats.chi2.ppf(middles, df) / df
    covered = []
    for share in np.linspace(0, 1, 11):
        halves = [half_width(share * s, df, 1 - share, np.inf, 0.95) for s in drawn]
        covered.append(np.mean(2 * stats.norm.cdf(halves) - 1))
    assert low <= min(covered) and max(covered) <= high


def test_with_one_variance_it_is_students_test():
    assert half_width(4.0, 7, 0.0, np.inf, 0.9) == pytest.approx(2 * stats.t.ppf(0.95, 7))
    assert half_width(0.0, 2, 4.0, 7, 0.9) == pytest.approx(2 * stats.t.ppf(0.95, 7))
    assert p_value(3.0, 4.0, 7, 0.0, np.inf) == pytest.approx(2 * stats.t.sf(1.5, 7))
    assert p_value(-3.0, 0.0, 2, 4.0, 7) == pytest.approx(2 * stats.t.sf(1.5, 7), rel=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_p_is_the_level_at_which_the_interval_ends_at_zero(level):
    parts = (0.3, 2, 0.7, 99)
    assert p_value(half_width(*parts, level), *parts) == pytest.approx(1 - level, rel=1e-6)


def test_p_of_nothing_and_of_certainty():
    assert p_value(0.0, 0.3, 2, 0.7, 99) == pytest.approx(1)
    assert p_value(0.0, 0.0, 2, 0.0, 99) == 1 and p_value(0.1, 0.0, 2, 0.0, 99) == 0
    assert p_value(1e9, 0.3, 50, 0.7, 99) == pytest.approx(1e-16)
