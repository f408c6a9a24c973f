"""Base and novel classes classified jointly: slow loops in float64, the right images and intervals."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pixel_prototypes import DRAWS, EACH, PIXELS, TESTED, B, N, Pixels, drawn, join
from record_factory import make_record
from scipy import stats
from small_budget import small_budget
from torch import nn

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.evaluation.budget import Budget
from bench.evaluation.embedding import embed_images
from bench.evaluation.generalized import evaluate, plan
from bench.records.parts import Metric
from bench.reporting import show
from bench.run.recording import metrics_of
from bench.sampling.episodes import ClassPool
from bench.statistics import Interval, over_joins
from methods.method import Method
from methods.protonet import ProtoNet

SHOTS = Budget.joining_shots


class Always(Pixels):
    """Says that every image is of the class in the column `answer`."""

    answer = -1

    def joint_logits(self, base, support, query):
        logits = torch.zeros(len(query), len(base) + len(support))
        logits[:, self.answer] = 1
        return logits


@pytest.fixture(scope="module")
def split(tiny):
    return resolve(tiny, "47-53")


@pytest.fixture(scope="module")
def found(tiny, split):
    return join(tiny, split, Pixels())


def pixels(data, split, index) -> np.ndarray:
    images = data.images[index].double().numpy()
    train = data.images[split.train].double().numpy()
    mean, std = train.mean((0, 2, 3), keepdims=True), train.std((0, 2, 3), keepdims=True)
    return ((images - mean) / std)[PIXELS].reshape(len(images), -1)


def slow(data, split, shot: int, together: bool) -> tuple[np.ndarray, np.ndarray]:
    """Novel and base accuracies, query by query: ``[C, draws]`` each, or ``[draws, N]`` and ``[draws]``."""
    base, novel, train = (pixels(data, split, i) for i in (split.base_test, split.novel_images, split.train))
    base_labels = [split.base.index(c) for c in data.labels[split.base_test].tolist()]
    train_labels = np.array([split.base.index(c) for c in data.labels[split.train].tolist()])
    means = [train[train_labels == c].mean(0) for c in range(B)]

    def right(image, prototypes, label) -> bool:
        return int(np.argmin([((image - p) ** 2).sum() for p in prototypes])) == label

    pool, draws = drawn(data, split, shot)
    of_novel, of_base = np.zeros((DRAWS, N)), np.zeros((DRAWS, 1 if together else N))
    for d, support in enumerate(draws):
        for c in range(1 if together else N):
            joining = range(N) if together else [c]
            prototypes = means + [novel[support[j]].mean(0) for j in joining]
            shares = [[] for _ in range(B)]
            for image, label in zip(base, base_labels, strict=True):
                shares[label].append(right(image, prototypes, label))
            of_base[d, c] = np.mean([np.mean(share) for share in shares])
            for new, j in enumerate(joining):
                rest = set(range(pool.starts[j], pool.starts[j] + pool.counts[j])) - set(support[j])
                of_novel[d, j] = np.mean([right(novel[i], prototypes, B + new) for i in rest])
    return (of_novel, of_base[:, 0]) if together else (of_novel.T, of_base.T)


@pytest.mark.slow
@pytest.mark.parametrize("shot", [1, 20])
def test_one_class_at_a_time_equals_a_slow_loop(tiny, split, found, shot):
    novel, base = slow(tiny, split, shot, together=False)
    key = f"generalized/{B}+1/{shot}s"
    np.testing.assert_allclose(found.arrays[f"{key}/novel"], novel, atol=1e-12)
    np.testing.assert_allclose(found.arrays[f"{key}/base"], base, atol=1e-12)
    assert found.arrays[f"generalized/{B}+1/classes"].tolist() == list(range(N))
    expected = {
        "novel": novel,
        "base": base,
        "all": (novel + B * base) / (B + 1),
        "harmonic": np.array(
            [
                [stats.hmean([n, b]) for n, b in zip(*rows, strict=True)]
                for rows in zip(novel, base, strict=True)
            ]
        ),
    }
    for name, values in expected.items():
        metric, means = found.metrics[f"{key}/{name}"], values.mean(1)
        half = stats.t.ppf(0.975, N - 1) * means.std(ddof=1) / math.sqrt(N)
        assert metric.value == pytest.approx(values.mean()) and metric.n == N
        assert metric.std == pytest.approx(values.std(ddof=1))
        assert (metric.low, metric.high) == pytest.approx(
            (max(0, metric.value - half), min(1, metric.value + half))
        )
    assert 0.1 < novel.mean() < 0.95 and 0.1 < base.mean() < 0.95  # the numbers tell right from wrong
    for c, name in enumerate(tiny.class_names[i] for i in split.novel):
        own = found.per_class[name]
        half = stats.t.ppf(0.975, DRAWS - 1) * novel[c].std(ddof=1) / math.sqrt(DRAWS)
        assert own[f"{key}/novel"].value == pytest.approx(novel[c].mean())
        assert own[f"{key}/novel"].high == pytest.approx(min(1, novel[c].mean() + half))
        assert own[f"{key}/base"][::4] == pytest.approx((base[c].mean(), base[c].std(ddof=1)))


def test_all_classes_together_equal_a_slow_loop(tiny, split, found):
    novel, base = slow(tiny, split, 5, together=True)
    key = f"generalized/{B}+{N}/5s"
    np.testing.assert_allclose(found.arrays[f"{key}/novel"], novel, atol=1e-12)
    np.testing.assert_allclose(found.arrays[f"{key}/base"], base, atol=1e-12)
    per_draw = novel.mean(1)
    for name, values in {
        "novel": per_draw,
        "base": base,
        "all": (N * per_draw + B * base) / (N + B),
        "harmonic": 2 / (1 / per_draw + 1 / base),
    }.items():
        half = stats.t.ppf(0.975, DRAWS - 1) * values.std(ddof=1) / math.sqrt(DRAWS)
        metric = found.metrics[f"{key}/{name}"]
        assert metric == pytest.approx(
            (values.mean(), values.mean() - half, values.mean() + half, DRAWS, values.std(ddof=1))
        )
    for c, name in enumerate(tiny.class_names[i] for i in split.novel):
        assert found.per_class[name][f"{key}/novel"].value == pytest.approx(novel[:, c].mean())


def test_the_accuracy_before_joining(tiny, split, found):
    """Wilson's interval over the base-test images, with no class joined."""
    method = Pixels().eval()
    normalise = Normaliser(tiny.images, split.train)
    base, train = (
        embed_images(method, tiny.images, i, normalise, "32-true") for i in (split.base_test, split.train)
    )
    labels = torch.tensor([split.base.index(c) for c in tiny.labels[split.base_test].tolist()])
    means = torch.stack([train[tiny.labels[split.train] == c].mean(0) for c in split.base])
    right = int((torch.cdist(base, means).argmin(1) == labels).sum())
    metric = found.metrics[f"generalized/{B}+1/0s/base"]
    expected = stats.binomtest(right, B * TESTED).proportion_ci(method="wilson")
    assert metric[:4] == pytest.approx((right / (B * TESTED), expected.low, expected.high, B * TESTED))
    assert metric.value > found.metrics[f"generalized/{B}+{N}/20s/base"].value  # joining costs


