"""Protocol version 1: what is measured, on which images, under which names."""

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_budget import budget_of_file
from torch import nn

from bench.common.progress import Progress
from bench.config.lists import OTHER_MEASUREMENTS
from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.evaluation import budget, fewshot, verification
from bench.evaluation.budget import Budget
from bench.evaluation.measurements import pools_of, possible
from bench.evaluation.protocol import Evaluator, episode_arrays
from bench.evaluation.settings import does_not_fit, nearest, standard_settings
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.sampling.keys import episode_key
from bench.sampling.pairs import draw_pairs
from bench.statistics import pair_metrics
from methods.method import Method
from methods.protonet import ProtoNet

VERIFICATION = {
    "pair_accuracy",
    "pair_auc",
    "pair_eer",
    "pair_tar@0.1",
    "pair_tar@0.01",
    "pair_accuracy_oracle",
    "triplet_accuracy",
}
ONE, ALL = "generalized/9+1", "generalized/9+10"  # one novel class joins, or all
JOINED = {
    f"{key}/{shot}s/{part}" for key in (ONE, ALL) for shot in (1, 5, 10, 20) for part in ("novel", "base")
}
PAIRS = 400
SETTINGS = [Setting(5, 1, 15, 60), Setting(5, 5, 15, 60), Setting(0, 1, 0, 20)]


class OnePixel(ProtoNet):
    """Embeds an image as the colour of one pixel, and remembers every image."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), ProtoNet.Hyperparameters(), 8)
        self.seen: list[torch.Tensor] = []

    def embed(self, images):
        self.seen.append(images)
        return images[:, :, 3, 5]


small = budget_of_file(pairs=PAIRS, support_draws=20)


def evaluate(data, split, settings=SETTINGS, method: Method | None = None):
    method = method or OnePixel().eval()
    evaluator = Evaluator(
        method,
        data,
        split,
        Normaliser(data.images, split.train),
        "32-true",
        Progress(io.StringIO()),
    )
    return evaluator.run(possible(method, pools_of(data, split), settings, OTHER_MEASUREMENTS)[0])


@pytest.fixture(scope="module")
def ratio(tiny):
    """9 base classes with held-out images and 10 novel ones."""
    return resolve(tiny, "47-53")


@pytest.fixture(scope="module")
def found(tiny, ratio):
    """An evaluation that several tests look at."""
    return evaluate(tiny, ratio)


def test_the_settings_that_are_reported(monkeypatch):
    monkeypatch.setattr(budget, "FULL", Budget())
    assert standard_settings("90-10") == [
        Setting(5, 1, 15, 10_000),
        Setting(5, 5, 15, 10_000),
        Setting(0, 1, 0, 200),
    ]
    assert [s.name for s in standard_settings("fc100")] == ["5w1s", "5w5s", "5w10s", "allw1s"]


def test_everything_is_measured_under_its_name(tiny, ratio, found):
    assert set(found.metrics) == {
        *(f"base/{name}" for name in VERIFICATION),
        *(f"novel/{name}" for name in VERIFICATION),
        "novel/unbalanced_pair_accuracy",
        "fewshot/5w1s",
        "fewshot/5w5s",
        "fewshot/allw1s",
        *JOINED,
        *(key.replace("novel", "all") for key in JOINED),
        *(key.replace("novel", "harmonic") for key in JOINED),
        f"{ONE}/0s/base",
    }
    assert all(0 <= i.low <= i.value <= i.high <= 1 for i in found.metrics.values())
    assert set(found.per_class) == {tiny.class_names[c] for c in ratio.novel}
    of_a_class = {"novel/pair_accuracy", "novel/triplet_accuracy", *(f"fewshot/{s.name}" for s in SETTINGS)}
    of_a_class |= {key for key in JOINED if key.startswith(f"{ONE}/") or key.endswith("novel")}
    assert all(set(own) == of_a_class for own in found.per_class.values())
    assert found.constant_answer == {"novel/unbalanced_pair_accuracy": 0.9}
    assert list(found.thresholds) == ["similarity"]
    assert found.settings["allw1s"].way == 10 and found.settings["5w5s"] == SETTINGS[1]
    assert found.episodes == 140


def test_each_part_s_images_are_embedded_once(tiny, ratio):
    method = OnePixel().eval()
    found = evaluate(tiny, ratio, method=method)
    index = torch.cat([ratio.validation_images, ratio.base_test, ratio.novel_images, ratio.train])
    expected = Normaliser(tiny.images, ratio.train)(tiny.images[index])
    assert torch.equal(torch.cat(method.seen), expected)
    assert found.images == len(index)


@pytest.mark.slow
def test_numbers_come_from_the_right_images(tiny, ratio, found):
    """Each part's numbers again, from pixels in double precision."""
    method = OnePixel().eval()
    normalise = Normaliser(tiny.images, ratio.train)
    key = f"{tiny.fingerprint}/47-53"

    def part(index):
        pixels = (tiny.images[index].double() - normalise.mean) / normalise.std
        return pixels[:, :, 3, 5].float(), ClassPool(tiny.labels[index].numpy())

    threshold = verification.threshold(method, *part(ratio.validation_images), f"{key}/validation/0", PAIRS)
    assert found.thresholds["similarity"] == pytest.approx(threshold, rel=1e-3)
    for name, index in (("base", ratio.base_test), ("novel", ratio.novel_images)):
        made, pool = part(index)
        score = partial(verification.scores, method, made)
        metrics, *_ = verification.verified(score, pool, f"{key}/{name}/0", threshold, PAIRS)
        for metric, interval in metrics.items():
            assert found.metrics[f"{name}/{metric}"].value == pytest.approx(interval.value, abs=2e-3)
    made, pool = part(ratio.novel_images)
    for setting in SETTINGS:
        episodes = draw(pool, f"{key}/{setting.way}/{setting.shot}/{setting.query}/0", setting)
        assert found.hashes[setting.name] == episodes.sha256()
        again = fewshot.evaluate(method, made, pool, episodes).interval()
        assert found.metrics[f"fewshot/{setting.name}"].value == pytest.approx(again.value, abs=2e-3)
    hashes = {draw(pool, f"{key}/0/1/1/0", Setting(0, 1, 1, 200)).sha256()}
    assert not hashes & set(found.hashes.values())


