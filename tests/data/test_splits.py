"""Splits: the published class lists, disjoint parts, and normalisation that never sees a novel class."""

import dataclasses
import hashlib
import re
from collections import Counter

import numpy as np
import pytest
import torch

from bench.common.errors import UserError
from bench.data.images import ImageSet
from bench.data.joined import joined
from bench.data.names import check_split
from bench.data.normalisation import Normaliser
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


def random_set(
    classes: int, each: int, held_out: int = 0, superclasses: int = 0, prefix: str = "c"
) -> ImageSet:
    """Noise of 8 x 8 pixels; the last `held_out` of each class are set aside."""
    rng = np.random.default_rng(classes)
    digits = len(str(classes - 1))
    return ImageSet.build(
        "noise",
        rng.integers(0, 256, (classes * each, 3, 8, 8), dtype=np.uint8),
        np.repeat(np.arange(classes), each),
        np.tile(np.arange(each) >= each - held_out, classes),
        [f"{prefix}{c:0{digits}d}" for c in range(classes)],
        [f"s{c * superclasses // classes:02d}" for c in range(classes)] if superclasses else None,
    )


@pytest.fixture(scope="module")
def folder() -> ImageSet:
    """10 classes of 12 images, 5 of them held out."""
    return random_set(10, 12, held_out=5)


@pytest.fixture(scope="module")
def hundred() -> ImageSet:
    """The shape of CIFAR-100, other names: classes c00..c99, five to a superclass s00..s19."""
    return random_set(100, 4, held_out=2, superclasses=20)


def assert_sound(data: ImageSet, split: Split) -> None:
    """What holds for every split, in terms of labels and Python sets."""
    labels = data.labels.tolist()
    base, validation, novel = set(split.base), set(split.validation), set(split.novel)
    assert len(base) + len(validation) + len(novel) == len(base | validation | novel)
    parts = (split.train, split.validation_images, split.base_test, split.novel_images)
    images = [part.tolist() for part in parts]
    assert all(part == sorted(part) for part in images)
    assert sum(len(part) for part in images) == len({i for part in images for i in part})
    train, validation_images, base_test, novel_images = ({labels[i] for i in part} for part in images)
    assert train == base and novel_images == novel
    assert base_test <= base and validation_images <= (validation or base)


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


def test_normalisation_of_cifar100(cifar100):
    split = resolve(cifar100, "100-0")
    normalise = Normaliser(cifar100.images, split.train)
    # The constants that the literature gives for CIFAR-100's 50,000 training images.
    mean, std = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
    assert normalise.mean.flatten().tolist() == pytest.approx([255 * m for m in mean], abs=1e-3)
    assert normalise.std.flatten().tolist() == pytest.approx([255 * s for s in std], abs=1e-3)


@pytest.mark.parametrize(
    "spec, base", [("80-20", 8), ("50-50", 5), ("20-80", 2), ("100-0", 10), ("65-35", 6)]
)
def test_ratios(folder, spec, base):
    split = resolve(folder, spec)
    assert_sound(folder, split)
    assert (split.name, split.base, split.validation) == (spec, tuple(range(base)), ())
    assert split.novel == tuple(range(base, 10))
    assert (len(split.train), len(split.novel_images)) == (7 * base, 12 * (10 - base))
    assert (len(split.validation_images), len(split.base_test)) == (2 * base, 3 * base)


def test_validation_is_the_half_with_the_lowest_digests(folder):
    split = resolve(folder, "80-20")
    for c in split.base:
        held_out = [i for i in range(len(folder)) if folder.labels[i] == c and folder.held_out[i]]
        held_out.sort(key=lambda i: hashlib.sha256(folder.images[i].numpy().tobytes()).hexdigest())
        assert set(held_out[:2]) <= set(split.validation_images.tolist())
        assert set(held_out[2:]) <= set(split.base_test.tolist())


def test_drawn_classes(folder):
    drawn = [resolve(folder, f"50-50@{seed}") for seed in range(8)]
    for split in drawn:
        assert_sound(folder, split)
        assert len(split.base) == len(split.novel) == 5
    assert len({split.base for split in drawn}) > 5
    assert drawn[3].base == resolve(folder, "50-50@3").base == (0, 2, 5, 6, 8)
    # Names decide, not positions, so that a new class moves few others.
    renamed = dataclasses.replace(folder, class_names=tuple("abcdefghij"))
    assert resolve(renamed, "50-50@3").base != drawn[3].base


def test_all_classes_are_drawn_equally_often(folder):
    counts = Counter(c for seed in range(200) for c in resolve(folder, f"50-50@{seed}").novel)
    assert all(65 < counts[c] < 135 for c in range(10))  # 100 +- 5 standard deviations