def test_classes_count_the_same_however_many_images_they_have(tiny, split):
    """The first base class, which is always the answer, keeps but two of its base-test images."""
    fewer = replace(split, base_test=split.base_test[TESTED - 2 :])
    method = Always()
    method.answer = 0
    found = join(tiny, fewer, method)
    for key in (f"generalized/{B}+1/0s", f"generalized/{B}+1/1s"):
        assert found.metrics[f"{key}/base"].value == pytest.approx(1 / B)
    assert found.metrics[f"generalized/{B}+1/1s/all"].value == pytest.approx(1 / (B + 1))
    # One class of 2 and eight of 5: as precise as 9 of 81 / (1/2 + 8/5) / 9 images each.
    assert found.metrics[f"generalized/{B}+1/0s/base"].n == round(81 / 2.1)


def test_always_the_new_class_and_never(tiny, split, monkeypatch):
    small_budget(monkeypatch, joining_draws=2)
    new, never = Always(), Always()
    never.answer = 3
    always = join(tiny, split, new)
    key = f"generalized/{B}+1/5s"
    values = {name: always.metrics[f"{key}/{name}"].value for name in ("novel", "base", "all", "harmonic")}
    assert values == pytest.approx({"novel": 1, "base": 0, "all": 1 / (B + 1), "harmonic": 0})
    assert always.metrics[f"generalized/{B}+{N}/5s/novel"].value == pytest.approx(1 / N)
    found = join(tiny, split, never)
    values = {name: found.metrics[f"{key}/{name}"].value for name in ("novel", "base", "all", "harmonic")}
    assert values == pytest.approx({"novel": 0, "base": 1 / B, "all": 1 / (B + 1), "harmonic": 0})