@pytest.mark.slow
def test_episodes_are_the_same_for_every_method_and_differ_between_splits(tiny, ratio, found):
    class Other(OnePixel):
        def embed(self, images):
            return super().embed(images)[:, :1]

    other = evaluate(tiny, ratio, method=Other().eval())
    assert found.hashes == other.hashes
    assert found.metrics["fewshot/5w1s"] != other.metrics["fewshot/5w1s"]
    assert evaluate(tiny, ratio).metrics == found.metrics
    changed = evaluate(tiny, replace(ratio, name="53-47"))
    assert all(changed.hashes[name] != found.hashes[name] for name in found.hashes)


@pytest.mark.slow
def test_novel_images_do_not_move_the_threshold(tiny, ratio, found):
    images = tiny.images.clone()
    images[ratio.novel_images] = 255 - images[ratio.novel_images].flip(0)
    images[ratio.base_test] = 255 - images[ratio.base_test].flip(0)
    changed = evaluate(replace(tiny, images=images), ratio)
    assert changed.thresholds == found.thresholds
    assert changed.metrics["novel/pair_accuracy"] != found.metrics["novel/pair_accuracy"]


def test_a_split_with_validation_classes_has_no_base_test(tiny, tiny_split):
    found = evaluate(tiny, tiny_split)
    assert not any(name.startswith("base/") for name in found.metrics)
    assert {"novel/pair_accuracy", "fewshot/5w1s"} <= set(found.metrics)
    assert found.constant_answer["novel/unbalanced_pair_accuracy"] == pytest.approx(5 / 6)


def test_a_split_without_novel_classes(tiny):
    found = evaluate(tiny, resolve(tiny, "100-0"), [])
    assert set(found.metrics) == {f"base/{name}" for name in VERIFICATION}
    assert (
        found.per_class == {}
        and found.episodes == 0
        and set(episode_arrays(found)) == {"base/pair_scores", "base/triplets_won"}
    )


def test_without_validation_images_there_is_no_verification(tiny):
    data = replace(tiny, held_out=torch.zeros(len(tiny), dtype=torch.bool))
    found = evaluate(data, resolve(data, "47-53"))
    assert set(found.metrics) == {"fewshot/5w1s", "fewshot/5w5s", "fewshot/allw1s"}


def test_settings_that_do_not_fit():
    pool = ClassPool(np.repeat(np.arange(6), 30))
    assert does_not_fit(Setting(6, 15, 15, 1), pool) is None
    assert does_not_fit(Setting(0, 29, 0, 1), pool) is None
    assert does_not_fit(Setting(7, 1, 15, 1), pool) == "way 7: at most 6, the number of novel classes"
    too_many = "shot 16 + query 15: at most 30 in total, because fewer than 6 novel classes have more"
    assert does_not_fit(Setting(6, 16, 15, 1), pool) == too_many
    assert does_not_fit(Setting(0, 30, 0, 1), pool) is not None
    assert (
        does_not_fit(Setting(0, 1, 0, 1), ClassPool(np.zeros(30))) == "there are fewer than 2 novel classes"
    )


