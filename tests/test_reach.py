"""What a number says of fresh images and of new classes."""

import numpy as np
import pytest
from record_factory import make_record, metric, record_fields

from bench.records import store
from bench.reporting.reach import fresh_images, reaches
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.sampling.keys import episode_key
from bench.sampling.pairs import draw_pairs, draw_triplets

CLASSES, IMAGES, PAIRS = 12, 600, 4000
SETTING = Setting(way=5, shot=1, query=15, count=400)
NAMES = [f"class{c:02}" for c in range(CLASSES)]
EASE = np.linspace(0.3, 0.9, CLASSES)  # of each class


def written(directory, **changes):
    """A record whose answers depend on nothing but the classes, with its arrays; and its episodes."""
    fields = record_fields()
    pool = ClassPool(np.repeat(np.arange(CLASSES), IMAGES))
    key = f"{fields['fingerprint']}/{fields['split']}"
    episodes = draw(pool, episode_key(fields["fingerprint"], fields["split"], SETTING, 0), SETTING)
    info = {"way": 5, "shot": 1, "query": 15, "count": 400, "seed": 0, "sha256": episodes.sha256()}
    _, _, same = draw_pairs(pool, f"{key}/novel/0/pairs", PAIRS)
    anchor, _, _ = draw_triplets(pool, f"{key}/novel/0/triplets", PAIRS)
    rng = np.random.default_rng(0)
    arrays = {
        "5w1s": np.round(75 * EASE[episodes.classes].mean(axis=1)).astype(np.int64),
        "5w1s/queries": np.array(75),
        "novel/pair_scores": (same + rng.normal(size=PAIRS)).astype(np.float32),
        "novel/triplets_won": (2 * (rng.random(PAIRS) < EASE[anchor // IMAGES])).astype(np.uint8),
    }
    record = make_record(
        **{
            "pools": {"novel": dict.fromkeys(NAMES, IMAGES)},
            "episodes": {"5w1s": info},
            "metrics": {"fewshot/5w1s": metric(0.6), "novel/pair_accuracy": metric(0.6)},
            "thresholds": {"similarity": 0.5},
        }
        | changes
    )
    return store.read(store.write(record, directory, arrays)), arrays, episodes


def test_new_classes_are_as_uncertain_as_their_spread(tmp_path):
    record, arrays, _ = written(tmp_path)
    found = {one.metric: one for one in reaches(record, tmp_path)}
    fewshot, triplets = found["fewshot/5w1s"], found["novel/triplet_accuracy"]
    # Student's interval over the classes themselves, whose accuracies are known here.
    expected = 2.201 * EASE.std(ddof=1) / np.sqrt(CLASSES)
    assert fewshot.new_classes.n == CLASSES
    assert fewshot.new_classes.half_width == pytest.approx(expected, rel=0.15)
    assert triplets.new_classes.half_width == pytest.approx(expected, rel=0.35)
    assert triplets.new_classes.value == pytest.approx(arrays["novel/triplets_won"].mean() / 2)
    assert 0.6 < found["novel/pair_accuracy"].new_classes.value < 0.8 and "novel/pair_auc" in found


def test_fresh_images_are_asked_of_episodes_without_a_common_one(tmp_path):
    record, arrays, episodes = written(tmp_path)
    fresh = reaches(record, tmp_path)[0].fresh_images
    used, chosen = set(), []
    for number in range(SETTING.count):
        own = {*episodes.support[number].ravel().tolist(), *episodes.query[number].ravel().tolist()}
        if not own & used:
            chosen.append(number)
            used |= own
    assert fresh.n == len(chosen) > 5 and fresh_images(record, tmp_path) == {"fewshot/5w1s": fresh}
    assert fresh.value == pytest.approx((arrays["5w1s"] / 75)[chosen].mean())


@pytest.mark.parametrize(
    "changes",
    [
        {"pools": {}},
        {"pools": {"novel": dict.fromkeys(NAMES[:5], IMAGES)}},  # every episode would hold all classes
        {"pools": {"novel": dict.fromkeys(NAMES[:7], 3)}},  # too few images for such episodes
        {"pools": {"novel": dict.fromkeys(NAMES[:-1], IMAGES)}},  # others than the episodes were drawn from
    ],
)
def test_nothing_is_said_where_the_episodes_cannot_be_drawn_again(tmp_path, changes):
    record, _, _ = written(tmp_path, **changes)
    assert not [one for one in reaches(record, tmp_path) if one.metric.startswith("fewshot")]


def test_two_classes_say_nothing_of_others(tmp_path):
    record, _, _ = written(tmp_path, pools={"novel": dict.fromkeys(NAMES[:2], IMAGES)})
    assert reaches(record, tmp_path) == []
