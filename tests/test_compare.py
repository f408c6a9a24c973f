"""`compare`: what it says of runs and methods, and on which episodes it compares them."""

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from command_line import bench, complaint
from compared_runs import COMMON, QUERIES, answers, compared, said, write, write_seeds
from record_factory import make_record
from scipy import stats

from bench.records import store
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from bench.statistics import class_difference

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_a_difference_between_two_trained_models():
    ours, theirs = answers(0.6), answers(0.5)
    write(ours, method="protonet"), write(theirs, method="matching")
    test = stats.ttest_rel(theirs / QUERIES, ours / QUERIES)
    low, high = test.confidence_interval(0.95)
    value = (ours.mean() - theirs.mean()) / QUERIES
    sentence, basis, _ = said("matching", "protonet")
    assert sentence == (
        f"As trained here, protonet (quick) is better than matching (quick) by {100 * value:.1f} ± "
        f"{50 * (high - low):.1f} points on these novel classes of 90-10 (p < 0.001)."
    )
    assert basis == (
        "New episodes of these classes: based on 40 identical episodes and 1 training seed each; "
        "applies to these trained models only: retraining may reverse it."
    )
    found = compared("matching", "protonet")
    assert (found["setting"], found["dataset"], found["split"], found["protocol_version"]) == (
        "5w1s", "cifar100", "90-10", 1
    )  # fmt: skip
    assert [(side["name"], side["runs"]) for side in found["sides"]] == [
        ("matching (quick)", ["cifar100-matching-quick-0"]),
        ("protonet (quick)", ["cifar100-protonet-quick-0"]),
    ]
    assert found["sides"][1]["accuracy"] == pytest.approx(ours.mean() / QUERIES)
    (one,) = found["comparisons"]
    assert one["difference"] == pytest.approx(-value)
    assert (one["low"], one["high"]) == pytest.approx((low, high))
    assert one["p"] == one["p_holm"] == pytest.approx(test.pvalue)
    assert (one["episodes"], one["seeds"], one["over_training"]) == (40, [1, 1], False)
    assert one["sentence"] == sentence


def test_no_difference_shown_by_one_seed_each():
    ours, theirs = answers(0.6, 1, noise=9), answers(0.6, 2, noise=9)
    write(ours, method="protonet"), write(theirs, method="matching")
    test = stats.ttest_rel(ours / QUERIES, theirs / QUERIES)
    assert test.pvalue > 0.05
    sentence, *_ = said("protonet", "matching")
    low, high = test.confidence_interval(0.95)
    assert sentence == (
        "protonet (quick) and matching (quick): no difference shown on these novel classes of 90-10 "
        f"({100 * (ours.mean() - theirs.mean()) / QUERIES:.1f} ± {50 * (high - low):.1f} points, "
        f"p = {test.pvalue:.3f}); at least 2 more seeds of each would be needed to know the effect "
        "of retraining."
    )
    for method, seed in itertools.product(("protonet", "matching"), (1,)):
        write(answers(0.6, 5, noise=9), method=method, seed=seed)
    sentence, basis, _ = said("protonet", "matching")
    assert "at least 1 more seed of each would be needed to know" in sentence
    assert "2 training seeds each" in basis


def expected_of_seeds(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, int]:
    """Half-width, p, and seeds that would show a point, of seed means that spread equally."""
    of_seed, count = ours.var(ddof=1), len(ours)
    assert theirs.var(ddof=1) == pytest.approx(of_seed) and len(theirs) == count
    error, df = np.sqrt(2 * of_seed / count), 2 * count - 2
    p = 2 * stats.t.sf(abs(ours.mean() - theirs.mean()) / error, df)
    needed = next(
        n
        for n in itertools.count(3)
        if np.sqrt(2 * of_seed / n) * (stats.t.ppf(0.975, 2 * n - 2) + stats.norm.ppf(0.8)) <= 0.01
    )
    return stats.t.ppf(0.975, df) * error, p, needed


def test_no_difference_shown_over_training_and_how_many_seeds_would_show_a_point():
    ours, theirs = np.array([40, 42, 44]), np.array([41, 43, 45])
    write_seeds("protonet", ours.tolist()), write_seeds("matching", theirs.tolist())
    half, p, needed = expected_of_seeds(ours / QUERIES, theirs / QUERIES)
    sentence, basis, _ = said("protonet", "matching")
    assert sentence == (
        "protonet (quick) and matching (quick): no difference shown on these novel classes of 90-10 "
        f"(-1.3 ± {100 * half:.1f} points, p = {p:.3f}); "
        f"{needed - 3} more seeds of each would be needed to detect 1 point."
    )
    assert basis == (
        "New episodes of these classes: based on 40 identical episodes and 3 training seeds each; "
        "applies to retraining with other seeds."
    )
    (one,) = compared("protonet", "matching")["comparisons"]
    assert one["more_seeds_needed"] == needed - 3 and one["over_training"] is True


