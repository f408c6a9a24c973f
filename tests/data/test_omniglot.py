"""Omniglot from torchvision's folders and archives: whole, damaged, absent, downloaded."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from published_files import ALPHABETS, DRAWINGS, refused, write_omniglot, zip_omniglot

from bench.common.errors import UserError
from bench.data import inspect, omniglot, sources
from bench.data.images import ImageSet
from bench.data.published_splits import OMNIGLOT, OMNIGLOT_VALIDATION
from bench.data.splits import resolve

pytestmark = pytest.mark.usefixtures("isolated")

CHARACTERS = {
    f"{alphabet}/character{i:02d}": (part, alphabet)
    for part, alphabets in ALPHABETS.items()
    for alphabet, count in alphabets.items()
    for i in range(1, count + 1)
}


load = partial(sources.load, "omniglot")


def described(data: ImageSet) -> list[tuple[bytes, str]]:
    rows = zip(data.images, data.labels.tolist(), strict=True)
    return sorted((image.numpy().tobytes(), data.class_names[label]) for image, label in rows)


@pytest.mark.parametrize("size", [28, 105])
def test_torchvision_reads_the_same_drawings_from_the_same_folder(tmp_path, monkeypatch, size):
    from torchvision.datasets import Omniglot

    write_omniglot(tmp_path)
    monkeypatch.setattr(Omniglot, "zips_md5", zip_omniglot(tmp_path, tmp_path / "omniglot-py"))
    theirs = []
    for background in (True, False):
        dataset = Omniglot(tmp_path, background)
        for image, label in dataset:
            small = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
            theirs.append(((255 - np.stack([small] * 3)).tobytes(), dataset._characters[label]))
    data = load(tmp_path, image_size=None if size == 28 else size)
    assert data.images.shape == (len(CHARACTERS) * DRAWINGS, 3, size, size)
    assert described(data) == sorted(theirs)
    assert data.images.float().mean() < 64  # ink is white on black
    assert size == 28 or data.images.unique().tolist() == [0, 255]


def test_classes_alphabets_and_parts(tmp_path):
    data = load(write_omniglot(tmp_path))
    assert data.class_names == tuple(sorted(CHARACTERS))
    for name, superclass, part in zip(data.class_names, data.superclass, data.part, strict=True):
        folder, alphabet = CHARACTERS[name]
        background = "validation" if alphabet == "Tagalog" else "base"
        assert (superclass, part) == (alphabet, background if folder == "images_background" else "novel")
    assert set(Counter(data.labels.tolist()).values()) == {DRAWINGS}


def test_the_split(tmp_path):
    data = load(write_omniglot(tmp_path))
    split = resolve(data, "omniglot")
    assert resolve(data, "own").name == split.name == "omniglot"
    alphabets = {
        part: {data.superclass[c] for c in getattr(split, part)} for part in ("base", "validation", "novel")
    }
    assert alphabets == {"base": {"Greek", "Latin"}, "validation": {"Tagalog"}, "novel": {"Avesta", "ULOG"}}
    sizes = [
        len(index) for index in (split.train, split.validation_images, split.base_test, split.novel_images)
    ]
    assert sizes == [5 * DRAWINGS, 2 * DRAWINGS, 0, 5 * DRAWINGS]
    with pytest.raises(
        UserError, match=r"^--split mini-imagenet: can only be used with --dataset mini-imagenet"
    ):
        resolve(data, "mini-imagenet")


def test_published_numbers_of_the_split():
    """964 background and 659 evaluation characters; sizes of the alphabets as in Lake et al. 2015."""
    background = {
        "Alphabet_of_the_Magi": 20, "Anglo-Saxon_Futhorc": 29, "Arcadian": 26, "Armenian": 41,
        "Asomtavruli_(Georgian)": 40, "Balinese": 24, "Bengali": 46,
        "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14, "Braille": 26, "Burmese_(Myanmar)": 34,
        "Cyrillic": 33, "Early_Aramaic": 22, "Futurama": 26, "Grantha": 43, "Greek": 24, "Gujarati": 48,
        "Hebrew": 22, "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16, "Japanese_(hiragana)": 52,
        "Japanese_(katakana)": 47, "Korean": 40, "Latin": 26, "Malay_(Jawi_-_Arabic)": 40,
        "Mkhedruli_(Georgian)": 41, "N_Ko": 33, "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14, "Sanskrit": 42,
        "Syriac_(Estrangelo)": 23, "Tagalog": 17, "Tifinagh": 55,
    }  # fmt: skip
    assert set(sorted(background, key=background.__getitem__)[:5]) == set(OMNIGLOT_VALIDATION)
    validation = sum(background[alphabet] for alphabet in OMNIGLOT_VALIDATION)
    assert {part: classes for part, (classes, _) in OMNIGLOT.items()} == {
        "base": sum(background.values()) - validation,
        "validation": validation,
        "novel": 1623 - sum(background.values()),
    }


def test_ratio_splits_keep_the_last_six_drawings_of_base_characters(tmp_path):
    data = load(write_omniglot(tmp_path), image_size=105)
    last = {
        (255 - np.asarray(Image.open(path).convert("L"))).tobytes()
        for path in (tmp_path / "omniglot-py").rglob("*.png")
        if int(path.stem[-2:]) > 14
    }
    held_out = [image[0].numpy().tobytes() in last for image in data.images]
    assert data.held_out.tolist() == held_out
    split = resolve(data, "50-50")
    assert len(split.base) == 6
    counts = [len(index) // 6 for index in (split.train, split.validation_images, split.base_test)]
    assert counts == [14, 3, 3]


def test_hidden_files_do_not_count(tmp_path):
    place = write_omniglot(tmp_path) / "omniglot-py" / "images_background"
    (place / "Greek" / "character01" / "._0001_01.png").write_bytes(b"x")
    (place / ".trash" / "character01").mkdir(parents=True)
    (place / ".trash" / "character01" / "0001_01.png").write_bytes(b"x")
    assert load(tmp_path).class_names == tuple(sorted(CHARACTERS))


def test_another_size_is_another_set(tmp_path):
    first = load(write_omniglot(tmp_path))
    assert load(tmp_path, image_size=32).images.shape[2:] == (32, 32)
    assert torch.equal(load(tmp_path).images, first.images)


# Damage


def test_damaged_drawings_are_named(tmp_path):
    place = write_omniglot(tmp_path) / "omniglot-py"
    paths = sorted(place.rglob("*.png"))[3:5]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    message = refused("omniglot", tmp_path)
    assert message.startswith(f"--dataset omniglot: {place}: cannot read {paths[0].relative_to(place)} (")
    lines = inspect.verify("omniglot", tmp_path)
    assert [line.split(" (")[0] for line in lines] == [
        f"{place}: cannot read {path.relative_to(place)}" for path in paths
    ]


@pytest.mark.slow
def test_missing_drawings_and_characters_are_said(tmp_path, monkeypatch, capsys):
    published = {"base": (5, DRAWINGS), "validation": (2, DRAWINGS), "novel": (5, DRAWINGS)}
    monkeypatch.setattr(omniglot, "OMNIGLOT", published)
    place = write_omniglot(tmp_path) / "omniglot-py" / "images_evaluation" / "ULOG"
    assert inspect.verify("omniglot", tmp_path) == []
    load(tmp_path)
    assert capsys.readouterr().err == ""
    for path in (place / "character02").iterdir():
        path.unlink()
    next((place / "character03").iterdir()).unlink()
    assert inspect.verify("omniglot", tmp_path) == [
        "4 novel classes, not 5",
        "1 novel classes do not have 20 images: ULOG/character03 19",
    ]
    load(tmp_path)
    assert "is not the published omniglot" in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "omniglot-py" / "images_background").mkdir(parents=True)
    (tmp_path / "omniglot-py" / "images_evaluation").mkdir()
    message = refused("omniglot", tmp_path)
    assert f"{tmp_path / 'omniglot-py' / 'images_background'} does not contain <alphabet>/" in message


def test_info(tmp_path):
    found = inspect.info("omniglot", write_omniglot(tmp_path))
    assert (found["images"], found["classes"], found["superclasses"]) == (240, 12, 5)
    assert found["image_shape"] == [3, 28, 28] and found["where"] == str(tmp_path / "omniglot-py")


# Download


@pytest.fixture
def published(tmp_path, serve, monkeypatch):
    """The folder of a server of this machine that stands for torchvision's."""
    from torchvision.datasets import Omniglot

    folder = tmp_path / "served"
    sums = zip_omniglot(write_omniglot(tmp_path / "made"), folder)
    monkeypatch.setattr(Omniglot, "download_url_prefix", serve(folder))
    monkeypatch.setattr(Omniglot, "zips_md5", sums)
    return folder