@pytest.mark.parametrize("spec", ["10-90", "90-10", "99-1", "90-10@1"])
def test_ratios_that_leave_too_few_classes(folder, spec):
    with pytest.raises(
        UserError, match=f"^--split {spec}: leaves fewer than 2 base or novel classes of the 10"
    ):
        resolve(folder, spec)


@pytest.mark.parametrize(
    "spec", ["090-10", "90-10@03", "90-20", "0-100", "ninety-ten", "90", "90-10@", "cifarfs", "", "90-10@-1"]
)
def test_names_that_are_no_split(folder, spec):
    messages = []
    for refuse in (lambda: resolve(folder, spec), lambda: check_split(spec)):
        with pytest.raises(UserError) as caught:
            refuse()
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and messages[0].startswith(f"--split {spec}".rstrip() + ":")
    assert "\n" not in messages[0]


def test_the_nearest_name_comes_first(folder):
    with pytest.raises(UserError, match="did you mean cifar-fs"):
        resolve(folder, "cifarfs")


def test_duplicates_of_training_images_leave_the_novel_pool(folder):
    images, labels, held_out = folder.images.numpy().copy(), folder.labels.numpy(), folder.held_out.numpy()
    first = {part: np.flatnonzero((labels == 0) & (held_out == part))[0] for part in (False, True)}
    of_nine = np.flatnonzero(labels == 9)
    images[of_nine[0]] = images[first[False]]  # a copy of a training image: dropped
    images[of_nine[1]] = images[first[True]]  # of a base class's held-out image: stays
    images[of_nine[2]] = images[np.flatnonzero(labels == 8)[0]]  # of another novel image: stays
    data = ImageSet.build("copies", images, labels, held_out, list(folder.class_names))
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
    own = resolve(data, csv(tmp_path, "\n".join(lines)))
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
def test_published_splits_need_the_shape_of_cifar100(folder, spec):
    with pytest.raises(
        UserError, match=f"^--split {spec}: needs 100 classes in 20 superclasses; noise has 10"
    ):
        resolve(folder, spec)
    flat = random_set(100, 2)
    with pytest.raises(UserError, match="noise has 100 classes in 1 superclasses"):
        resolve(flat, spec)


GOOD = "class,part\nc0,base\nc1,base\nc2,base\nc7,novel\nc8,novel\n"


def csv(tmp_path, content: str | bytes):
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_a_csv_without_validation_classes(folder, tmp_path):
    split = resolve(folder, csv(tmp_path, GOOD))
    assert_sound(folder, split)
    assert (split.base, split.validation, split.novel) == ((0, 1, 2), (), (7, 8))
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [21, 6, 9]
    assert re.fullmatch(r"mine\.csv@[0-9a-f]{8}", split.name)


def test_a_csv_in_another_case_or_unicode_form(tmp_path):
    data = random_set(4, 6)
    data = dataclasses.replace(data, class_names=("Cat", "caf\u00e9", "dog", "owl"))
    split = resolve(data, csv(tmp_path, "class,part\ncat,base\nCAFE\u0301,base\ndog,novel\nowl,novel\n"))
    assert (split.base, split.novel) == ((0, 1), (2, 3))


def test_a_csv_with_validation_classes(folder, tmp_path):
    path = csv(tmp_path, GOOD + "c4,validation\nc5,validation\n")
    split = resolve(folder, path)
    assert_sound(folder, split)
    assert split.validation == (4, 5)
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [36, 24, 0]


def test_a_csv_may_name_classes_that_are_left_out(folder, tmp_path):
    """Those with too few readable images, of which loading the images has told."""
    path = tmp_path / "split.csv"
    lines = ["class,part", *(f"{name},base" for name in folder.class_names[:3])]
    path.write_text("\n".join(lines))
    expected = resolve(folder, str(path))
    path.write_text("\n".join([*lines, "Tiny,novel"]))
    found = resolve(dataclasses.replace(folder, left_out_classes=("tiny",)), str(path))
    assert (found.base, found.novel, found.name) == (expected.base, (), expected.name)
    novel = dataclasses.replace(random_set(4, 6), left_out_classes=("tiny",))
    for other in (folder, joined(folder, novel)):  # a split of two data sets names classes of the first
        with pytest.raises(UserError, match="has no class 'Tiny'"):
            resolve(other, str(path))