def test_a_difference_over_training():
    ours, theirs = np.array([40, 41, 42]), np.array([51, 52, 53])
    write_seeds("protonet", ours.tolist()), write_seeds("matching", theirs.tolist())
    half, p, _ = expected_of_seeds(ours / QUERIES, theirs / QUERIES)
    sentence, *_ = said("protonet", "matching")
    assert sentence == (
        f"matching (quick) is better than protonet (quick) by {100 * 11 / 75:.1f} ± {100 * half:.1f} points "
        f"on these novel classes of 90-10 (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})."
    )


def test_three_equal_seeds_would_have_shown_a_point():
    write_seeds("protonet", [40, 40, 40]), write_seeds("matching", [40, 40, 40])
    sentence, *_ = said("protonet", "matching")
    assert sentence == (
        "protonet (quick) and matching (quick): no difference shown on these novel classes of 90-10 "
        "(0.00 ± 0.00 points, p = 1.000); these seeds would detect a difference of 1 point with 80% power."
    )


def test_no_number_of_seeds_helps_where_episodes_are_few():
    for method, seed in itertools.product(("protonet", "matching"), range(3)):
        # Episodes that the one method finds hard are easy for the other, whatever the seed.
        sign = 1 if method == "protonet" else -1
        correct = np.round(40 + sign * (COMMON - COMMON.mean())).astype(np.uint8)
        write(correct, method=method, seed=seed)
    sentence, *_ = said("protonet", "matching")
    assert sentence.endswith("no number of seeds would detect 1 point with so few episodes.")
    assert compared("protonet", "matching")["comparisons"][0]["more_seeds_needed"] is None


def test_seeds_of_different_number_are_both_named():
    write_seeds("protonet", [40, 42, 44]), write_seeds("matching", [41, 43])
    _, basis, _ = said("protonet", "matching")
    assert "40 identical episodes and 3 and 2 training seeds" in basis


def test_holm_s_correction_over_four_sides():
    names = ("protonet", "matching", "maml", "anil")
    means = (0.6, 0.62, 0.65, 0.601)
    tables = [answers(mean, 1, noise=5) / QUERIES for mean in means]
    for name, mean in zip(names, means, strict=True):
        write(answers(mean, 1, noise=5), method=name)
    found = compared(*names)
    pairs = list(itertools.combinations(range(4), 2))
    p = [stats.ttest_rel(tables[i], tables[j]).pvalue for i, j in pairs]
    assert [(c["first"], c["second"]) for c in found["comparisons"]] == [
        (f"{names[i]} (quick)", f"{names[j]} (quick)") for i, j in pairs
    ]
    assert [c["p"] for c in found["comparisons"]] == pytest.approx(p)
    # By hand: the smallest six times, the next five times, and so on, and none below the one before.
    by_hand, before = {}, 0.0
    for times, index in zip(range(6, 0, -1), sorted(range(6), key=p.__getitem__), strict=True):
        before = by_hand[index] = max(before, min(1.0, times * p[index]))
    assert [c["p_holm"] for c in found["comparisons"]] == pytest.approx([by_hand[i] for i in range(6)])
    # The sentence goes by the corrected p: some would have been called different without it.
    changed = [c for c in found["comparisons"] if c["p"] <= 0.05 < c["p_holm"]]
    assert changed and all("no difference shown" in c["sentence"] for c in changed)
    assert all(("is better than" in c["sentence"]) == (c["p_holm"] <= 0.05) for c in found["comparisons"])


def test_the_table_is_ordered_and_ranked():
    write(answers(0.5), method="protonet"), write(answers(0.7), method="matching")
    answer = bench("compare", "protonet", "matching")
    head, sides, pairs, _ = answer.out.split("\n\n")
    assert head == "5w1s, novel classes of cifar100 90-10, protocol 1"
    rows = [line.split() for line in sides.splitlines()[2:]]
    assert [(row[0], row[2], row[-3], row[-2]) for row in rows] == [
        ("1", "matching", "40", "1"), ("2", "protonet", "40", "1")
    ]  # fmt: skip
    low, high = stats.t.interval(0.95, 39, answers(0.7).mean(), stats.sem(answers(0.7)))
    assert " ".join(rows[0][4:7]) == f"{100 * (low + high) / 2 / 75:.2f} ± {50 * (high - low) / 75:.2f}"
    assert "protonet (quick) - matching (quick)" in pairs and "p (Holm)" in pairs


# The beginning of a longer list

POOL = {f"class {number}": 40 + number for number in range(6)}
FINGERPRINT, SPLIT = "ab" * 32, "90-10"


@lru_cache
def drawn(setting: Setting) -> EpisodeList:
    labels = np.concatenate([np.full(size, c) for c, size in enumerate(POOL.values())])
    key = f"{FINGERPRINT}/{SPLIT}/{setting.way}/{setting.shot}/{setting.query}/0"
    return draw(ClassPool(labels), key, setting)


