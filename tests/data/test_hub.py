"""Hugging Face data sets: the same images as from a folder, nothing run, nothing sent when offline."""

import io
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.common.errors import UserError
from bench.data import hub, sources
from bench.data.images import ImageSet

datasets = pytest.importorskip("datasets", reason="needs the extra hf")

SIZE = 8


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture(autouse=True)
def connections(monkeypatch) -> list[str]:
    """The hosts that were asked for; none answers."""
    asked = []

    def nobody(host, *arguments, **options):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    return asked


def fill(path: Path, count: int, first: int) -> None:
    path.mkdir(parents=True)
    for seed in range(first, first + count):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{seed}.png")


@pytest.fixture
def flat(tmp_path) -> Path:
    fill(tmp_path / "flat" / "b", 7, first=0)
    fill(tmp_path / "flat" / "a", 6, first=20)
    return tmp_path / "flat"


@pytest.fixture
def parts(tmp_path) -> Path:
    for i, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        fill(tmp_path / "parts" / name, 3, first=10 * i)
    return tmp_path / "parts"


def load(dataset: str, **options) -> ImageSet:
    return sources.load(dataset, image_size=SIZE, **options)


def assert_same_images(a: ImageSet, b: ImageSet) -> None:
    assert a.fingerprint == b.fingerprint and a.class_names == b.class_names
    assert (
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.held_out, b.held_out)
    )


def refused(name: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(f"hf:{name}", **options)
    assert str(caught.value).startswith(f"--dataset hf:{name}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_of_images_is_as_from_folder(flat, connections):
    ours = load(f"folder:{flat}")
    theirs = load(f"hf:{flat}")
    assert theirs.name == f"hf:{flat}" and ours.held_out.sum() == 2
    assert_same_images(ours, theirs)
    assert connections == []


def test_train_and_test_folders_are_as_from_folder(parts):
    ours = load(f"folder:{parts}")
    assert ours.held_out.sum() == 6
    assert_same_images(ours, load(f"hf:{parts}"))


def test_saved_to_disk_is_as_from_folder(parts, flat, tmp_path, connections):
    datasets.load_dataset(str(parts)).save_to_disk(str(tmp_path / "saved-parts"))
    datasets.load_dataset(str(flat), split="train").save_to_disk(str(tmp_path / "saved-flat"))
    assert_same_images(load(f"folder:{parts}"), load(f"hf:{tmp_path / 'saved-parts'}"))
    assert_same_images(load(f"folder:{flat}"), load(f"hf:{tmp_path / 'saved-flat'}"))
    assert connections == []


def test_reopening_does_not_decode(flat, monkeypatch):
    first = load(f"hf:{flat}")
    monkeypatch.setattr(hub, "read", None)
    assert_same_images(first, load(f"hf:{flat}"))


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def save(path: Path, columns: dict, features: dict, **splits: slice) -> None:
    """Save images as bytes, with whatever other columns, as one split or several."""
    made = {
        split: datasets.Dataset.from_dict(
            {name: values[chosen] for name, values in columns.items()}, datasets.Features(features)
        )
        for split, chosen in splits.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(path))


def cells(count: int) -> list[dict]:
    return [{"bytes": png(seed), "path": None} for seed in range(count)]


def test_fine_labels_before_coarse_ones_which_are_superclasses(tmp_path):
    fine, coarse = (
        datasets.ClassLabel(names=["cat", "ant", "bee"]),
        datasets.ClassLabel(names=["mammal", "insect"]),
    )
    columns = {"coarse_label": [1, 0, 1, 1, 0, 1], "img": cells(6), "fine_label": [1, 0, 2, 1, 0, 2]}
    features = {"coarse_label": coarse, "img": datasets.Image(), "fine_label": fine}
    save(tmp_path / "saved", columns, features, train=slice(0, 3), test=slice(3, 6))
    data = load(f"hf:{tmp_path / 'saved'}")
    assert data.class_names == ("ant", "bee", "cat") and data.superclass == ("insect", "insect", "mammal")
    assert torch.bincount(data.labels).tolist() == [2, 2, 2] and data.held_out.sum() == 3


def test_label_is_preferred_and_any_class_label_will_do(tmp_path):
    names = datasets.ClassLabel(names=["x", "y"])
    columns = {"shape": [0, 1, 1, 0], "picture": cells(4), "label": [0, 0, 1, 1]}
    features = {"shape": names, "picture": datasets.Image(), "label": names}
    save(tmp_path / "one", columns, features, train=slice(0, 4))
    found = hub.find(str(tmp_path / "one"))
    assert (found.image, found.label, found.superclass) == ("picture", "label", None)
    del columns["label"], features["label"]
    save(tmp_path / "two", columns, features, train=slice(0, 4))
    assert hub.find(str(tmp_path / "two")).label == "shape"


def test_rows_without_label_do_not_count_and_other_splits_are_not_used(tmp_path, capsys):
    """With hidden test labels the validation images are the test images, as usual with ImageNet."""
    columns = {"image": cells(10), "label": [0, 1, 0, 1, -1, None, 0, 1, 0, 1]}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "unseen"])}
    splits = {"train": slice(0, 4), "test": slice(4, 6), "validation": slice(6, 8), "extra": slice(8, 10)}
    save(tmp_path / "saved", columns, features, **splits)
    data = load(f"hf:{tmp_path / 'saved'}")
    assert len(data) == 6 and data.held_out.sum() == 2 and data.class_names == ("x", "y")
    said = capsys.readouterr().err
    assert "extra not used, only " in said
    assert "left out 1 of 3 classes with fewer than 2 readable images: unseen (0)" in said
    assert "left out 2 rows without a label: test row 0; test row 1" in said
    splits["validation"] = splits["test"]
    save(tmp_path / "hidden", columns, features, **splits)
    assert not load(f"hf:{tmp_path / 'hidden'}").held_out.any()
    assert "has no labelled test images, so some images of each class are held out" in capsys.readouterr().err