def test_a_csv_s_name_follows_its_content(folder, tmp_path):
    usual = resolve(folder, csv(tmp_path, GOOD)).name
    as_excel = "\ufeff" + "\r\n".join(
        ["part,class,note", "novel,c8,x", *(f"base, c{i} ,y" for i in (2, 1, 0))]
    )
    same = resolve(folder, csv(tmp_path, as_excel + "\r\nnovel,c7,z\r\n"))
    other = resolve(folder, csv(tmp_path, GOOD + "c9,novel\n"))
    assert same.name == usual != other.name


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD + "c33,novel\n", "line 7: noise has no class 'c33'; did you mean c"),
        (GOOD + "\n\ndog,novel\n", "line 9: noise has no class 'dog'; allowed: c0, c1"),
        (GOOD + "c3,nowel\n", "line 7: part 'nowel'; did you mean novel? allowed: base, validation, novel"),
        (GOOD + "c3\n", "line 7: part ''; allowed: base, validation, novel"),
        (GOOD + "c0,novel\n", "line 7: class 'c0' is listed twice"),
        (GOOD + "C0,novel\n", "line 7: class 'C0' is listed twice, first as 'c0'"),
        ("class,part,class\nc0,base,c1\n", "has 2 columns class; must have one"),
        ("part,class,part\nbase,c0,novel\n", "has 2 columns part; must have one"),
        (GOOD.replace("class,part\n", ""), "needs a header line `class,part` and one line per class"),
        ("class,part\n", "needs a header line `class,part` and one line per class"),
        ("", "needs a header line `class,part` and one line per class"),
        (b"\xff\xfe\x00", "cannot be read as UTF-8 text: 'utf-8' codec can't decode byte 0xff"),
        ("class,part\nc0,base\nc1,base\nc2,novel\n", "must have 0 or at least 2 novel classes"),
        (GOOD + "c4,validation\n", "must have 0 or at least 2 validation classes"),
        ("class,part\nc0,base\nc1,novel\nc2,novel\n", "needs at least 2 base classes"),
        (GOOD + "c" * 200_000 + ",base\n", "is not a CSV file: field larger than field limit"),
    ],
    ids=[
        "unknown class",
        "blank lines count",
        "unknown part",
        "no part",
        "twice",
        "twice, in another case",
        "two columns of classes",
        "two columns of parts",
        "no header",
        "header only",
        "empty",
        "not UTF-8",
        "one novel class",
        "one validation class",
        "one base class",
        "endless field",
    ],
)
def test_bad_csv_files(folder, tmp_path, content, message):
    path = csv(tmp_path, content)
    with pytest.raises(UserError) as caught:
        resolve(folder, path, "config.yaml: split")
    assert str(caught.value).startswith(f"config.yaml: split {path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_there(folder, tmp_path):
    path = str(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no such file; must be a CSV"):
        check_split(path)
    with pytest.raises(UserError, match=r"No such file"):
        resolve(folder, path)


def test_a_base_class_without_training_images(folder):
    """It is left out, with its test images; the others are used as before."""
    held_out = folder.held_out | (folder.labels == 1)
    whole, without = (
        resolve(dataclasses.replace(folder, held_out=h), "50-50") for h in (folder.held_out, held_out)
    )
    assert without.no_training == (1,) and not whole.no_training
    assert without.base == tuple(c for c in whole.base if c != 1) and without.novel == whole.novel
    for part in ("train", "validation_images", "base_test", "novel_images"):
        index = getattr(whole, part)
        assert torch.equal(getattr(without, part), index[folder.labels[index] != 1])
    one = dataclasses.replace(folder, held_out=folder.held_out | (folder.labels != 0))
    with pytest.raises(
        UserError, match=r"^--split 50-50: leaves fewer than 2 base classes of noise that have"
    ):
        resolve(one, "50-50")


def test_normalisation_sees_base_training_images_alone(folder):
    split = resolve(folder, "50-50")
    normalise = Normaliser(folder.images, split.train)
    base = folder.images[split.train].numpy().astype(np.float64)
    assert normalise.mean.flatten().tolist() == pytest.approx(base.mean(axis=(0, 2, 3)), rel=1e-6)
    assert normalise.std.flatten().tolist() == pytest.approx(base.std(axis=(0, 2, 3)), rel=1e-6)
    for index in (split.novel_images, split.base_test, split.validation_images):
        changed = folder.images.clone()
        changed[index] = 255 - changed[index]
        again = Normaliser(changed, split.train)
        assert torch.equal(again.mean, normalise.mean) and torch.equal(again.std, normalise.std)
    changed = folder.images.clone()
    changed[split.train[0]] = 255
    assert not torch.equal(Normaliser(changed, split.train).mean, normalise.mean)


def test_normalised_images_have_mean_0_and_deviation_1(folder):
    split = resolve(folder, "50-50")
    normalise = Normaliser(folder.images, split.train)
    made = normalise(folder.images[split.train])
    assert made.dtype == torch.float32 and made.is_contiguous(memory_format=torch.channels_last)
    assert made.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert made.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_images_of_one_grey_are_normalised_to_zero():
    images = torch.full((4, 3, 8, 8), 77, dtype=torch.uint8)
    assert Normaliser(images, torch.arange(4))(images).abs().max() == 0
