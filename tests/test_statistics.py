import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from bench.statistics import (
    PAIR_METRICS,
    Interval,
    best_threshold,
    closed_interval,
    crossed_seeds,
    over_seeds,
    pair_metrics,
    proportion_interval,
)

# Coverage of 2,000 simulated 95% intervals has a standard error of 0.5%: this is three of them.
NOMINAL = (0.935, 0.965)


def scored_pairs(n: int = 400, shift: float = 1.0, seed: int = 0, decimals: int | None = None):
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(n) % 4 == 0)  # unbalanced, so that weights matter
    scores = rng.normal(size=n) + shift * same
    return (scores if decimals is None else scores.round(decimals)), same


# closed_interval


def test_closed_interval_is_students():
    accuracies = np.random.default_rng(0).uniform(0.3, 0.9, size=50)
    interval = closed_interval(accuracies, level=0.9)
    low, high = stats.t.interval(0.9, 49, accuracies.mean(), stats.sem(accuracies))
    assert interval == pytest.approx((accuracies.mean(), low, high, 50))


def test_closed_interval_stays_between_0_and_1():
    assert closed_interval(np.array([1.0, 1.0, 0.9])).high == 1
    assert closed_interval(np.array([0.0, 0.0, 0.1])).low == 0


def test_one_episode_says_nothing_about_the_spread():
    assert closed_interval(np.array([0.6])) == Interval(0.6, 0, 1, 1)


@pytest.mark.parametrize("accuracies", [np.array([]), np.ones((2, 2))])
def test_closed_interval_wants_one_number_an_episode(accuracies):
    with pytest.raises(ValueError, match="one number an episode"):
        closed_interval(accuracies)


def test_closed_interval_covers_and_pooled_queries_do_not():
    # The 75 queries of an episode share its support set: a good one lifts them all.
    rng = np.random.default_rng(1)
    way_shot_luck = rng.beta(12, 8, size=(2000, 200))
    correct = rng.binomial(75, way_shot_luck)
    truth = 12 / 20

    intervals = [closed_interval(run / 75) for run in correct]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert NOMINAL[0] <= covered <= NOMINAL[1]

    pooled = [proportion_interval(int(run.sum()), 75 * 200) for run in correct]
    assert np.mean([i.low <= truth <= i.high for i in pooled]) < 0.7


# proportion_interval


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 10), (10, 10), (3, 10), (19_999, 20_000), (1, 1), (700, 1000)]
)
def test_proportion_interval_is_wilsons(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    interval = proportion_interval(successes, n)
    assert interval == pytest.approx((successes / n, expected.low, expected.high, n), abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_ties_may_count_a_half():
    below, half, above = (proportion_interval(s, 10) for s in (3, 3.5, 4))
    assert below.low < half.low < above.low and half.value == 0.35


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (float("nan"), 5)])
def test_impossible_proportions_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes"):
        proportion_interval(successes, n)


# crossed_seeds and over_seeds


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
    t = (t_seeds * from_seeds + t_episodes * from_episodes) / variance
    assert interval.half_width == pytest.approx(t * np.sqrt(variance))


def test_the_variance_of_crossed_seeds_is_unbiased():
    # So near the middle, t with 39 degrees of freedom is the normal quantile within 0.7%.
    rng = np.random.default_rng(2)
    level, t = 1e-6, stats.norm.ppf(0.5 + 0.5e-6)
    tables = crossed(rng, 2000, 40, 40, 0.02, 0.03, 0.2)
    halves = np.array([crossed_seeds(table, level).half_width for table in tables])
    truth = 0.02**2 / 40 + 0.03**2 / 40 + 0.2**2 / 1600
    assert np.mean((halves / t) ** 2) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.003, 0.01, 0.03])
def test_crossed_seeds_covers(seeds, seed_sd):
    tables = crossed(np.random.default_rng(3), 1000, seeds, 100, seed_sd, 0.09, 0.06)
    intervals = [crossed_seeds(table) for table in tables]
    covered = np.mean([i.low <= 0.6 <= i.high for i in intervals])
    # Where seeds and episodes both matter it is a little wide; it is never narrow.
    assert NOMINAL[0] <= covered <= 0.985
    if seed_sd == 0.03:
        assert covered <= NOMINAL[1]


