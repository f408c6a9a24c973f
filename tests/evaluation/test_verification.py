"""Pairs and triplets against slow loops."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from bench.evaluation import verification
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.sampling.pairs import draw_pairs, draw_triplets
from methods.method import Method

SIZES = [12, 7, 30, 5, 16]
COUNT = 600


class Similar(Method):
    """Similarity as a function of two batches of embeddings."""

    def __init__(self, similarity) -> None:
        super().__init__(nn.Identity(), self.Hyperparameters(), 2)
        self.function = similarity

    def similarity(self, a, b):
        return self.function(a, b)


@pytest.fixture(scope="module")
def pool() -> ClassPool:
    return ClassPool(np.repeat(np.arange(5), SIZES))


@pytest.fixture(scope="module")
def embeddings() -> torch.Tensor:
    """Whole numbers, so that ties happen and every sum is exact."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.integers(-3, 4, (5, 3)), SIZES, axis=0)
    return torch.from_numpy(centres + rng.integers(-2, 3, centres.shape)).float()


@pytest.fixture(scope="module")
def method() -> Method:
    return Similar(lambda a, b: -(a - b).abs().sum(dim=1)).eval()


def slow(embeddings: torch.Tensor, i: int, j: int) -> float:
    pairs = zip(embeddings[i].tolist(), embeddings[j].tolist(), strict=True)
    return -sum(abs(x - y) for x, y in pairs)


def rate(answers: list[bool]) -> float:
    return sum(answers) / len(answers)


def balanced(scores: list[float], same: list[bool], threshold: float) -> float:
    accepted = rate([s >= threshold for s, one in zip(scores, same, strict=True) if one])
    rejected = rate([s < threshold for s, one in zip(scores, same, strict=True) if not one])
    return (accepted + rejected) / 2


def test_scores_of_every_pair_in_order(method, embeddings, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, sum(SIZES), (2, 50))
    expected = [slow(embeddings, i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    for at_once in (1, 7, 20_000):
        monkeypatch.setattr(verification, "ROWS_AT_ONCE", at_once)
        found = verification.scores(method, embeddings, a, b)
        assert found.dtype == np.float64 and found.tolist() == expected


def test_the_threshold_is_the_best_there_is(method, pool, embeddings):
    found = verification.threshold(method, embeddings, pool, "validation", COUNT)
    a, b, same = draw_pairs(pool, "validation/pairs", COUNT)
    scores = [slow(embeddings, i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    best = max(balanced(scores, same.tolist(), cut) for cut in [*set(scores), 1.0])
    assert balanced(scores, same.tolist(), found) == pytest.approx(best)
    assert best > 0.6


def test_metrics_equal_a_slow_loop(method, pool, embeddings):
    threshold = -5.5
    score = partial(verification.scores, method, embeddings)
    metrics, per_class, *_ = verification.verified(score, pool, "novel", threshold, COUNT)
    owner = np.repeat(np.arange(5), SIZES).tolist()
    a, b, same = (array.tolist() for array in draw_pairs(pool, "novel/pairs", COUNT))
    scores = [slow(embeddings, i, j) for i, j in zip(a, b, strict=True)]
    assert metrics["pair_accuracy"].value == pytest.approx(balanced(scores, same, threshold))
    assert metrics["pair_auc"].value == pytest.approx(roc_auc_score(same, scores))
    best = max(balanced(scores, same, cut) for cut in [*set(scores), 1.0])
    assert metrics["pair_accuracy_oracle"].value == pytest.approx(best)

    triplets = list(
        zip(*(array.tolist() for array in draw_triplets(pool, "novel/triplets", COUNT)), strict=True)
    )
    won = []
    for anchor, positive, negative in triplets:
        near, far = slow(embeddings, anchor, positive), slow(embeddings, anchor, negative)
        won.append(1.0 if near > far else 0.5 if near == far else 0.0)
    assert 0.5 in won
    assert metrics["triplet_accuracy"].value == pytest.approx(sum(won) / COUNT)
    assert metrics["triplet_accuracy"].n == metrics["pair_accuracy"].n == COUNT

    assert list(per_class) == list(range(5))
    for c in range(5):
        ours = [i for i in range(COUNT) if c in (owner[a[i]], owner[b[i]])]
        accuracy = balanced([scores[i] for i in ours], [same[i] for i in ours], threshold)
        assert per_class[c]["pair_accuracy"].value == pytest.approx(accuracy)
        assert per_class[c]["pair_accuracy"].n == len(ours)
        anchors = [win for win, (anchor, _, _) in zip(won, triplets, strict=True) if owner[anchor] == c]
        assert per_class[c]["triplet_accuracy"].value == pytest.approx(sum(anchors) / len(anchors))
        for interval in per_class[c].values():
            assert 0 <= interval.low <= interval.value <= interval.high <= 1 and interval.low < interval.high


def test_a_perfect_and_a_blind_similarity(pool):
    owner = torch.from_numpy(np.repeat(np.arange(5), SIZES)).float()[:, None]
    perfect = Similar(lambda a, b: (a == b).float()[:, 0])
    threshold = verification.threshold(perfect, owner, pool, "validation", COUNT)
    score = partial(verification.scores, perfect, owner)
    metrics, per_class, *_ = verification.verified(score, pool, "novel", threshold, COUNT)
    for name in ("pair_accuracy", "pair_auc", "triplet_accuracy", "pair_accuracy_oracle"):
        assert metrics[name].value == 1
    assert metrics["pair_eer"].value == 0
    assert all(own["pair_accuracy"].value == 1 for own in per_class.values())
    blind = Similar(lambda a, b: torch.zeros(len(a)))
    score = partial(verification.scores, blind, owner)
    metrics, *_ = verification.verified(score, pool, "novel", threshold, COUNT)
    for name in ("pair_accuracy", "pair_auc", "triplet_accuracy", "pair_eer"):
        assert metrics[name].value == 0.5


def test_unbalanced_pair_accuracy_equals_a_slow_loop(method, pool, embeddings):
    threshold = -5.5
    episodes = draw(pool, "key", Setting(0, 1, 2, 20))
    found, constant = verification.unbalanced_pair_accuracy(method, embeddings, episodes, threshold)
    shares = []
    for e in range(20):
        right = []
        for query, label in zip(episodes.query[e].tolist(), episodes.labels[e].tolist(), strict=True):
            for place in range(5):
                score = slow(embeddings, query, int(episodes.support[e, place, 0]))
                right.append((score >= threshold) == (place == label))
        shares.append(rate(right))
    assert found == pytest.approx(np.array(shares))
    assert constant == pytest.approx(4 / 5)


@pytest.mark.parametrize("similarity, share", [(-1.0, 4 / 5), (1.0, 1 / 5)])
def test_the_constant_answer_is_right_as_often_as_said(pool, embeddings, similarity, share):
    """Always "different" is right in (C - 1) / C of the unbalanced pairs."""
    constant = Similar(lambda a, b: torch.full((len(a),), similarity))
    episodes = draw(pool, "key", Setting(0, 1, 1, 50))
    found, _ = verification.unbalanced_pair_accuracy(constant, embeddings, episodes, threshold=0.0)
    assert found == pytest.approx(np.full(50, share))
