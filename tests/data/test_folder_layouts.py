"""Folders of images: which images are of which class, and which are trained on, held out or novel."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_folders import SIZE, fill, load, random_pixels, seeds_of, two_classes

from bench.common.errors import UserError
from bench.config import run_config
from bench.data import photos, sources
from bench.data.images import ImageSet, pixel_digests
from bench.data.listing import default_split
from bench.data.splits import resolve


def test_classes_are_the_folders_and_pixels_are_kept(pictures):
    fill(pictures / "b", 3, first=0)
    fill(pictures / "a", 2, first=10)
    data = load(pictures)
    assert (
        data.name == f"folder:{pictures}" and data.class_names == ("a", "b") and data.superclass == ("", "")
    )
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    expected = {random_pixels(seed).transpose(2, 0, 1).tobytes(): seed >= 10 for seed in (0, 1, 2, 10, 11)}
    found = {
        image.numpy().tobytes(): bool(label == 0)
        for image, label in zip(data.images, data.labels, strict=True)
    }
    assert found == expected


def test_another_size_gives_the_same_images_in_the_same_order(pictures):
    for number, name in enumerate("ab"):
        fill(pictures / name, 14, first=20 * number)
    shutil.copy(pictures / "a" / "000.png", pictures / "b" / "copy.png")
    small, large = load(pictures), load(pictures, 3 * SIZE)
    assert small.drawn_by == large.drawn_by and small.fingerprint != large.fingerprint
    assert torch.equal(small.held_out, large.held_out) and torch.equal(small.labels, large.labels)
    for one, other in zip(small.images.float(), large.images.float(), strict=True):
        shrunk = F.interpolate(other[None], size=(SIZE, SIZE), mode="area")[0]
        assert torch.corrcoef(torch.stack([one.flatten(), shrunk.flatten()]))[0, 1] > 0.9
    usual = load(pictures, 32)
    assert usual.fingerprint == usual.drawn_by == small.drawn_by
    values = (part.numpy() for part in (large.images, large.labels, large.held_out))
    assert ImageSet.build("x", *values, list("ab")).fingerprint == large.fingerprint, "whatever the order"


def test_lowest_digests_are_held_out(pictures):
    """A sixth, but four of 12 to 23 images, so that pairs can be drawn of both halves."""
    sizes = {2: 0, 5: 0, 6: 1, 11: 1, 12: 4, 13: 4, 24: 4, 30: 5}
    for count in sizes:
        fill(pictures / f"{count:02}", count, first=100 * count)
    data = load(pictures)
    for label, (count, held_out) in enumerate(sizes.items()):
        # The canonical order is by digest, so the lowest come first.
        expected = [True] * held_out + [False] * (count - held_out)
        assert data.held_out[data.labels == label].tolist() == expected
    assert data.chosen


def test_lowest_digests_by_hand():
    images = np.stack([random_pixels(seed) for seed in range(12)])
    labels = np.arange(12) % 2
    made = pixel_digests(images)
    chosen, digests = photos.lowest_digests(made, labels), [bytes(digest) for digest in made]
    for label in (0, 1):
        lowest = min(range(label, 12, 2), key=digests.__getitem__)
        assert np.flatnonzero(chosen & (labels == label)).tolist() == [lowest]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Valid", "Testing")])
def test_train_val_and_test_of_the_same_classes(pictures, names, capsys):
    """As ImageNet has them: validation images choose the threshold, test images are base-test images."""
    for first, name in enumerate(names):
        for second, own in enumerate("abcd"):
            fill(pictures / name / own, 4, first=100 * first + 10 * second)
    data = load(pictures)
    assert data.class_names == ("a", "b", "c", "d") and len(data) == 48 and data.part == ("",) * 4
    split = resolve(data, "50-50")
    parts = (split.train, split.validation_images, split.base_test)
    for first, part in enumerate(parts):
        assert seeds_of(data.images[part]) == {100 * first + c + i for c in (0, 10) for i in range(4)}
    assert len(split.novel_images) == 24 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["val", "test"])
def test_train_and_one_other_part_of_the_same_classes(pictures, name):
    for first, part in enumerate(("train", name)):
        fill(pictures / part / "a", 4, first=100 * first)
        fill(pictures / part / "b", 4, first=100 * first + 10)
    data = load(pictures)
    assert seeds_of(data.images[data.held_out]) == {100, 101, 102, 103, 110, 111, 112, 113}
    split = resolve(data, "100-0")
    assert len(split.train) == 8 and len(split.validation_images) == len(split.base_test) == 4


@pytest.mark.parametrize("place", ["test", "test/unknown", "val/images"])
def test_train_beside_unlabelled_test_images(pictures, capsys, place):
    """As in competitions: test images without classes are counted, and others are held out and said to be."""
    for first, own in enumerate("ab"):
        fill(pictures / "train" / own, 24, first=100 * first)
    fill(pictures / place, 4, first=300)
    data = load(pictures)
    assert data.class_names == ("a", "b") and data.held_out.sum() == 8
    said = capsys.readouterr().err
    unused = "; ".join(f"{place}/{number}.png" for number in (300, 301, 302))
    assert f"left out 4 files that do not belong to a class: {unused}; ..." in said
    assert "has no labelled test images, so some images of each class are held out" in said


def test_images_in_the_only_folder_of_their_class(pictures, capsys):
    """As Tiny ImageNet has them: train/<class>/images/."""
    for first, own in enumerate("ab"):
        fill(pictures / "train" / own / "images", 24, first=100 * first)
        (pictures / "train" / own / "boxes.txt").touch()
    data = load(pictures)
    assert data.class_names == ("a", "b") and len(data) == 48
    assert "left out 2 files that do not belong to a class: train/a/boxes.txt" in capsys.readouterr().err


def disjoint(pictures: Path, *names: str) -> None:
    for first, name in enumerate(names):
        for second in range(2):
            fill(pictures / name / f"{name}{second}", 6, first=100 * first + 10 * second)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("base", "validation", "novel")])
def test_parts_of_different_classes_are_base_validation_and_novel(pictures, names):
    """As few-shot data sets have them."""
    disjoint(pictures, *names)
    assert default_split(f"folder:{pictures}") == "own"
    data = load(pictures)
    split = resolve(data, "own")
    found = [[data.class_names[c] for c in part] for part in (split.base, split.validation, split.novel)]
    assert found == [[f"{name}0", f"{name}1"] for name in names]
    parts = (split.train, split.validation_images, split.novel_images)
    for first, part in enumerate(parts):
        assert seeds_of(data.images[part]) == {100 * first + c + i for c in (0, 10) for i in range(6)}
    assert not len(split.base_test)


def test_two_parts_of_different_classes_are_base_and_novel(pictures):
    disjoint(pictures, "train", "test")
    data = load(pictures)
    split = resolve(data, "own")
    assert [len(part) for part in (split.base, split.validation, split.novel)] == [2, 0, 2]
    # Without validation classes some base images are held out.
    assert len(split.train) == 10 and split.novel_images.tolist() == list(range(12))


def test_novel_classes_beside_test_images_of_base_classes(pictures):
    disjoint(pictures, "train", "test")
    for second in range(2):
        fill(pictures / "test" / f"train{second}", 4, first=300 + 10 * second)
    data = load(pictures)
    split = resolve(data, "own")
    assert seeds_of(data.images[split.train]) == {c + i for c in (0, 10) for i in range(6)}
    held_out = torch.cat([split.validation_images, split.base_test])
    assert seeds_of(data.images[held_out]) == {c + i for c in (300, 310) for i in range(4)}
    assert seeds_of(data.images[split.novel_images]) == {c + i for c in (100, 110) for i in range(6)}


def test_lists_of_files(pictures):
    """train.csv, val.csv and test.csv beside images, as for mini-ImageNet."""
    fill(pictures / "images", 24)
    for first, part in enumerate(("train", "val", "test")):
        lines = [f"{8 * first + i:03d}.png,{part}{i % 2}" for i in range(8)]
        (pictures / f"{part}.csv").write_text("\n".join(["filename,label", *lines]))
    assert default_split(f"folder:{pictures}") == "own"
    data = load(pictures)
    split = resolve(data, "own")
    assert [len(part) for part in (split.base, split.validation, split.novel)] == [2, 2, 2]
    assert seeds_of(data.images[split.novel_images]) == set(range(16, 24))


def test_own_split_of_a_folder_without_one(pictures):
    disjoint(pictures, "x")
    two_classes(pictures, 3, 3)
    assert default_split(f"folder:{pictures}") == "90-10" == default_split("folder:nowhere")
    with pytest.raises(UserError, match="its train and test parts need at least 2 classes each"):
        resolve(load(pictures), "own")


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ({"backbone": "resnet18", "train": False}, "all-novel"),
        ({"backbone": "resnet18"}, "90-10"),
        ({"weights": "x", "train": False}, "90-10"),
        ({"backbone": "resnet18", "train": False, "split": "50-50"}, "50-50"),
        ({"backbone": "resnet18", "train": False, "measure": "5w1s,pairs"}, "90-10"),
    ],
)
def test_without_training_a_model_of_timm_is_tested_on_all_classes(given, split):
    config = run_config.resolve({"method": "nearest_centroid", "dataset": "folder:nowhere"} | given, {}, {})
    assert config.split == split


def test_classes_that_are_called_train_and_test(pictures):
    fill(pictures / "train", 2, first=0)
    fill(pictures / "test", 2, first=10)
    data = load(pictures)
    assert data.class_names == ("test", "train") and not data.held_out.any()


def test_links_to_folders_elsewhere(pictures, tmp_path):
    fill(tmp_path / "elsewhere" / "x", 2)
    fill(pictures / "b", 2, first=10)
    (pictures / "a").symlink_to(tmp_path / "elsewhere" / "x", target_is_directory=True)
    (tmp_path / "link").symlink_to(pictures, target_is_directory=True)
    assert load(tmp_path / "link").class_names == ("a", "b")


def test_progress_ends_at_the_total(pictures):
    two_classes(pictures, 30, 30)
    seen = []
    sources.load(f"folder:{pictures}", image_size=8, progress=lambda *step: seen.append(step))
    assert seen == [(f"decoding {pictures}", 32, 60), (f"decoding {pictures}", 60, 60)]


def test_default_size_is_32(pictures):
    two_classes(pictures)
    assert sources.load(f"folder:{pictures}").images.shape == (4, 3, 32, 32)