def test_ignoring_the_seeds_does_not_cover():
    tables = crossed(np.random.default_rng(3), 1000, 5, 100, 0.03, 0.09, 0.06)
    intervals = [closed_interval(table.mean(axis=0)) for table in tables]
    assert np.mean([i.low <= 0.6 <= i.high for i in intervals]) < 0.8


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
    assert over_seeds([one, two]) == pytest.approx((0.6, 0.54, 0.66, 50))


def test_over_seeds_of_certain_runs_is_students_interval_over_the_seeds():
    values = np.array([0.5, 0.6, 0.55, 0.62])
    interval = over_seeds([Interval(v, v, v, 10) for v in values])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert interval[:3] == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize("seed_sd", [0.0, 0.01, 0.03])
def test_over_seeds_is_never_narrow(seed_sd):
    rng = np.random.default_rng(4)
    # All runs answer the same pairs: `shared` is the luck of the pairs, common to the seeds.
    shared, own = 0.01 * rng.normal(size=(2000, 1)), 0.005 * rng.normal(size=(2000, 3))
    values = 0.7 + seed_sd * rng.normal(size=(2000, 3)) + shared + own
    half = 1.96 * np.hypot(0.01, 0.005)
    intervals = [over_seeds([Interval(v, v - half, v + half, 9) for v in row]) for row in values]
    covered = np.mean([i.low <= 0.7 <= i.high for i in intervals])
    assert NOMINAL[0] <= covered <= 0.995


def test_over_seeds_wants_an_interval():
    with pytest.raises(ValueError, match="no intervals"):
        over_seeds([])


# pairs


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_pair_metrics_agree_with_scikit_learn(decimals):
    scores, same = scored_pairs(decimals=decimals)
    threshold = 0.4
    found = pair_metrics(scores, same, threshold, resamples=10)
    assert tuple(found) == PAIR_METRICS
    assert found["pair_accuracy"].value == pytest.approx(balanced_accuracy_score(same, scores >= threshold))
    assert found["pair_auc"].value == pytest.approx(roc_auc_score(same, scores))
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    for rate in (0.1, 0.01):
        assert found[f"pair_tar@{rate}"].value == pytest.approx(tar[far <= rate].max())
    # FAR - FRR is increasing along the curve; where it is 0 they are equal.
    assert found["pair_eer"].value == pytest.approx(np.interp(0, far + tar - 1, far))
    assert found["pair_accuracy_oracle"].value == pytest.approx(((tar + 1 - far) / 2).max())
    assert all(interval.n == len(scores) for interval in found.values())


@pytest.mark.parametrize("decimals", [None, 0])
def test_resampling_gives_what_resampled_pairs_give(decimals):
    # The counting shortcut against the slow way: the same resamples, each measured from scratch.
    scores, same = scored_pairs(60, decimals=decimals)
    fast = pair_metrics(scores, same, 0.4, resamples=50, seed=7)
    rng = np.random.default_rng(7)
    kinds = scores[same], scores[~same]
    picks = [rng.integers(0, len(kind), size=(50, len(kind)), dtype=np.int32) for kind in kinds]
    labels = np.repeat([True, False], [len(kinds[0]), len(kinds[1])])
    slow = []
    for rows in zip(*picks, strict=True):
        drawn = np.concatenate([kind[row] for kind, row in zip(kinds, rows, strict=True)])
        one = pair_metrics(drawn, labels, 0.4, resamples=1)
        slow.append([one[name].value for name in PAIR_METRICS])
    oracle = np.array(slow)[:, -1]
    lift = oracle.mean() - fast["pair_accuracy_oracle"].value
    low, high = np.quantile(np.c_[np.array(slow)[:, :-1], oracle - 2 * lift], [0.025, 0.975], axis=0)
    for i, name in enumerate(PAIR_METRICS):
        value = fast[name].value
        assert fast[name].low == pytest.approx(min(value, low[i]))
        assert fast[name].high == pytest.approx(max(value, high[i]))


def test_perfect_reversed_and_constant_scores():
    same = np.arange(100) % 2 == 0
    perfect = pair_metrics(same * 1.0, same, 0.5, resamples=20)
    assert [perfect[name].value for name in PAIR_METRICS] == [1, 1, 0, 1, 1, 1]
    reverse = pair_metrics(-1.0 * same, same, -0.5, resamples=20)
    assert [reverse[name].value for name in PAIR_METRICS] == [0, 0, 1, 0, 0, 0.5]
    constant = pair_metrics(np.zeros(100), same, 0.0, resamples=20)
    assert [constant[name].value for name in PAIR_METRICS] == [0.5, 0.5, 0.5, 0, 0, 0.5]
    assert all(i.low <= i.value <= i.high for found in (perfect, reverse, constant) for i in found.values())


