import itertools

import numpy as np
import pytest
from scipy import stats

from bench.statistics import (
    class_difference,
    class_differences,
    class_jackknife,
    pair_metrics,
    pairs_over_classes,
    triplets_over_classes,
)


def episodes(count: int, classes: int = 7, way: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.8, count), rng.random((count, classes)).argsort(axis=1)[:, :way]


def pairs(count: int = 300, classes: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, classes, count)
    second = np.where(np.arange(count) % 2 == 0, first, (first + rng.integers(1, classes, count)) % classes)
    return (rng.normal(size=count) + (first == second)).round(1), first, second


# class_jackknife


def test_jackknife_by_hand():
    """Delete each class by a loop, and take off what the random choice of episodes does to the sum."""
    accuracies, classes = episodes(60)
    without, noise = [], 0.0
    for c in range(7):
        inside = (classes == c).any(axis=1)
        without.append(accuracies[~inside].mean())
        parts = [accuracies[own].var(ddof=1) / own.sum() for own in (inside, ~inside)]
        noise += inside.mean() ** 2 * sum(parts)
    squares = ((without - np.mean(without)) ** 2).sum()
    variance = 6 / 7 * max(0, squares - noise) + accuracies.var(ddof=1) / 60
    found = class_jackknife(accuracies, classes)
    assert (found.value, found.n) == (pytest.approx(accuracies.mean()), 7)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 6) * np.sqrt(variance))


def test_of_every_episode_once_it_is_students_interval_over_the_classes():
    """Where an episode's accuracy is the mean of its classes', so the error is that of their mean."""
    own = np.array([0.3, 0.5, 0.6, 0.65, 0.9, 0.45])
    classes = np.tile(list(itertools.combinations(range(6), 3)), (2000, 1))
    found = class_jackknife(own[classes].mean(axis=1), classes)
    assert found.value == pytest.approx(own.mean())
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 5) * stats.sem(own), rel=1e-3)


def test_names_of_classes_do_not_matter():
    accuracies, classes = episodes(80)
    assert class_jackknife(accuracies, classes) == class_jackknife(accuracies, 10 * classes[:, ::-1] + 5)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_class_that_is_hardly_ever_missing_cannot_be_deleted(missing):
    accuracies, classes = episodes(8, classes=4, way=3)
    classes[:] = [0, 1, 2]
    classes[4:] = [0, 1, 3]
    classes[:missing] = [1, 2, 3]
    with pytest.raises(ValueError, match="missing from two"):
        class_jackknife(accuracies, classes)


def test_episodes_and_classes_must_belong_together():
    accuracies, classes = episodes(20)
    with pytest.raises(ValueError, match="equal lengths"):
        class_jackknife(accuracies[1:], classes)


# Differences


def test_difference_by_hand():
    """Drop each class and take the difference of the two models again, one class at a time."""
    rng = np.random.default_rng(4)
    first, classes = episodes(90)
    second = np.clip(first - 0.1 * rng.random(90), 0, 1)
    without, noise = [], 0.0
    for c in range(7):
        inside = np.array([c in own for own in classes])
        without.append(first[~inside].mean() - second[~inside].mean())
        parts = [(first - second)[own].var(ddof=1) / own.sum() for own in (inside, ~inside)]
        noise += inside.mean() ** 2 * sum(parts)
    squares = sum((one - np.mean(without)) ** 2 for one in without)
    variance = 6 / 7 * max(0, squares - noise) + (first - second).var(ddof=1) / 90
    half = stats.t.ppf(0.975, 6) * np.sqrt(variance)
    found = class_difference(first, second, classes)
    value = first.mean() - second.mean()
    assert found[:4] == pytest.approx((value, value - half, value + half, 7))


def test_what_both_models_find_hard_drops_out():
    hard = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    classes = np.tile(list(itertools.combinations(range(6), 3)), (50, 1))
    common = hard[classes].mean(axis=1)
    found = class_difference(common + 0.05, common, classes)
    assert found[:3] == pytest.approx((0.05, 0.05, 0.05))
    assert class_jackknife(common, classes).half_width > 0.2


def test_every_two_of_several_models_on_the_episodes_that_both_answered():
    rng = np.random.default_rng(5)
    classes = episodes(120)[1]
    models = [rng.random(count) for count in (120, 60, 120, 60)]
    values, halves = class_differences(models, classes)
    for i, j in itertools.permutations(range(4), 2):
        shared = min(len(models[i]), len(models[j]))
        one = class_difference(models[i][:shared], models[j][:shared], classes[:shared])
        assert (values[i, j], halves[i, j]) == pytest.approx((one.value, one.half_width))
    assert not values.diagonal().any() and not halves.diagonal().any()


