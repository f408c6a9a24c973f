"""Published data sets whose files are not as published: parquet shards, pickles, idx files, drawings."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bad_inputs import refusal
from cifar100_files import TEST, Content, table, write_parquet, write_pickles, write_shard
from published_files import digits, idx, mini_part, write_mini, write_mnist, write_omniglot

from bench.data import inspect

pytestmark = pytest.mark.usefixtures("isolated")

SHARD = "cifar100/test-00000-of-00001.parquet"
ROWS = TEST


def rows(column: str | None = None, values: pa.Array | None = None) -> pa.Table:
    """The test shard, one column of it replaced, or left out."""
    made = table(Content(), slice(0, ROWS))
    if column is None:
        return made
    place = made.column_names.index(column)
    return made.remove_column(place) if values is None else made.set_column(place, column, values)


def named(fine: list[str], coarse: list[str]) -> pa.Table:
    features = {"fine_label": {"names": fine}, "coarse_label": {"names": coarse}}
    return rows().replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def blobs(content: bytes | None) -> pa.Array:
    return pa.array(
        [{"bytes": content, "path": "x"}] * ROWS, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )


TABLES = {
    "no images": (lambda: rows("img"), "cannot be read: "),
    "no labels": (lambda: rows("fine_label"), "cannot be read: "),
    "no superclasses": (lambda: rows("coarse_label"), "cannot be read: "),
    "images are numbers": (lambda: rows("img", pa.array(range(ROWS))), "cannot be read: "),
    "images are text": (lambda: rows("img", pa.array(["x"] * ROWS)), "cannot be read: "),
    "images without bytes": (lambda: rows("img", pa.array([{"path": "x"}] * ROWS)), "cannot be read: "),
    "bytes are numbers": (lambda: rows("img", pa.array([{"bytes": 5}] * ROWS)), "cannot be read: Unsupporte"),
    "images are null": (lambda: rows("img", blobs(None)), f"{SHARD}: row 0: "),
    "images of zero bytes": (lambda: rows("img", blobs(b"")), f"{SHARD}: row 0: "),
    "images are pickles": (lambda: rows("img", blobs(pickle.dumps([]))), f"{SHARD}: row 0: "),
    "labels are text": (lambda: rows("fine_label", pa.array(["x"] * ROWS)), "cannot be read: Failed to pars"),
    "labels are NaN": (lambda: rows("fine_label", pa.array([np.nan] * ROWS)), "cannot be read: Float value"),
    "labels are null": (lambda: rows("fine_label", pa.nulls(ROWS, pa.int64())), "cannot be read: it has row"),
    "labels are lists": (lambda: rows("fine_label", pa.array([[1]] * ROWS)), "cannot be read: Unsupported c"),
    "labels of 100": (lambda: rows("fine_label", pa.array([100] * ROWS)), "its labels must be in 0..99"),
    "labels below 0": (lambda: rows("fine_label", pa.array([-1] * ROWS)), "its labels must be in 0..99"),
    "labels of 2^63": (
        lambda: rows("fine_label", pa.array([2**63] * ROWS, pa.uint64())),
        "cannot be read: Integer value 9223372036854775808 not in range",
    ),
    "superclasses of 20": (lambda: rows("coarse_label", pa.array([20] * ROWS)), "cannot be read: its labels"),
    "names of one class": (lambda: named(["a"], ["b"]), "cannot be read: its labels must be in 0..0"),
}  # fmt: skip

FILES = {
    "zero bytes": (lambda p: p.write_bytes(b""), f"{SHARD} cannot be read: "),
    "half of it": (lambda p: p.write_bytes(p.read_bytes()[:500]), f"{SHARD} cannot be read: "),
    "two marks and nonsense": (lambda p: p.write_bytes(b"PAR1nonsensePAR1"), f"{SHARD} cannot be read: "),
    "another format": (lambda p: p.write_bytes(pickle.dumps({})), f"{SHARD} cannot be read: "),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "cifar100 lacks test-*-of-*.parquet"),
    "a dead link": (lambda p: (p.unlink(), p.symlink_to("nowhere")), "cifar100 lacks test-*-of-*.parquet"),
    "the first of 10^11": (
        lambda p: p.rename(p.with_name("test-00000-of-99999999999.parquet")),
        "cifar100 lacks test-00001-of-99999999999.parquet, test-00002-of-",
    ),
}  # fmt: skip


def cifar(**changes: object) -> bytes:
    whole = {"data": np.zeros((4, 3072), np.uint8), "fine_labels": [0, 1, 2, 3], "coarse_labels": [0] * 4}
    return pickle.dumps({key: value for key, value in (whole | changes).items() if value is not None})


PICKLES = {
    "zero bytes": (b"", "train cannot be read: train: "),
    "half of it": (cifar()[:-100], "train cannot be read: train: "),
    "text": (b"hello", "train cannot be read: train: "),
    "no dictionary": (pickle.dumps([1]), "train cannot be read: train: it must contain a dictionary"),
    "no data": (cifar(data=None), "train cannot be read: it is not as torchvision stores it"),
    "no labels": (cifar(fine_labels=None), "train cannot be read: it is not as torchvision stores it"),
    "floats": (cifar(data=np.zeros((4, 3072))), "train cannot be read: its data must be uint8"),
    "lists": (cifar(data=[[0] * 3072 for _ in range(4)]), "train cannot be read: its data must be uint8"),
    "larger images": (cifar(data=np.zeros((4, 12288), np.uint8)), "train cannot be read: its data must be u"),
    "fewer labels": (cifar(fine_labels=[0]), "train cannot be read: it has 4 images, but 1 fine"),
    "labels in words": (cifar(fine_labels=list("abcd")), "train cannot be read: it is not as torchvision"),
    "labels of 100": (cifar(fine_labels=[100] * 4), "train cannot be read: its labels must be in 0..99"),
}  # fmt: skip


def mini(**changes: object) -> bytes:
    images, classes = mini_part("test")
    return pickle.dumps({"image_data": images, "class_dict": classes} | changes)


MINI = {
    "zero bytes": (b"", ""),
    "half of it": (mini()[:-100], ""),
    "a list": (pickle.dumps([1, 2]), "it must have image_data and class_dict"),
    "an array": (pickle.dumps(np.zeros(3)), "it must have image_data and class_dict"),
    "images alone": (pickle.dumps({"image_data": np.zeros((4, 84, 84, 3))}), "it must have image_data and"),
    "a number of classes": (mini(class_dict=3), "it must have image_data and class_dict"),
    "ragged classes": (mini(class_dict={"a": [[0], [1, 2]]}), "it must have image_data and class_dict"),
    "a list of images": (mini(image_data=[1]), "its image_data must be uint8"),
    "half an image": (mini(class_dict={"n1": [0.5]}), "the images of class n1 must be in 0..11"),
    "no classes": (mini(class_dict={}), "image 0 belongs to no class"),
    "no images": (mini(image_data=np.zeros((0, 84, 84, 3), np.uint8), class_dict={}), "it has no images"),
    "floats": (mini(image_data=np.zeros((12, 84, 84, 3))), "its image_data must be uint8"),
    "smaller images": (mini(image_data=np.zeros((12, 32, 32, 3), np.uint8)), "its image_data must be uint8"),
    "an empty class": (mini(class_dict={"n1": []}), "the images of class n1 must be in 0..11"),
    "an image too far": (mini(class_dict={"n1": [0, 12]}), "the images of class n1 must be in 0..11"),
    "an image below 0": (mini(class_dict={"n1": [-1]}), "the images of class n1 must be in 0..11"),
    "an image in two classes": (mini(class_dict={"n1": [0], "n2": [0]}), "class n2 shares images with"),
    "a class of another file": (mini(class_dict={"n01": [*range(12)]}), "class n01 is also in another file"),
    "a class named 5": (mini(class_dict={5: [0]}), "the class name 5 must be plain text"),
    "an escape sequence": (mini(class_dict={"\x1b[2J": [0]}), "the class name '\\x1b[2J' must be plain text"),
}  # fmt: skip

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
MNIST = {
    "zero bytes": (IMAGES, b"", f"{IMAGES} cannot be read: "),
    "half of it": (IMAGES, idx(digits("t10k")[0])[:500], f"{IMAGES} cannot be read: "),
    "a byte too many": (IMAGES, idx(digits("t10k")[0]) + b"x", f"{IMAGES} cannot be read: "),
    "text": (LABELS, b"hello, I am no idx file", f"{LABELS} cannot be read: "),
    "labels for images": (IMAGES, idx(digits("t10k")[1]), f"{IMAGES} cannot be read: "),
    "images for labels": (LABELS, idx(digits("t10k")[0]), f"{LABELS} cannot be read: "),
    "smaller images": (IMAGES, idx(np.zeros((20, 8, 8), np.uint8)), f"{IMAGES} does not contain images"),
    "no images": (IMAGES, idx(np.zeros((0, 28, 28), np.uint8)), f"{IMAGES} cannot be read: "),
    "fewer images": (IMAGES, idx(digits("t10k")[0][:5]), f"{IMAGES} has 5 images but 20"),
    "a label of 10": (LABELS, idx(np.full(20, 10, np.uint8)), f"{LABELS} has labels above 9"),
    "sizes beyond the file": (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12 + bytes(99), f"{IMAGES} cannot be read"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """A data root above the working directory, which stays empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "data"


