"""Splits: the published class lists, ratios, disjoint parts, and no copies on both sides."""

import dataclasses
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from random_sets import assert_sound, random_set

from bench.common.errors import UserError
from bench.data.images import ImageSet
from bench.data.names import check_split
from bench.data.splits import Split, resolve

# Bertinetto et al. 2019; Oreshkin et al. 2018.
CIFAR_FS_NOVEL = """
    baby, bed, bicycle, chimpanzee, fox, leopard, man, pickup_truck, plain, poppy, rocket, rose, snail,
    sweet_pepper, table, telephone, wardrobe, whale, woman, worm"""
CIFAR_FS_VALIDATION = """
    beaver, beetle, butterfly, camel, cattle, crab, crocodile, flatfish, lamp, maple_tree, motorcycle, otter,
    sea, shark, television, tractor"""
FC100_NOVEL = "aquatic_mammals, insects, medium_mammals, people"
FC100_VALIDATION = "large_carnivores, large_omnivores_and_herbivores, non-insect_invertebrates, small_mammals"
FC100_BASE = """
    fish, flowers, food_containers, fruit_and_vegetables, household_electrical_devices, household_furniture,
    large_man-made_outdoor_things, large_natural_outdoor_scenes, reptiles, trees, vehicles_1, vehicles_2"""
NOVEL_OF_90_10 = "train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf, woman, worm"
NOVEL_OF_90_10_3 = "apple, bear, bee, caterpillar, motorcycle, mountain, pine_tree, rabbit, skyscraper, trout"


def listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def names(data: ImageSet, classes) -> list[str]:
    return [data.class_names[c] for c in classes]


@pytest.fixture(scope="module")
def hundred() -> ImageSet:
    """The shape of CIFAR-100, other names: classes c00..c99, five to a superclass s00..s19."""
    return random_set(100, 4, held_out=2, superclasses=20)


def duplicates(data: ImageSet, split: Split) -> tuple[set[int], set[int]]:
    """All novel images, and those of them whose pixels also occur in training, compared pixel by pixel."""
    images, classes = data.images.numpy(), set(split.novel)
    in_training = {images[i].tobytes() for i in split.train.tolist()}
    novel = {i for i, label in enumerate(data.labels.tolist()) if label in classes}
    return novel, {i for i in novel if images[i].tobytes() in in_training}


def assert_pool(data: ImageSet, split: Split, images: int, copies: int) -> None:
    novel, dropped = duplicates(data, split)
    assert (len(novel), len(dropped), split.dropped) == (images, copies, copies)
    assert set(split.novel_images.tolist()) == novel - dropped


def test_cifar_fs_on_cifar100(cifar100):
    split = resolve(cifar100, "cifar-fs")
    assert_sound(cifar100, split)
    assert [len(classes) for classes in (split.base, split.validation, split.novel)] == [64, 16, 20]
    assert names(cifar100, split.novel) == listed(CIFAR_FS_NOVEL)
    assert names(cifar100, split.validation) == listed(CIFAR_FS_VALIDATION)
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [38_400, 9_600, 0]
    assert_pool(cifar100, split, images=12_000, copies=6)


def test_fc100_on_cifar100(cifar100):
    split = resolve(cifar100, "fc100")
    assert_sound(cifar100, split)
    lists = (split.base, FC100_BASE), (split.validation, FC100_VALIDATION), (split.novel, FC100_NOVEL)
    for classes, expected in lists:
        assert Counter(cifar100.superclass[c] for c in classes) == dict.fromkeys(listed(expected), 5)
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [36_000, 12_000, 0]
    assert_pool(cifar100, split, images=12_000, copies=1)


def test_90_10_on_cifar100(cifar100):
    split = resolve(cifar100, "90-10")
    assert_sound(cifar100, split)
    assert names(cifar100, split.novel) == listed(NOVEL_OF_90_10)
    assert len(split.train) == 45_000
    assert len(split.validation_images) == len(split.base_test) == 4_500
    assert not cifar100.held_out[split.train].any()
    assert cifar100.held_out[split.validation_images].all() and cifar100.held_out[split.base_test].all()
    for images in (split.validation_images, split.base_test):
        assert set(Counter(cifar100.labels[images].tolist()).values()) == {50}
    assert_pool(cifar100, split, images=6_000, copies=4)