def test_differences_need_one_list_of_episodes():
    accuracies, classes = episodes(20)
    with pytest.raises(ValueError, match="must be equal"):
        class_difference(accuracies, accuracies[1:], classes)
    with pytest.raises(ValueError, match="equal lengths"):
        class_differences([accuracies, accuracies], classes[1:])


# Bootstrap over classes


def by_repetition(scores, first, second, threshold, times):
    """Metrics of pairs repeated as often as their classes were drawn, one by one."""
    rows = [
        i
        for i, (a, b) in enumerate(zip(first, second, strict=True))
        for _ in range(times[a] * (times[b] if a != b else 1))
    ]
    found = pair_metrics(scores[rows], (first == second)[rows], threshold, resamples=1)
    return {name: interval.value for name, interval in found.items()}


def test_class_bootstrap_is_that_of_repeated_pairs():
    scores, first, second = pairs()
    found = pairs_over_classes(scores, first, second, 0.45, resamples=40, seed=3)
    drawn = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=40)
    slow = [by_repetition(scores, first, second, 0.45, times) for times in drawn]
    point = pair_metrics(scores, first == second, 0.45, resamples=1)
    assert set(found) == set(point) - {"pair_accuracy_oracle"}
    for name, interval in found.items():
        odds = np.array([(300 * one[name] + 0.5) / (300 * (1 - one[name]) + 0.5) for one in slow])
        half = stats.t.ppf(0.975, 5) * np.sqrt(6 / 5) * np.log(odds).std()
        value = point[name].value
        middle = np.log((300 * value + 0.5) / (300 * (1 - value) + 0.5))
        assert interval.value == value and interval.n == 6
        assert interval.low == pytest.approx(1 / (1 + np.exp(half - middle)))
        assert interval.high == pytest.approx(1 / (1 + np.exp(-half - middle)))


def test_class_bootstrap_of_triplets_is_that_of_repeated_triplets():
    rng = np.random.default_rng(1)
    anchor = rng.integers(0, 5, 200)
    negative = (anchor + rng.integers(1, 5, 200)) % 5
    won = rng.choice([0, 0.5, 1], size=200)
    found = triplets_over_classes(won, anchor, negative, resamples=30, seed=2)
    drawn = np.random.default_rng(2).multinomial(5, np.full(5, 1 / 5), size=30)
    odds = []
    for times in drawn:
        share = np.repeat(won, times[anchor] * times[negative]).mean()
        odds.append((200 * share + 0.5) / (200 * (1 - share) + 0.5))
    half = stats.t.ppf(0.975, 4) * np.sqrt(5 / 4) * np.log(odds).std()
    middle = np.log((won.sum() + 0.5) / (200 - won.sum() + 0.5))
    assert found.value == pytest.approx(won.mean()) and found.n == 5
    assert found.low == pytest.approx(1 / (1 + np.exp(half - middle)))


def test_resamples_without_pairs_of_a_kind_are_dropped():
    scores, first, second = pairs(classes=3)  # one class three times: 1 resample in 9
    found = pairs_over_classes(scores, first, second, 0.45, resamples=200)
    assert all(np.isfinite(i[:4]).all() and 0 <= i.low <= i.high <= 1 for i in found.values())


def test_perfect_pairs_stay_perfect():
    _, first, second = pairs()
    found = pairs_over_classes((first == second) * 1.0, first, second, 0.5, resamples=50)
    assert found["pair_auc"][:3] == (1, pytest.approx(1, abs=0.01), 1) and found["pair_eer"].low == 0
    assert triplets_over_classes(np.ones(300), first, (first + 1) % 6, resamples=50).high == 1


def test_too_few_classes():
    scores, first, second = pairs(classes=2)
    with pytest.raises(ValueError, match="2 classes"):
        pairs_over_classes(scores, first, second, 0.5)
    with pytest.raises(ValueError, match="2 classes"):
        triplets_over_classes(scores > 0, first, 1 - first)


def test_the_same_seed_gives_the_same_interval():
    data = pairs()
    assert pairs_over_classes(*data, 0.45, 50, seed=1) == pairs_over_classes(*data, 0.45, 50, seed=1)
    assert pairs_over_classes(*data, 0.45, 50, seed=1) != pairs_over_classes(*data, 0.45, 50, seed=2)