@pytest.mark.slow
def test_download_into_the_root(tmp_path, published, capsys):
    root = tmp_path / "new" / "root"
    assert described(load(root)) == described(load(tmp_path / "made"))
    assert [path.name for path in root.iterdir()] == ["omniglot-py"]
    assert {path.name for path in (root / "omniglot-py").iterdir()} == set(ALPHABETS)
    message = capsys.readouterr().err
    assert "downloading Omniglot's images_background (9 MB) from http://127.0.0.1:" in message
    assert "B/s" in message  # torchvision's bar


def test_archives_in_the_root_need_no_network(tmp_path, published):
    (tmp_path / "root").mkdir()
    published.rename(tmp_path / "root" / "omniglot-py")
    assert described(load(tmp_path / "root", offline=True)) == described(load(tmp_path / "made"))


def test_a_damaged_archive_is_downloaded_again_but_not_offline(tmp_path, published):
    place = tmp_path / "root" / "omniglot-py"
    place.mkdir(parents=True)
    for part in ALPHABETS:
        (place / f"{part}.zip").write_bytes(b"PK")
    message = refused("omniglot", tmp_path / "root", offline=True)
    assert (
        f"not downloaded: --offline forbids it, and {place / 'images_background.zip'} is damaged" in message
    )
    assert described(load(tmp_path / "root")) == described(load(tmp_path / "made"))


def test_half_a_download_is_kept_and_completed(tmp_path, published):
    archive = published / "images_evaluation.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-9])
    root = tmp_path / "root"
    message = refused("omniglot", root)
    assert f"not found in {root / 'omniglot-py' / 'images_evaluation'} (--data-root is {root})" in message
    assert "images_evaluation.zip: File not found or corrupted" in message
    assert [path.name for path in (root / "omniglot-py").iterdir()] == ["images_background"]
    archive.write_bytes(whole)
    (published / "images_background.zip").unlink()
    assert described(load(root)) == described(load(tmp_path / "made"))