@pytest.mark.parametrize("threshold", [-1e9, 1e9])
def test_a_threshold_beyond_all_scores_guesses(threshold):
    scores, same = scored_pairs()
    assert pair_metrics(scores, same, threshold, resamples=5)["pair_accuracy"].value == 0.5


def test_pair_metrics_depend_on_the_seed_alone():
    scores, same = scored_pairs(200)
    assert pair_metrics(scores, same, 0.4, 100, seed=1) == pair_metrics(scores, same, 0.4, 100, seed=1)
    assert pair_metrics(scores, same, 0.4, 100, seed=1) != pair_metrics(scores, same, 0.4, 100, seed=2)


def test_the_pair_bootstrap_covers():
    # Binormal scores: AUC = Phi(d / sqrt 2), EER = Phi(-d / 2), balanced accuracy at d / 2 = Phi(d / 2).
    rng = np.random.default_rng(5)
    shift, n, reps = 1.2, 300, 300
    same = np.arange(n) < n // 2
    truth = {
        "pair_auc": stats.norm.cdf(shift / np.sqrt(2)),
        "pair_eer": stats.norm.cdf(-shift / 2),
        "pair_accuracy": stats.norm.cdf(shift / 2),
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(reps):
        found = pair_metrics(rng.normal(size=n) + shift * same, same, shift / 2, resamples=200)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    # 300 repetitions: three standard errors are 3.8%; 200 resamples cost about half a percent.
    for name, hits in covered.items():
        assert 0.908 <= hits / reps <= 0.985, name


@pytest.mark.parametrize(
    ("scores", "same"),
    [
        ([0.1, np.nan], [True, False]),
        ([0.1, np.inf], [True, False]),
        ([0.1, 0.2], [True, True]),
        ([0.1, 0.2], [False, False]),
        ([], []),
        ([0.1, 0.2, 0.3], [True, False]),
        ([[0.1], [0.2]], [[True], [False]]),
    ],
)
def test_pairs_that_cannot_be_measured_are_refused(scores, same):
    with pytest.raises(ValueError):
        pair_metrics(np.array(scores), np.array(same, dtype=bool), 0.0)
    with pytest.raises(ValueError):
        best_threshold(np.array(scores), np.array(same, dtype=bool))


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("shift", [2.0, 0.0, -1.0])
def test_no_threshold_beats_the_best(decimals, shift):
    scores, same = scored_pairs(shift=shift, decimals=decimals)
    reached = balanced_accuracy_score(same, scores >= best_threshold(scores, same))
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    assert reached == pytest.approx(((tar + 1 - far) / 2).max())
    assert reached == pytest.approx(pair_metrics(scores, same, 0, 1)["pair_accuracy_oracle"].value)


def test_the_best_threshold_is_the_middle_of_the_widest_gap():
    assert best_threshold(np.array([0.0, 1.0]), np.array([False, True])) == 0.5
    # Cuts at 0.5 (gap 1) and 4.5 (gap 3) are equally good.
    scores, same = np.array([0.0, 1.0, 3.0, 6.0]), np.array([False, True, False, True])
    assert best_threshold(scores, same) == 4.5
    # Equally wide: the lower.
    assert best_threshold(np.array([0.0, 1.0, 2.0, 3.0]), same) == 0.5


def test_best_threshold_of_scores_that_tell_nothing():
    same = np.array([True, False, True, False])
    assert best_threshold(np.full(4, 0.7), same) == 0.7
    # Every cut is worse than a guess, so everything is called the same.
    assert best_threshold(np.array([0.0, 1.0]), np.array([True, False])) == 0.0


def test_best_threshold_separates_neighbouring_floats():
    low = np.float32(0.7)
    scores = np.array([low, np.nextafter(low, np.float32(1))])
    same = np.array([False, True])
    found = best_threshold(scores, same)
    assert pair_metrics(scores, same, found, resamples=1)["pair_accuracy"].value == 1
    doubles = np.array([0.7, np.nextafter(0.7, 1)])
    assert pair_metrics(doubles, same, best_threshold(doubles, same), 1)["pair_accuracy"].value == 1