def test_damaged_and_missing_images_are_left_out_and_named(tmp_path, capsys):
    images = cells(8)
    images[2]["bytes"] = images[2]["bytes"][:50]
    images[5] = None
    columns = {"image": images, "label": [0, 1] * 4}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])}
    save(tmp_path / "saved", columns, features, train=slice(0, 8))
    assert len(load(f"hf:{tmp_path / 'saved'}")) == 6
    message = capsys.readouterr().err
    assert (
        "left out 2 of 8 images" in message
        and "train row 2 (" in message
        and "train row 5 (no image)" in message
    )


def test_two_names_of_one_class_are_refused(tmp_path):
    columns = {"image": cells(8), "label": [0, 1] * 4}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["Cat", "cat"])}
    save(tmp_path / "saved", columns, features, train=slice(0, 8))
    assert "classes 'Cat' and 'cat' differ only in case" in refused(str(tmp_path / "saved"))


def test_no_labelled_images(tmp_path):
    save(
        tmp_path / "saved",
        {"image": cells(2), "n": [1, 2]},
        {"image": datasets.Image(), "n": datasets.Value("int64")},
        train=slice(0, 2),
    )
    assert "it has image (Image), n (Value)" in refused(str(tmp_path / "saved"))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_missing_folder_is_not_looked_for_on_the_hub(name, connections):
    assert refused(name).endswith("no such folder")
    assert connections == []


def test_offline_asks_nobody(connections):
    message = refused("uoft-cs/cifar100", offline=True)
    assert "cannot be opened with --offline" in message
    assert connections == []
    assert not datasets.config.HF_HUB_OFFLINE


def test_unreachable_hub_is_one_line(connections, monkeypatch, capsys):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between retries
    assert "hf:uoft-cs/cifar100: cannot be opened: " in refused("uoft-cs/cifar100")
    assert connections
    assert "Retrying" not in capsys.readouterr().err


def test_script_of_a_data_set_is_not_run(tmp_path, flat):
    """Before version 4, `datasets` ran a script that is called as its folder, or asked whether it may."""
    target = tmp_path / "made-by-the-script"
    script = f"import pathlib; pathlib.Path({str(target)!r}).touch()\n"
    (flat / "flat.py").write_text(script)
    with suppress(UserError):
        load(f"hf:{flat}")
    assert not target.exists()


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "`uv run --extra hf python -m bench ...`" in refused("uoft-cs/cifar100")