def said_of(dataset: str, root: Path) -> str:
    said = refusal("data", "info", "--dataset", dataset, "--data-root", root, "--offline")
    assert said.startswith(f"--dataset {dataset}: ") and said.count(str(root)) >= 1
    return said


@pytest.mark.parametrize("name", TABLES)
def test_a_shard_with_other_columns(root, name):
    made, expected = TABLES[name]
    write_parquet(root, Content())
    write_shard(made(), root / SHARD)
    assert expected in said_of("cifar100", root)


@pytest.mark.parametrize("name", FILES)
def test_a_shard_that_is_not_parquet(root, name):
    change, expected = FILES[name]
    write_parquet(root, Content())
    change(root / SHARD)
    assert expected in said_of("cifar100", root)


def test_shards_without_rows(root):
    write_parquet(root, Content())
    for path in (root / "cifar100").iterdir():
        write_shard(rows().slice(0, 0), path)
    assert said_of("cifar100", root).endswith("cifar100 contains no images")


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_not_torchvision_s(root, name):
    content, expected = PICKLES[name]
    folder = write_pickles(root, Content()) / "cifar-100-python"
    (folder / "train").write_bytes(content)
    assert expected in said_of("cifar100", root)


@pytest.mark.parametrize("name", MINI)
def test_a_pickle_that_is_not_learn2learn_s(root, name):
    content, expected = MINI[name]
    write_mini(root)
    path = root / "mini-imagenet-cache-test.pkl"
    path.write_bytes(content)
    assert f"{path} cannot be " in said_of("mini-imagenet", root) and expected in said_of(
        "mini-imagenet", root
    )


@pytest.mark.parametrize("name", MNIST)
def test_a_file_that_is_not_idx(root, name):
    file, content, expected = MNIST[name]
    write_mnist(root)
    (root / "MNIST" / "raw" / file).write_bytes(content)
    assert expected in said_of("mnist", root)
    [line] = inspect.verify("mnist", root)
    assert expected in line


@pytest.mark.parametrize("content", [b"", b"no drawing"])
def test_a_drawing_that_cannot_be_read(root, content):
    write_omniglot(root)
    path = next((root / "omniglot-py" / "images_evaluation").rglob("*.png"))
    path.write_bytes(content)
    assert "cannot read images_evaluation/" in said_of("omniglot", root)