def test_the_nearest_setting_that_fits():
    """Ways, queries and shots follow from what is there."""

    def of(*sizes: int, shot: int = 1) -> str | None:
        found = nearest(Setting(5, shot, 15, 100), ClassPool.of_counts(sizes))
        return found and found.name

    assert of(*[40] * 9, 8) == "5w1s"  # nine classes are enough
    assert of(*[40] * 4, 8) == "5w1s7q"
    assert of(*[9] * 10) == "5w1s8q"
    assert of(40, 40, 40) == "3w1s" and of(40, 6) == "2w1s5q"
    assert of(*[40] * 4, 1) is None and of(40) is None
    assert of(*[12] * 6, shot=5) == "5w5s7q" and of(*[6] * 6, shot=5) == "5w5s1q"
    assert of(*[4] * 6, shot=5) == "5w3s1q" and of(*[2] * 6, shot=5) == "5w1s1q"


@pytest.mark.parametrize("setting", [Setting(6, 15, 15, 2), Setting(0, 29, 0, 2), Setting(7, 1, 15, 2)])
def test_what_fits_can_be_drawn_and_what_does_not_cannot(setting):
    pool = ClassPool(np.repeat(np.arange(6), 30))
    if does_not_fit(setting, pool):
        with pytest.raises(ValueError):
            draw(pool, "key", setting)
    else:
        assert len(draw(pool, "key", setting)) == 2


def test_arrays_for_the_record(found):
    arrays = episode_arrays(found)
    per_setting = {name + suffix for name in found.settings for suffix in ("", "/queries", "/hits")}
    per_part = {f"{part}/{name}" for part in ("base", "novel") for name in ("pair_scores", "triplets_won")}
    others = {f"{ONE}/classes", f"{ONE}/0s/base", "novel/unbalanced_pair_accuracy"}
    assert set(arrays) == per_setting | per_part | JOINED | others
    assert arrays["novel/unbalanced_pair_accuracy"].mean() == pytest.approx(
        found.metrics["novel/unbalanced_pair_accuracy"].value
    )
    before = arrays[f"{ONE}/0s/base"] / list(found.pools["base"].values())
    assert before.mean() == pytest.approx(found.metrics[f"{ONE}/0s/base"].value)
    for name, interval in ((s.name, found.metrics[f"fewshot/{s.name}"]) for s in SETTINGS):
        assert (arrays[name] / arrays[f"{name}/queries"]).mean() == pytest.approx(interval.value)
    assert arrays["5w1s"].dtype == np.uint8 and arrays["5w1s"].shape == (60,)
    assert arrays["5w1s/queries"] == 75 and arrays["allw1s/queries"] == 10 * 29
    np.testing.assert_array_equal(arrays["5w1s/hits"].sum(1), arrays["5w1s"])


def test_metrics_follow_from_the_arrays_and_pools_alone(tiny, ratio, found):
    """Which pairs, triplets and episodes they were is drawn again from the sizes of the classes."""
    arrays = episode_arrays(found)
    for part in ("base", "novel"):
        pool = ClassPool(np.repeat(np.arange(len(found.pools[part])), list(found.pools[part].values())))
        key = f"{tiny.fingerprint}/{ratio.name}/{part}/0"
        _, _, same = draw_pairs(pool, f"{key}/pairs", PAIRS)
        again = pair_metrics(
            arrays[f"{part}/pair_scores"].astype(float), same, found.thresholds["similarity"]
        )
        for name, interval in again.items():
            assert interval == found.metrics[f"{part}/{name}"]
        assert arrays[f"{part}/triplets_won"].mean() / 2 == found.metrics[f"{part}/triplet_accuracy"].value
    setting = next(s for s in SETTINGS if s.name == "5w1s")
    episodes = draw(pool, episode_key(tiny.fingerprint, ratio.name, setting, 0), setting)
    assert episodes.sha256() == found.hashes["5w1s"]
    names = list(found.pools["novel"])
    for position, name in enumerate(names):
        recall = arrays["5w1s/hits"][episodes.classes == position] / setting.query
        assert recall.mean() == pytest.approx(found.per_class[name]["fewshot/5w1s"].value)
