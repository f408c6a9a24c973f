"""Names of folders, classes and images."""

import os

import pytest
from image_folders import SIZE, fill, load, random_pixels, refused, two_classes
from PIL import Image

from bench.data import sources


@pytest.mark.parametrize(
    "names",
    [
        ("Cat", "cat"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301"), ("\u00e9", "e\u0301"),
        ("cat", "cat "), ("cat", "ca\u200bt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("places", [("train", "test"), ("", "")])
def test_two_names_of_one_class_are_refused(pictures, names, places):
    """They would be two classes, of which one may be base and the other novel."""
    for first, (place, name) in enumerate(zip(places, names, strict=True)):
        fill(pictures / place / name, 2, first=10 * first)
        fill(pictures / place / "dog", 2, first=10 * first + 5)
    message = refused(pictures)
    assert all(ascii(name) in message or repr(name) in message for name in names)


def test_two_names_of_the_only_test_class_are_refused(pictures):
    for first, place in enumerate(("train/Cat", "train/dog", "test/cat")):
        fill(pictures / place, 2, first=10 * first)
    message = refused(pictures)
    assert "'Cat'" in message and "'cat'" in message


def test_characters_may_differ_in_case_alone(pictures):
    names = ("\u200b", "A", "a", "x2", "x\u00b2", "\ufeff")
    for first, name in enumerate(names):
        fill(pictures / name, 2, first=10 * first)
    assert load(pictures).class_names == tuple(sorted(names))


def test_one_folder_has_one_name(pictures, monkeypatch):
    two_classes(pictures)
    monkeypatch.chdir(pictures.parent)
    names = {sources.load(f"folder:{place}", image_size=SIZE).name for place in (
        "pictures", "pictures/", "./pictures", ".//pictures/."
    )}  # fmt: skip
    assert names == {"folder:pictures"}


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_that_are_not_utf8(pictures):
    two_classes(pictures)
    strange = os.fsdecode(os.fsencode(pictures / "b") + b"/\xe9.png")
    Image.fromarray(random_pixels(20)).save(strange)
    assert len(load(pictures)) == 5
