"""MNIST from torchvision's files and archives: whole, damaged, absent, downloaded."""

from functools import partial

import numpy as np
import pytest
from command_line import bench
from published_files import MNIST_IMAGES, gzip_mnist, refused, write_mnist

from bench.common.errors import UserError
from bench.data import inspect, mnist, sources
from bench.data.images import ImageSet
from bench.data.splits import resolve

pytestmark = pytest.mark.usefixtures("isolated")


load = partial(sources.load, "mnist")


def described(data: ImageSet) -> list[tuple[bytes, str, bool]]:
    rows = zip(data.images, data.labels.tolist(), data.held_out.tolist(), strict=True)
    return sorted((image.numpy().tobytes(), data.class_names[c], test) for image, c, test in rows)


def test_torchvision_reads_the_same_digits_from_the_same_files(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path)
    theirs = [
        (np.stack([np.asarray(image)] * 3).tobytes(), str(label), not train)
        for train in (True, False)
        for image, label in MNIST(tmp_path, train)
    ]
    data = load(tmp_path)
    assert described(data) == sorted(theirs)
    assert data.images.shape == (60, 3, 28, 28) and data.class_names == tuple("0123456789")


def test_half_the_digits_are_novel(tmp_path):
    split = resolve(load(write_mnist(tmp_path)), "50-50")
    assert (split.base, split.novel) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    sizes = [
        len(index) for index in (split.train, split.validation_images, split.base_test, split.novel_images)
    ]
    assert sizes == [20, 0, 0, 30]  # one held-out image of a class for each half: it has no pair


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("90-10", "leaves fewer than 2 base or novel classes of the 10 in mnist"),
        ("omniglot", "can only be used with --dataset omniglot, not with mnist"),
    ],
)
def test_splits_that_do_not_fit(tmp_path, split, message):
    with pytest.raises(UserError, match=f"^--split {split}: {message}"):
        resolve(load(write_mnist(tmp_path)), split)


# Damage


def test_all_damaged_files_are_named(tmp_path):
    folder = write_mnist(tmp_path) / "MNIST" / "raw"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert "(and 3 more: `data verify` lists all)" in refused("mnist", tmp_path)
    assert len(inspect.verify("mnist", tmp_path)) == 4


def test_other_counts_than_the_published_are_said(tmp_path, monkeypatch, capsys):
    folder = write_mnist(tmp_path) / "MNIST" / "raw"
    load(tmp_path)
    assert f"warning: {folder} is not the published mnist" in capsys.readouterr().err
    assert inspect.verify("mnist", tmp_path) == [
        f"{folder / 'train-images-idx3-ubyte'}: 40 images, not 60000",
        f"{folder / 't10k-images-idx3-ubyte'}: 20 images, not 10000",
    ]
    monkeypatch.setattr(mnist, "IMAGES", MNIST_IMAGES)
    answer = bench("data", "verify", "--dataset", "mnist", "--data-root", tmp_path)
    assert answer == (0, "mnist: no damage found\n", "")


def test_info(tmp_path):
    found = inspect.info("mnist", write_mnist(tmp_path))
    assert (found["images"], found["held_out"], found["classes"]) == (60, 20, 10)
    assert found["image_shape"] == [3, 28, 28] and found["where"] == str(tmp_path / "MNIST" / "raw")


# Download


@pytest.fixture
def published(tmp_path, serve, monkeypatch):
    """The folder of a server of this machine, which is the second of torchvision's two mirrors."""
    from torchvision.datasets import MNIST

    folder = tmp_path / "served"
    sums = gzip_mnist(write_mnist(tmp_path / "made"), folder)
    monkeypatch.setattr(MNIST, "mirrors", ["http://gone.example/mnist/", f"{serve(folder)}/"])
    monkeypatch.setattr(MNIST, "resources", sums)
    return folder


def test_download_from_the_mirror_that_answers(tmp_path, published, capsys):
    root = tmp_path / "new" / "root"
    assert described(load(root)) == described(load(tmp_path / "made"))
    assert len(list((root / "MNIST" / "raw").iterdir())) == 4
    message = capsys.readouterr().err
    assert "downloading MNIST's train-images-idx3-ubyte (10 MB) from http://gone.example/mnist/" in message
    assert "downloading MNIST's train-images-idx3-ubyte (10 MB) from http://127.0.0.1:" in message


def test_packed_files_in_the_root_need_no_network(tmp_path, published):
    (tmp_path / "root" / "MNIST").mkdir(parents=True)
    published.rename(tmp_path / "root" / "MNIST" / "raw")
    assert described(load(tmp_path / "root", offline=True)) == described(load(tmp_path / "made"))


def test_no_mirror_has_the_published_file(tmp_path, published):
    path = published / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    message = refused("mnist", tmp_path / "new" / "root")
    assert "http://gone.example/mnist/train-images-idx3-ubyte.gz: <urlopen error" in message
    assert "train-images-idx3-ubyte.gz: File not found or corrupted" in message
    assert not (tmp_path / "new").exists()
