"""Episodes: the same for ever, fair, and telling nothing that they should not."""

import hashlib

import numpy as np
import pytest
from scipy.stats import chisquare

from bench.sampling import episodes
from bench.sampling.episodes import ClassPool, Setting, draw, draw_classes, stream
from bench.sampling.keys import episode_key

FIVE_ONE = Setting(5, 1, 15, 1000)
FIVE_FIVE = Setting(5, 5, 15, 1000)
ALL_ONE = Setting(0, 1, 0, 200)
KEY = "a fixed key"


@pytest.fixture(scope="module")
def pool() -> ClassPool:
    """20 classes of 600 images."""
    return ClassPool(np.repeat(np.arange(20), 600))


@pytest.fixture(scope="module")
def uneven() -> ClassPool:
    """7 classes of 20, 26, ... 56 images, whose labels are not 0..6."""
    return ClassPool(np.repeat(np.arange(3, 24, 3), np.arange(20, 57, 6)))


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ((5, 1, 15), "5w1s"),
        ((5, 1, 5), "5w1s5q"),
        ((10, 5, 15), "10w5s"),
        ((0, 1, 0), "allw1s"),
        ((0, 1, 15), "allw1s15q"),
        ((5, 1, 0), "5w1sallq"),
    ],
)
def test_a_setting_is_named_with_its_queries_unless_they_are_the_usual_ones(setting, name):
    assert Setting(*setting, count=10).name == name


def owners(pool: ClassPool) -> np.ndarray:
    """Class position of each image of the pool."""
    return np.repeat(np.arange(len(pool.classes)), pool.counts)


def slow_draw(pool: ClassPool, key: str, setting: Setting, episode: int):
    """One episode in plain Python integers, straight from the generator's 64-bit words."""
    way, shot, query = setting.way or len(pool.classes), setting.shot, setting.query
    words = way + way * (shot + query) + way * query
    bits = np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    raw = iter([int(word) for word in bits.random_raw(words * (episode + 1))[words * episode :]])

    def shuffled(size: int, k: int) -> list[int]:
        deck = list(range(size))
        for j in range(k):
            pick = j + ((next(raw) >> 32) * (size - j) >> 32)
            deck[j], deck[pick] = deck[pick], deck[j]
        return deck[:k]

    classes = shuffled(len(pool.classes), way)
    images = [[int(pool.starts[c]) + i for i in shuffled(int(pool.counts[c]), shot + query)] for c in classes]
    questions = [(image, label) for label, row in enumerate(images) for image in row[shot:]]
    order = shuffled(way * query, way * query)
    return classes, [row[:shot] for row in images], [questions[i] for i in order]


@pytest.mark.parametrize(
    "setting, expected",
    [
        (FIVE_ONE, "07ea0e43ab065d8dfc1444bb91d9c37ecca19d156a7e7d8229bb7d1b74fcfa1a"),
        (FIVE_FIVE, "2d7096b0c947ce32e1c9c53527ef97afadcde571c33315c30ae96b3458bd5db9"),
        (ALL_ONE, "aee474368a79250a6624ad7c6646624480132f5e76dd3c9c3b58a10e05e45aea"),
    ],
    ids=["5w1s", "5w5s", "allw1s"],
)
def test_golden_hashes(pool, setting, expected):
    """These lists stand behind every recorded number: a change here needs a new protocol version."""
    assert draw(pool, KEY, setting).sha256() == expected


def test_golden_key():
    assert episode_key("f1", "90-10@3", Setting(5, 1, 15, 99), 7) == "f1/90-10@3/5/1/15/7"


@pytest.mark.parametrize("setting", [Setting(5, 1, 15, 300), Setting(3, 2, 4, 300), Setting(0, 2, 0, 300)])
def test_equals_a_slow_shuffle(uneven, setting):
    drawn = draw(uneven, KEY, setting)
    for episode in (0, 1, 255, 256, 299):
        classes, support, questions = slow_draw(uneven, KEY, setting, episode)
        assert drawn.classes[episode].tolist() == classes
        assert drawn.support[episode].tolist() == support
        assert list(zip(drawn.query[episode], drawn.labels[episode], strict=True)) == questions


def test_the_hash_sees_every_part_and_the_order(pool):
    drawn = draw(pool, KEY, Setting(5, 1, 2, 20))
    hashes = {drawn.sha256()}
    for name in ("classes", "support", "query", "labels"):
        changed = {n: getattr(drawn, n).copy() for n in ("classes", "support", "query", "labels")}
        changed[name].flat[-1] += 1
        hashes.add(episodes.EpisodeList(**changed).sha256())
    assert len(hashes) == 5


@pytest.mark.parametrize("setting", [FIVE_ONE, FIVE_FIVE])
def test_the_first_episodes_do_not_depend_on_how_many_are_drawn(pool, setting):
    few = draw(pool, KEY, Setting(setting.way, setting.shot, setting.query, 100))
    many = draw(pool, KEY, setting)
    for name in ("classes", "support", "query", "labels"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[:100])


def test_classes_alone_are_those_of_the_episodes(uneven):
    for setting in (Setting(5, 1, 2, 300), Setting(0, 2, 0, 4), Setting(2, 1, 1, 50, others=2)):
        assert (draw_classes(uneven, "key", setting) == draw(uneven, "key", setting).classes).all()


