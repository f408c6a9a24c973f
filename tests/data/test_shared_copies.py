"""Images on both sides, training and test: reported, and only trained on; classes left out are counted."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image
from record_factory import record_fields

from bench.data import inspect, sources
from bench.data.splits import resolve, with_labelled_novel
from bench.records.schema import Record

CLASSES, EACH = 6, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """train/ and test/ of 6 classes; of each class, 3 test images are copies of training images."""
    path = tmp_path_factory.mktemp("shared") / "own"
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for c in range(CLASSES):
            place = path / part / f"c{c}"
            place.mkdir(parents=True)
            for i in range(EACH):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")
    for c in range(CLASSES):
        for i in range(3):
            shutil.copy(path / "train" / f"c{c}" / f"{i}.png", path / "test" / f"c{c}" / f"{i}.png")
    lone = path / "train" / "lone"
    lone.mkdir()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(lone / "0.png")
    return path


@pytest.fixture(scope="module")
def data(folder):
    return sources.load(f"folder:{folder}")


def pixels(data, index) -> list[bytes]:
    return [bytes(row) for row in data.digests[index].numpy()]


def test_no_copy_of_a_training_image_is_tested(data):
    split = resolve(data, "50-50")
    trained = set(pixels(data, split.train))
    for part in (split.validation_images, split.base_test, split.novel_images):
        assert not trained & set(pixels(data, part))
        assert len(set(pixels(data, part))) == len(part)
    assert len(split.train) == 3 * EACH
    assert len(split.validation_images) + len(split.base_test) == 3 * (EACH - 3)
    assert split.copies == 6 * 3  # base: copies of trained images; novel: within the class


def test_nor_one_of_a_labelled_novel_image(data):
    split = with_labelled_novel(data, resolve(data, "50-50"))
    assert not set(pixels(data, split.novel_labelled)) & set(pixels(data, split.novel_images))
    assert (len(split.novel_labelled), len(split.novel_images)) == (3 * EACH, 3 * (EACH - 3))


def test_published_test_sets_stay_as_published(data):
    published = dataclasses.replace(data, name="cifar100")
    split = resolve(published, "50-50")
    assert len(split.validation_images) + len(split.base_test) == 3 * EACH


def test_they_are_reported(folder, data):
    assert inspect.remarks(data) == "18 copies within a class, 18 images shared by training and test images"
    facts = inspect.info(f"folder:{folder}")
    assert facts["duplicates"]["train_and_held_out"] == {"groups": 18, "images": 36}
    found = inspect.verify(f"folder:{folder}")
    copies = [line for line in found if "has the pixels of" in line]
    assert len(copies) == 18
    assert copies[0].endswith("test/c0/0.png has the pixels of train/c0/0.png, a training image")


def test_classes_left_out_are_counted(folder, data):
    assert (data.left_out, data.left_out_classes) == (0, ("lone",))
    assert sources.load(f"folder:{folder}").left_out_classes == ("lone",)  # from the cache
    assert inspect.info(f"folder:{folder}")["left_out_classes"] == 1
    assert Record.model_validate(record_fields()).left_out_classes == 0  # older records do not say
