import numpy as np
import pytest
from scipy import stats

from bench.statistics import (
    Comparison,
    Difference,
    RankRange,
    compare_all,
    crossed_seeds,
    holm,
    paired_difference,
    rank_ranges,
    seeds_needed,
    significantly_better,
)
from benchmarks import simulations


def methods(rng, means, episodes: int = 50, noise: float = 0.05) -> dict[str, np.ndarray]:
    """One model of each method on the same episodes."""
    common = 0.08 * rng.normal(size=episodes)
    return {name: mean + common + noise * rng.normal(size=episodes) for name, mean in means.items()}


# paired_difference


def test_one_seed_each_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.3, 0.8, size=(2, 40))
    found = paired_difference(a, b, level=0.9)
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.9)
    assert found[:4] == pytest.approx((a.mean() - b.mean(), low, high, expected.pvalue))
    assert found[4:] == (40, (1, 1), False, False)
    assert found.half_width == pytest.approx((high - low) / 2)


def test_fewer_than_three_seeds_of_either_are_averaged():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.3, 0.8, size=(2, 40)), rng.uniform(0.3, 0.8, size=(5, 40))
    found = paired_difference(a, b)
    assert found.p == pytest.approx(stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).pvalue)
    assert (found.seeds, found.over_training) == ((2, 5), False)


def test_where_episodes_say_nothing_it_is_a_t_test_over_seeds():
    """The same seed means, spread over episodes that are all alike: three or more seeds each."""
    a, b = np.array([0.5, 0.56, 0.61, 0.52]), np.array([0.45, 0.55, 0.48, 0.47])
    found = paired_difference(np.tile(a[:, None], 20), np.tile(b[:, None], 20))
    parts = a.var(ddof=1) / 4, b.var(ddof=1) / 4
    df = min(6, sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 4) - 1)
    half = stats.t.ppf(0.975, df) * np.sqrt(sum(parts))
    assert found[:3] == pytest.approx(
        (a.mean() - b.mean(), a.mean() - b.mean() - half, a.mean() - b.mean() + half)
    )
    assert found.p == pytest.approx(2 * stats.t.sf((a.mean() - b.mean()) / np.sqrt(sum(parts)), df))
    assert found.over_training
    # The degrees of freedom lie between Satterthwaite's, which scipy has, and those of equal variances.
    assert stats.ttest_ind(a, b, equal_var=False).df <= df <= 6


def test_of_a_method_without_seeds_or_episodes_against_itself_nothing_is_left():
    a = np.random.default_rng(0).uniform(size=(3, 30))
    found = paired_difference(a, a)
    # The episodes' part is 0 here; the seeds of the two are taken for independent.
    assert found.value == 0 and found.p == pytest.approx(1)


def test_answers_of_the_same_networks_are_compared_network_by_network():
    """What the networks share cancels: the interval is that of one table of differences."""
    rng = np.random.default_rng(2)
    shared = 0.05 * rng.normal(size=(3, 1))
    ours, theirs = (table + shared for table in simulations.tables(rng, 2, 3, 0.002))
    found, alone = paired_difference(ours, theirs, paired_seeds=True), crossed_seeds(ours - theirs + 0.5)
    assert found[:3] == pytest.approx((alone.value - 0.5, alone.low - 0.5, alone.high - 0.5))
    assert found.half_width < paired_difference(ours, theirs).half_width
    needed = [seeds_needed(ours, theirs, 0.04, paired_seeds=paired) for paired in (True, False)]
    assert needed[0] < needed[1]
    with pytest.raises(ValueError, match="paired"):
        paired_difference(ours, theirs[:2], paired_seeds=True)


def test_seeds_are_paired_where_the_networks_are_the_same():
    rng = np.random.default_rng(3)
    tables = dict(zip("abc", simulations.tables(rng, 3, 3, 0.02), strict=True))
    networks = {"a": ["x", "y", "z"], "b": ["x", "y", "z"], "c": ["z", "x", "y"]}
    for one in compare_all(tables, networks=networks):
        paired = {one.first, one.second} == {"a", "b"}
        expected = paired_difference(tables[one.first], tables[one.second], paired_seeds=paired)
        assert one.difference == expected and expected.paired_seeds == paired
    unknown = {name: [None] * 3 for name in tables}
    assert not any(one.difference.paired_seeds for one in compare_all(tables, networks=unknown))


def test_seeds_and_episodes_add_up():
    """Against a perfect method with neither spread, the difference is as uncertain as the method."""
    table = simulations.tables(np.random.default_rng(1), 1, 4, 0.02)[0]
    exact = np.full((4, table.shape[1]), 0.5)
    ours = paired_difference(table, exact)
    alone = crossed_seeds(table)
    assert ours.value == pytest.approx(alone.value - 0.5)
    assert ours.half_width == pytest.approx(alone.half_width, rel=1e-6)


def test_the_test_and_the_interval_agree():
    for table, other in zip(
        *simulations.tables(np.random.default_rng(1), 2, 60, 0.02).reshape(2, 20, 3, 100), strict=True
    ):
        found = paired_difference(table, other)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_swapping_the_methods_turns_the_difference_round():
    a, b = simulations.tables(np.random.default_rng(1), 2, 3, 0.02)
    one, two = paired_difference(a, b), paired_difference(b, a)
    assert one[:4] == pytest.approx((-two.value, -two.high, -two.low, two.p))