def test_nor_on_how_many_are_drawn_at_a_time(pool):
    setting = Setting(5, 1, 3, 100)
    hashes = set()
    for chunk in (1, 7, 100, 1000):
        parts = list(stream(pool, KEY, setting, chunk))
        assert all(len(part) <= chunk for part in parts)
        joined = (
            np.concatenate([getattr(p, n) for p in parts]) for n in ("classes", "support", "query", "labels")
        )
        hashes.add(episodes.EpisodeList(*joined).sha256())
    assert hashes == {draw(pool, KEY, setting).sha256()}


def test_another_key_gives_other_episodes(pool):
    assert draw(pool, "another key", FIVE_ONE).sha256() != draw(pool, KEY, FIVE_ONE).sha256()


@pytest.mark.parametrize("setting", [FIVE_ONE, FIVE_FIVE])
def test_no_image_twice_in_an_episode_and_every_label_right(pool, setting):
    drawn = draw(pool, KEY, setting)
    assert drawn.support.shape == (1000, 5, setting.shot) and drawn.query.shape == (1000, 75)
    owner = owners(pool)
    for e in range(len(drawn)):
        used = [*drawn.support[e].ravel(), *drawn.query[e]]
        assert len(set(used)) == len(used)
        assert len(set(drawn.classes[e])) == 5
    assert (owner[drawn.support] == drawn.classes[:, :, None]).all()
    assert (owner[drawn.query] == np.take_along_axis(drawn.classes, drawn.labels, axis=1)).all()
    assert all((np.bincount(labels, minlength=5) == 15).all() for labels in drawn.labels)


def test_all_way_draws_support_alone(uneven):
    drawn = draw(uneven, KEY, Setting(0, 3, 0, 50))
    assert drawn.classes.shape == (50, 7) and drawn.query.shape == drawn.labels.shape == (50, 0)
    assert (np.sort(drawn.classes) == np.arange(7)).all()
    assert (owners(uneven)[drawn.support] == drawn.classes[:, :, None]).all()
    assert all(len(set(support.ravel())) == 21 for support in drawn.support)


def test_classes_and_their_order_are_uniform(pool):
    classes = draw(pool, KEY, Setting(5, 1, 1, 10_000)).classes
    assert chisquare(np.bincount(classes.ravel(), minlength=20)).pvalue > 0.001
    for position in range(5):
        assert chisquare(np.bincount(classes[:, position], minlength=20)).pvalue > 0.001
    pairs = np.bincount(classes[:, 0] * 20 + classes[:, 1], minlength=400).reshape(20, 20)
    assert chisquare(pairs[~np.eye(20, dtype=bool)]).pvalue > 0.001


def test_images_are_uniform_within_uneven_classes(uneven):
    drawn = draw(uneven, KEY, Setting(5, 2, 6, 4000))
    for images in (drawn.support.ravel(), drawn.query.ravel()):
        counts = np.bincount(images, minlength=int(uneven.counts.sum()))
        for start, size in zip(uneven.starts, uneven.counts, strict=True):
            assert chisquare(counts[start : start + size]).pvalue > 0.001


def test_a_query_s_place_tells_nothing_about_its_class(pool):
    labels = draw(pool, KEY, Setting(5, 1, 3, 5000)).labels
    for place in range(15):
        assert chisquare(np.bincount(labels[:, place], minlength=5)).pvalue > 0.001
    # Nor do neighbours: two of the 15 queries share a class with probability 2/14.
    together = int((labels[:, 0] == labels[:, 1]).sum())
    assert chisquare([together, 5000 - together], [5000 * 2 / 14, 5000 * 12 / 14]).pvalue > 0.001


def test_the_smallest_class_may_be_used_up(uneven):
    drawn = draw(uneven, KEY, Setting(7, 5, 15, 20))
    position = np.argmin(uneven.counts)
    for e in range(20):
        own = drawn.classes[e].tolist().index(position)
        used = {*drawn.support[e, own], *drawn.query[e][drawn.labels[e] == own]}
        assert used == set(range(20))


@pytest.mark.parametrize(
    "setting, message",
    [
        (Setting(8, 1, 1, 1), "8 classes requested; 7 of 7 have 2 images each"),
        (Setting(7, 6, 15, 1), "7 classes requested; 6 of 7 have 21 images each"),
        (Setting(0, 999, 0, 1), "all classes requested; 0 of 7 have 1000 images each"),
    ],
)
def test_too_little_to_draw_from(uneven, setting, message):
    with pytest.raises(ValueError, match=message):
        draw(uneven, KEY, setting)


def test_a_small_class_takes_no_part_and_the_others_are_drawn_as_without_it():
    """One class of 8 images among ten of 40: episodes are those of the nine."""
    setting = Setting(5, 1, 15, 200)
    sizes = np.full(10, 40)
    sizes[3] = 8
    with_it, without = (ClassPool(np.repeat(np.arange(len(s)), s)) for s in (sizes, np.delete(sizes, 3)))
    drawn, expected = draw(with_it, KEY, setting), draw(without, KEY, setting)
    assert set(np.unique(drawn.classes)) == {0, 1, 2, 4, 5, 6, 7, 8, 9}
    np.testing.assert_array_equal(drawn.classes - (drawn.classes > 3), expected.classes)
    np.testing.assert_array_equal(drawn.support - 8 * (drawn.support >= 128), expected.support)
    np.testing.assert_array_equal(drawn.labels, expected.labels)


def test_an_empty_pool_has_no_episodes():
    empty = ClassPool(np.empty(0, dtype=np.int64))
    assert empty.smallest == 0
    with pytest.raises(ValueError, match="5 classes requested; 0 of 0 have"):
        draw(empty, KEY, FIVE_ONE)