def test_support_images_are_not_asked_about_and_all_others_are(tiny, split):
    method = Pixels()
    join(tiny, split, method)
    joins = [asked for asked in method.asked if len(asked[1]) == 1]
    assert len(joins) == len(SHOTS) * N * DRAWS
    for base, support, query in joins:
        assert base.shape == (B, 6) and len(query) == B * TESTED + EACH - support.shape[1]
        assert torch.cdist(query, support[0]).min() > 1e-3
    together = [asked for asked in method.asked if len(asked[1]) == N]
    assert [len(query) for _, _, query in together] == [
        B * TESTED + N * (EACH - shot) for shot in SHOTS for _ in range(DRAWS)
    ]
    # A class has the same support images alone and with all others.
    alone = {support.sum().item() for _, support, _ in joins}
    assert {own.sum().item() for _, support, _ in together for own in support[:, None]} == alone


def test_draws_are_the_same_for_every_method_and_differ_between_splits(tiny, split, monkeypatch):
    small_budget(monkeypatch, joining_draws=2)

    def supports(split, method=None):
        method = method or Pixels()
        join(tiny, split, method)
        return [support.sum().item() for _, support, _ in method.asked]

    class Other(Pixels):
        def joint_logits(self, base, support, query):
            return super().joint_logits(base, support, query).flip(1)

    ours = supports(split)
    assert supports(split, method=Other()) == ours
    assert supports(replace(split, name="47-53@0")) != ours


def test_the_interval_is_one_of_classes():
    """Classes differ far more than draws: means of classes cover the truth, all joins pooled do not."""
    rng = np.random.default_rng(0)
    trials, classes, draws = 2000, 10, 10
    values = 0.5 + rng.normal(0, 0.08, (trials, classes, 1)) + rng.normal(0, 0.03, (trials, classes, draws))
    over_classes = [over_joins(v, v.mean(axis=1)) for v in values]
    pooled = [over_joins(v, v.ravel()) for v in values]
    covered, naive = (
        np.mean([s.low <= 0.5 <= s.high for s in spreads]) for spreads in (over_classes, pooled)
    )
    assert 0.94 <= covered <= 0.96
    assert naive < 0.6


def test_what_can_be_measured():
    method, base, novel = (
        Pixels(),
        ClassPool(np.repeat(np.arange(9), 5)),
        ClassPool(np.repeat(np.arange(6), 30)),
    )
    assert plan(method, base, novel) == ([1, 5, 10, 20], [])
    assert plan(method, base, ClassPool(np.repeat(np.arange(6), 20))) == (
        [1, 5, 10],
        ["generalized 20s (shot: at most 19, one less than two novel classes have)"],
    )
    assert plan(method, ClassPool(np.array([])), novel) == (
        [],
        ["generalized (too few images of base classes are kept out of training)"],
    )
    assert plan(method, base, ClassPool(np.zeros(30))) == (
        [],
        ["generalized (there are fewer than 2 novel classes)"],
    )


def test_a_method_that_no_class_can_join_is_not_asked():
    pools = [ClassPool(np.repeat(np.arange(9), 30))] * 2

    class Neither(Method):
        pass

    class OnlySaysSo(ProtoNet):
        joins_with = "training"

    assert plan(Neither(nn.Identity(), Method.Hyperparameters(), B), *pools) == ([], [])
    assert plan(OnlySaysSo(nn.Identity(), ProtoNet.Hyperparameters(), B), *pools) == ([], [])


def test_a_method_in_training_mode_is_refused(tiny, split):
    with pytest.raises(ValueError, match="evaluation mode"):
        nothing = torch.empty(0, 1)
        evaluate(
            Pixels().train(), [], tiny, split, None, "32-true", Progress(io.StringIO()), nothing, nothing
        )


def test_the_spread_is_in_the_record_and_in_its_table():
    intervals = {
        "generalized/40+1/10s/novel": Interval(0.43, 0.38, 0.48, 10, 0.125),
        "generalized/40+1/5s/novel": Interval(0.33, 0.28, 0.38, 10, 0.0),
    }
    record = make_record(
        metrics=metrics_of(intervals) | {"novel/pair_auc": Metric(value=0.8, low=0.7, high=0.9, n=9)}
    )
    text = record.model_dump(mode="json")["metrics"]
    assert text["generalized/40+1/10s/novel"] == {
        "value": 0.43,
        "low": 0.38,
        "high": 0.48,
        "n": 10,
        "std": 0.125,
    }
    assert text["generalized/40+1/5s/novel"]["std"] == 0.0 and "std" not in text["novel/pair_auc"]
    assert type(record).model_validate_json(record.model_dump_json()) == record
    lines = [line for line in show.result_table(record).splitlines() if line.startswith("generalized")]
    assert [line.split()[0] for line in lines] == ["generalized/40+1/5s/novel", "generalized/40+1/10s/novel"]
    assert lines[1].endswith("standard deviation 12.5")