def test_drawn_classes_on_cifar100(cifar100):
    """The classes that seed 3 draws stand behind records: they may never change."""
    split = resolve(cifar100, "90-10@3")
    assert names(cifar100, split.novel) == listed(NOVEL_OF_90_10_3)
    assert set(split.novel) != set(resolve(cifar100, "90-10").novel)


@pytest.mark.parametrize(
    "spec, base", [("80-20", 8), ("50-50", 5), ("20-80", 2), ("100-0", 10), ("65-35", 6)]
)
def test_ratios(noise, spec, base):
    split = resolve(noise, spec)
    assert_sound(noise, split)
    assert (split.name, split.base, split.validation) == (spec, tuple(range(base)), ())
    assert split.novel == tuple(range(base, 10))
    assert (len(split.train), len(split.novel_images)) == (7 * base, 12 * (10 - base))
    assert (len(split.validation_images), len(split.base_test)) == (2 * base, 3 * base)


def test_validation_is_the_half_with_the_lowest_digests(noise):
    split = resolve(noise, "80-20")
    for c in split.base:
        held_out = [i for i in range(len(noise)) if noise.labels[i] == c and noise.held_out[i]]
        held_out.sort(key=lambda i: hashlib.sha256(noise.images[i].numpy().tobytes()).hexdigest())
        assert set(held_out[:2]) <= set(split.validation_images.tolist())
        assert set(held_out[2:]) <= set(split.base_test.tolist())


def test_drawn_classes(noise):
    drawn = [resolve(noise, f"50-50@{seed}") for seed in range(8)]
    for split in drawn:
        assert_sound(noise, split)
        assert len(split.base) == len(split.novel) == 5
    assert len({split.base for split in drawn}) > 5
    assert drawn[3].base == resolve(noise, "50-50@3").base == (0, 2, 5, 6, 8)
    # Names decide, not positions, so that a new class moves few others.
    renamed = dataclasses.replace(noise, class_names=tuple("abcdefghij"))
    assert resolve(renamed, "50-50@3").base != drawn[3].base


def test_all_classes_are_drawn_equally_often(noise):
    counts = Counter(c for seed in range(200) for c in resolve(noise, f"50-50@{seed}").novel)
    assert all(65 < counts[c] < 135 for c in range(10))  # 100 +- 5 standard deviations


@pytest.mark.parametrize("spec", ["10-90", "90-10", "99-1", "90-10@1"])
def test_ratios_that_leave_too_few_classes(noise, spec):
    with pytest.raises(
        UserError, match=f"^--split {spec}: leaves fewer than 2 base or novel classes of the 10"
    ):
        resolve(noise, spec)


@pytest.mark.parametrize(
    "spec", ["090-10", "90-10@03", "90-20", "0-100", "ninety-ten", "90", "90-10@", "cifarfs", "", "90-10@-1"]
)
def test_invalid_names_of_splits(noise, spec):
    messages = []
    for refuse in (lambda: resolve(noise, spec), lambda: check_split(spec)):
        with pytest.raises(UserError) as caught:
            refuse()
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and messages[0].startswith(f"--split {spec}".rstrip() + ":")
    assert "\n" not in messages[0]


def test_the_nearest_name_comes_first(noise):
    with pytest.raises(UserError, match="did you mean cifar-fs"):
        resolve(noise, "cifarfs")


def test_duplicates_of_training_images_leave_the_novel_pool(noise):
    images, labels, held_out = noise.images.numpy().copy(), noise.labels.numpy(), noise.held_out.numpy()
    first = {part: np.flatnonzero((labels == 0) & (held_out == part))[0] for part in (False, True)}
    of_nine = np.flatnonzero(labels == 9)
    images[of_nine[0]] = images[first[False]]  # a copy of a training image: dropped
    images[of_nine[1]] = images[first[True]]  # of a base class's held-out image: stays
    images[of_nine[2]] = images[np.flatnonzero(labels == 8)[0]]  # of another novel image: stays
    data = ImageSet.build("copies", images, labels, held_out, list(noise.class_names))
    split = resolve(data, "80-20")
    assert_sound(data, split)
    assert_pool(data, split, images=24, copies=1)


