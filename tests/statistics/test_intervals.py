import numpy as np
import pytest
from scipy import stats

from bench.statistics import (
    Interval,
    balanced_interval,
    closed_interval,
    disjoint_episodes,
    open_interval,
    proportion_interval,
)


def test_closed_interval_is_students():
    accuracies = np.random.default_rng(0).uniform(0.3, 0.9, size=50)
    interval = closed_interval(accuracies, level=0.9)
    low, high = stats.t.interval(0.9, 49, accuracies.mean(), stats.sem(accuracies))
    assert interval[:4] == pytest.approx((accuracies.mean(), low, high, 50))


def test_closed_interval_stays_between_0_and_1():
    assert closed_interval(np.array([1.0, 1.0, 0.9])).high == 1
    assert closed_interval(np.array([0.0, 0.0, 0.1])).low == 0


def test_one_episode_says_nothing_about_the_spread():
    assert closed_interval(np.array([0.6])) == Interval(0.6, 0, 1, 1)


@pytest.mark.parametrize("accuracies", [np.array([]), np.ones((2, 2))])
def test_closed_interval_wants_one_number_an_episode(accuracies):
    with pytest.raises(ValueError, match="one number per episode"):
        closed_interval(accuracies)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 10), (10, 10), (3, 10), (19_999, 20_000), (1, 1), (700, 1000)]
)
def test_proportion_interval_is_wilsons(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    interval = proportion_interval(successes, n)
    assert interval[:4] == pytest.approx((successes / n, expected.low, expected.high, n), abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_ties_may_count_a_half():
    below, half, above = (proportion_interval(s, 10) for s in (3, 3.5, 4))
    assert below.low < half.low < above.low and half.value == 0.35


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (float("nan"), 5)])
def test_impossible_proportions_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes"):
        proportion_interval(successes, n)


def test_open_interval_is_the_closed_one_of_disjoint_episodes():
    accuracies = np.array([0.5, 0.6, 0.9])
    assert open_interval(accuracies, np.arange(12).reshape(3, 4)) == closed_interval(accuracies)
    with pytest.raises(ValueError, match="more than one episode"):
        open_interval(accuracies, np.array([[0, 1], [2, 3], [4, 0]]))
    with pytest.raises(ValueError, match="images of 2 episodes"):
        open_interval(accuracies, np.arange(4).reshape(2, 2))


def test_disjoint_episodes_are_those_that_a_set_finds():
    images = np.random.default_rng(0).integers(0, 400, size=(300, 12))
    used, expected = set(), []
    for position, own in enumerate(images.tolist()):
        if not used & set(own):
            used |= set(own)
            expected.append(position)
    assert disjoint_episodes(images).tolist() == expected
    assert 5 < len(expected) < 40
    assert disjoint_episodes(np.zeros((0, 5), dtype=int)).tolist() == []


def test_balanced_interval_weighs_both_kinds_alike():
    same, different = np.arange(50) < 40, np.arange(1000) < 500
    found = balanced_interval(same, different)
    assert (found.value, found.n) == (0.65, 1050)
    ends = [stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((40, 50), (500, 1000))]
    assert found.low == pytest.approx(0.65 - np.hypot(0.8 - ends[0].low, 0.5 - ends[1].low) / 2)
    assert found.high == pytest.approx(0.65 + np.hypot(ends[0].high - 0.8, ends[1].high - 0.5) / 2)
    assert balanced_interval(np.ones(3, bool), np.ones(4, bool)).high == 1