@pytest.mark.parametrize("shapes", [((40,), (41,)), ((1,), (1,)), ((3, 40), (3, 39)), ((2, 3, 4), (3, 4))])
def test_episodes_must_be_identical(shapes):
    with pytest.raises(ValueError, match="identical episodes"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))


# Holm's correction


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []
    assert holm([0.2]) == [0.2]


def test_holm_rejects_what_its_steps_reject():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.uniform(0, 0.03, 8)
        rejected = set()
        for step, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (8 - step):
                break
            rejected.add(int(index))
        assert {i for i, adjusted in enumerate(holm(p.tolist())) if adjusted <= 0.05} == rejected


@pytest.mark.slow
@pytest.mark.parametrize(
    "repetitions, low, high", [(600, 0.015, 0.07), pytest.param(2000, 0.02, 0.06, marks=pytest.mark.soak)]
)
def test_holm_keeps_the_family_wise_error(repetitions, low, high):
    """Three equal methods and two better ones: two equal ones hardly ever differ significantly."""
    rng = np.random.default_rng(0)
    means = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.6, "e": 0.6}
    false, uncorrected, shown = 0, 0, 0
    for _ in range(repetitions):
        comparisons = compare_all(methods(rng, means))
        equal = [c for c in comparisons if means[c.first] == means[c.second]]
        false += any(c.p <= 0.05 for c in equal)
        uncorrected += any(c.difference.p <= 0.05 for c in equal)
        shown += all(c.p <= 0.05 for c in comparisons if c not in equal)
    assert low <= false / repetitions <= high
    assert uncorrected / repetitions > 0.1
    assert shown / repetitions > 0.9


def test_a_shorter_list_is_compared_on_its_episodes():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(3, 30)), rng.uniform(size=(3, 20))
    [found] = compare_all({"a": a, "b": b})
    assert found.difference == paired_difference(a[:, :20], b)
    assert found.difference.episodes == 20 and found.p == found.difference.p


# Ranks


def compared(first: str, second: str, value: float, p: float) -> Comparison:
    return Comparison(first, second, Difference(value, -1, 1, p, 10, (1, 1), False), p)


def ranks_of(comparisons, names) -> dict[str, RankRange]:
    return dict(zip(names, rank_ranges(significantly_better(names, comparisons)), strict=True))


def test_rank_ranges_count_who_is_better_and_who_is_worse():
    comparisons = [
        compared("a", "b", 0.01, 0.4), compared("a", "c", 0.1, 0.01), compared("a", "d", 0.2, 0.001),
        compared("c", "b", -0.05, 0.2), compared("d", "b", -0.15, 0.05), compared("c", "d", 0.1, 0.06),
    ]  # fmt: skip
    ranks = ranks_of(comparisons, ["a", "b", "c", "d"])
    assert {name: str(rank) for name, rank in ranks.items()} == {
        "a": "1–2",
        "b": "1–3",
        "c": "2–4",
        "d": "3–4",
    }
    [alone] = rank_ranges(significantly_better(["a"], []))
    assert alone == (1, 1) and str(alone) == "1"


def test_true_ranks_lie_in_their_ranges():
    rng = np.random.default_rng(1)
    means = {"a": 0.60, "b": 0.62, "c": 0.62, "d": 0.65}
    true = {"d": (1, 1), "b": (2, 3), "c": (2, 3), "a": (4, 4)}
    wrong = 0
    for _ in range(400):
        ranks = ranks_of(compare_all(methods(rng, means)), list(means))
        wrong += any(not (r.first <= true[m][0] and true[m][1] <= r.last) for m, r in ranks.items())
    assert wrong / 400 <= 0.06


def test_a_constant_lead_is_significant_and_no_difference_never_is():
    a, b = np.full((3, 30), 0.5), np.full((3, 30), 0.25)
    found = significantly_better(["a", "b", "c"], compare_all({"a": a, "b": b, "c": b}))
    assert np.argwhere(found).tolist() == [[0, 1], [0, 2]]


# seeds_needed


def test_seeds_needed_show_the_effect_four_times_in_five():
    rng = np.random.default_rng(0)
    seeds = seeds_needed(*simulations.tables(rng, 2, 400, 0.012, episodes=1000), effect=0.02)
    assert 5 < seeds < 15
    ours, theirs = (simulations.tables(rng, 500, seeds, 0.012, episodes=1000) for _ in range(2))
    shown = [paired_difference(a + 0.02, b).p < 0.05 for a, b in zip(ours, theirs, strict=True)]
    assert 0.74 <= np.mean(shown) <= 0.86


def test_more_seeds_for_smaller_effects_and_none_where_episodes_are_too_few():
    a, b = simulations.tables(np.random.default_rng(0), 2, 5, 0.01, episodes=5000)
    needed = [seeds_needed(a, b, effect) for effect in (0.1, 0.02, 0.01)]
    assert needed[0] == 3 and needed == sorted(needed) and needed[2] > needed[1]
    few = simulations.tables(np.random.default_rng(0), 2, 5, 0.01, episodes=50)
    assert seeds_needed(*few, effect=0.01) is None
    with pytest.raises(ValueError, match="3 seeds"):
        seeds_needed(a[:2], b)
