import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from bench.statistics import PAIR_METRICS, best_threshold, pair_metrics


def scored_pairs(n: int = 400, shift: float = 1.0, seed: int = 0, decimals: int | None = None):
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(n) % 4 == 0)  # unbalanced, so that weights matter
    scores = rng.normal(size=n) + shift * same
    return (scores if decimals is None else scores.round(decimals)), same


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