def test_copies_within_a_class_stand_on_no_two_sides_of_an_episode(tmp_path):
    """Three copies of each image of noise: a copy in the support set would answer for a query."""
    rng = np.random.default_rng(0)
    one_each = rng.integers(0, 256, (10, 6, 3, 8, 8), dtype=np.uint8)
    images = np.repeat(one_each, 3, axis=1).reshape(-1, 3, 8, 8)
    labels, held_out = np.repeat(np.arange(10), 18), np.tile(np.repeat([False, True], [6, 12]), 10)
    data = ImageSet.build("copies", images, labels, held_out, [f"c{c}" for c in range(10)])
    split = resolve(data, "50-50")
    measured = torch.cat([split.validation_images, split.base_test, split.novel_images])
    pixels = [data.images[i].numpy().tobytes() for i in measured]
    assert len(set(pixels)) == len(pixels) == 5 * 4 + 5 * 6
    assert len(split.validation_images) == len(split.base_test) == 5 * 2
    assert len(split.train) == 5 * 6 and (split.copies, split.dropped) == (5 * 8 + 5 * 12, 0)
    lines = ["class,part", *(f"c{c},{('base', 'validation', 'novel')[c // 4]}" for c in range(10))]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    own = resolve(data, str(tmp_path / "own.csv"))
    assert len(own.validation_images) == 4 * 6 and len(own.novel_images) == 2 * 6


@pytest.mark.parametrize(
    "spec", [*(f"{base}-{100 - base}" for base in range(10, 100, 10)), "cifar-fs", "fc100"]
)
def test_cifar100_s_pools_hold_no_copies_within_a_class(cifar100, spec):
    """So that leaving copies out has changed no record."""
    assert resolve(cifar100, spec).copies == 0


def test_published_splits_go_by_position_elsewhere(hundred):
    split = resolve(hundred, "fc100")
    assert_sound(hundred, split)
    # Alphabetical places of FC100's superclasses among CIFAR-100's 20.
    assert {hundred.superclass[c] for c in split.novel} == {"s00", "s07", "s12", "s14"}
    assert {hundred.superclass[c] for c in split.validation} == {"s08", "s11", "s13", "s16"}
    assert [len(p) for p in (split.base, split.validation, split.novel)] == [60, 20, 20]
    assert (len(split.train), len(split.base_test)) == (240, 0)
    split = resolve(hundred, "cifar-fs")
    assert_sound(hundred, split)
    assert [len(p) for p in (split.base, split.validation, split.novel)] == [64, 16, 20]
    # baby, bed, bicycle, chimpanzee ... woman, worm among CIFAR-100's 100 names.
    assert (split.novel[:4], split.novel[-2:]) == ((2, 5, 8, 21), (98, 99))


@pytest.mark.parametrize("spec", ["cifar-fs", "fc100"])
def test_published_splits_need_the_shape_of_cifar100(noise, spec):
    with pytest.raises(
        UserError, match=f"^--split {spec}: needs 100 classes in 20 superclasses; noise has 10"
    ):
        resolve(noise, spec)
    flat = random_set(100, 2)
    with pytest.raises(UserError, match="noise has 100 classes in 1 superclasses"):
        resolve(flat, spec)


def test_a_base_class_without_training_images(noise):
    """It is left out, with its test images; the others are used as before."""
    held_out = noise.held_out | (noise.labels == 1)
    whole, without = (
        resolve(dataclasses.replace(noise, held_out=h), "50-50") for h in (noise.held_out, held_out)
    )
    assert without.no_training == (1,) and not whole.no_training
    assert without.base == tuple(c for c in whole.base if c != 1) and without.novel == whole.novel
    for part in ("train", "validation_images", "base_test", "novel_images"):
        index = getattr(whole, part)
        assert torch.equal(getattr(without, part), index[noise.labels[index] != 1])
    one = dataclasses.replace(noise, held_out=noise.held_out | (noise.labels != 0))
    with pytest.raises(
        UserError, match=r"^--split 50-50: leaves fewer than 2 base classes of noise that have"
    ):
        resolve(one, "50-50")