def write_drawn(name: str, setting: Setting, correct: np.ndarray, sha256: str = "", **changes) -> np.ndarray:
    """Record answers to the real list of episodes; their accuracies."""
    info = {
        "way": setting.way or len(POOL),
        "shot": setting.shot,
        "query": setting.query,
        "count": setting.count,
        "seed": 0,
        "sha256": sha256 or drawn(setting).sha256(),
    }
    fields = {"episodes": {setting.name: info}, "metrics": {}, "per_class": {}, "pools": {"novel": POOL}}
    record = make_record(**(fields | {"method": name} | changes))
    arrays = {setting.name: correct, f"{setting.name}/queries": np.array(QUERIES)}
    store.write(record, Path("results"), arrays)
    return correct / QUERIES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "short"), [(Setting(5, 1, 15, 10_000), 1_000), (Setting(0, 1, 0, 200), 20)]
)
def test_the_first_of_the_same_episodes_are_compared(setting, short):
    rng = np.random.default_rng(0)
    brief = Setting(setting.way, setting.shot, setting.query, short)
    # In the episodes that only it answered the one is far better: that must not count.
    correct = np.where(np.arange(setting.count) < short, 40, 70) + rng.integers(0, 5, setting.count)
    ours = write_drawn("protonet", setting, correct.astype(np.uint8))
    theirs = write_drawn("maml", brief, (40 + rng.integers(0, 5, short)).astype(np.uint8))
    (one,) = compared("protonet", "maml", "--setting", setting.name)["comparisons"]
    test = stats.ttest_rel(ours[:short], theirs)
    assert one["difference"] == pytest.approx((ours[:short] - theirs).mean())
    assert one["p"] == pytest.approx(test.pvalue)
    assert one["episodes"] == short
    _, basis, _ = said("protonet", "maml", "--setting", setting.name)
    assert f"based on {short:,} identical episodes" in basis


@pytest.mark.parametrize(("gain", "said_of_new"), [
    ([-6, 14, -6, 14, -6, 14], "the order may be reversed"),
    ([10, 11, 10, 11, 10, 11], "protonet (quick) is also better"),
])  # fmt: skip
def test_whether_new_classes_would_agree(gain, said_of_new):
    setting = Setting(5, 1, 15, 600)
    classes = drawn(setting).classes
    rng = np.random.default_rng(0)
    theirs = 30 + rng.integers(0, 5, 600)
    ours = np.rint(theirs + np.array(gain)[classes].mean(axis=1))
    first = write_drawn("protonet", setting, ours.astype(np.uint8))
    second = write_drawn("matching", setting, theirs.astype(np.uint8))
    expected = class_difference(first, second, classes)
    (one,) = compared("protonet", "matching")["comparisons"]
    assert one["p_holm"] < 0.001
    assert one["new_classes"] == pytest.approx({"low": expected.low, "high": expected.high, "classes": 6})
    for sides in (("protonet", "matching"), ("matching", "protonet")):
        assert said(*sides)[2].startswith(f"New classes: {said_of_new};")


def test_new_classes_are_not_known_without_class_sizes_or_of_all_classes_at_once():
    write(answers(0.6), method="protonet"), write(answers(0.5), method="matching")
    assert compared("protonet", "matching")["comparisons"][0]["new_classes"] is None
    every = Setting(0, 1, 0, 200)
    for method, correct in (("maml", 40), ("anil", 30)):
        write_drawn(method, every, np.full(200, correct, dtype=np.uint8))
    assert said("maml", "anil", "--setting", "allw1s")[2].startswith("New classes: not known")


@pytest.mark.parametrize("damage", ["short list", "long list", "pools"])
def test_lists_that_do_not_begin_alike_are_refused(damage):
    setting, brief = Setting(5, 1, 15, 300), Setting(5, 1, 15, 100)
    pools = {"novel": POOL | {"class 0": 41}} if damage == "pools" else {"novel": POOL}
    write_drawn("protonet", setting, np.full(300, 40), "1" * 64 if damage == "long list" else "", pools=pools)
    write_drawn("maml", brief, np.full(100, 40), "1" * 64 if damage == "short list" else "", pools={})
    assert complaint("compare", "protonet", "maml").endswith(
        "their episodes of 5w1s differ: neither list is the beginning of the other"
    )


def test_class_sizes_that_allow_no_such_episodes():
    setting, brief = Setting(5, 1, 15, 300), Setting(5, 1, 15, 100)
    write_drawn("protonet", setting, np.full(300, 40), pools={"novel": {"class 0": 3}})
    write_drawn("maml", brief, np.full(100, 40), pools={})
    assert "neither list is the beginning of the other" in complaint("compare", "protonet", "maml")
