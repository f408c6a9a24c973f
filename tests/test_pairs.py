"""Pairs and triplets: right, fair and the same for ever."""

import hashlib

import numpy as np
import pytest
from scipy.stats import chisquare

from bench.sampling.episodes import ClassPool
from bench.sampling.pairs import draw_pairs, draw_triplets

KEY = "a fixed key"


@pytest.fixture(scope="module")
def pool() -> ClassPool:
    """Five classes of 2, 9, 30, 4 and 17 images."""
    return ClassPool(np.repeat(np.arange(5), [2, 9, 30, 4, 17]))


@pytest.fixture(scope="module")
def owner(pool) -> np.ndarray:
    return np.repeat(np.arange(5), pool.counts)


def sha256(arrays) -> str:
    return hashlib.sha256(b"".join(np.asarray(array, dtype="<i4").tobytes() for array in arrays)).hexdigest()


def test_golden_pairs():
    """The pairs behind every recorded number: a change here needs a new protocol version."""
    pool = ClassPool(np.repeat(np.arange(10), 600))
    assert (
        sha256(draw_pairs(pool, KEY, 20_000))
        == "4f0c8c5150443005deba278d8f917e791c8a48066d59602863bc76ebd0e18c9c"
    )


def test_golden_triplets():
    pool = ClassPool(np.repeat(np.arange(10), 600))
    assert (
        sha256(draw_triplets(pool, KEY, 20_000))
        == "1ca6abd8d5337bddebe279a951337f9fc2348395ce1f4de23afbf335240659dc"
    )


def test_half_of_the_pairs_show_one_class(pool, owner):
    a, b, same = draw_pairs(pool, KEY, 20_000)
    assert same.sum() == 10_000
    assert ((owner[a] == owner[b]) == same).all()


def test_no_image_is_paired_with_itself(pool):
    a, b, _ = draw_pairs(pool, KEY, 20_000)
    assert (a != b).all()
    anchor, positive, negative = draw_triplets(pool, KEY, 20_000)
    assert (anchor != positive).all() and (anchor != negative).all() and (positive != negative).all()


def test_triplets_have_the_right_classes(pool, owner):
    anchor, positive, negative = draw_triplets(pool, KEY, 20_000)
    assert (owner[anchor] == owner[positive]).all()
    assert (owner[anchor] != owner[negative]).all()


def test_all_images_and_class_pairs_are_equally_likely(pool, owner):
    a, b, same = draw_pairs(pool, KEY, 40_000)
    for images in (a[same], b[same], a[~same], b[~same]):
        assert chisquare(np.bincount(owner[images], minlength=5)).pvalue > 0.001
        for c in range(5):
            assert chisquare(np.bincount(images[owner[images] == c] - pool.starts[c])).pvalue > 0.001
    two = np.bincount(owner[a[~same]] * 5 + owner[b[~same]], minlength=25).reshape(5, 5)
    assert chisquare(two[~np.eye(5, dtype=bool)]).pvalue > 0.001
    largest = same & (owner[a] == 3)  # 4 images: 12 ordered pairs of two
    pairs = np.bincount((a[largest] - 41) * 4 + b[largest] - 41, minlength=16).reshape(4, 4)
    assert chisquare(pairs[~np.eye(4, dtype=bool)]).pvalue > 0.001


def test_triplets_are_equally_likely(pool, owner):
    anchor, positive, negative = draw_triplets(pool, KEY, 40_000)
    for images in (anchor, positive, negative):
        assert chisquare(np.bincount(owner[images], minlength=5)).pvalue > 0.001
    two = np.bincount(owner[anchor] * 5 + owner[negative], minlength=25).reshape(5, 5)
    assert chisquare(two[~np.eye(5, dtype=bool)]).pvalue > 0.001


def test_two_classes_of_two_images_suffice():
    pool = ClassPool(np.array([4, 4, 9, 9]))
    a, b, same = draw_pairs(pool, KEY, 200)
    assert {frozenset(pair) for pair in zip(a[same].tolist(), b[same].tolist(), strict=True)} == {
        frozenset({0, 1}),
        frozenset({2, 3}),
    }
    assert set(zip(*(i.tolist() for i in draw_triplets(pool, KEY, 400)), strict=True)) == {
        (a, a ^ 1, n) for a in range(4) for n in ((2, 3) if a < 2 else (0, 1))
    }


def test_another_key_draws_others(pool):
    assert sha256(draw_pairs(pool, KEY, 100)) == sha256(draw_pairs(pool, KEY, 100))
    assert sha256(draw_pairs(pool, KEY, 100)) != sha256(draw_pairs(pool, "another key", 100))
    assert sha256(draw_triplets(pool, KEY, 100)) != sha256(draw_triplets(pool, "another key", 100))
