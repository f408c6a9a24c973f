"""What holds for every published data set: read once, absent, offline, or in a folder above the one given."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from cifar100_files import Content, write_pickles
from command_line import bench
from published_files import refused, write_mini, write_mnist, write_omniglot

from bench.data import cifar100, mini_imagenet, mnist, omniglot, sources
from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.training.batches import TrainingBatches
from methods import backbones
from methods.batches import Shuffled

pytestmark = pytest.mark.usefixtures("isolated")


class Published(NamedTuple):
    """A data set in small: how it is written and read, one of its parts on disk, and what is downloaded."""

    write: Callable[[Path], Path]
    module: ModuleType
    reads: str
    part: str
    download: str


SETS = {
    "cifar100": Published(
        lambda root: write_pickles(root, Content()),
        cifar100,
        "examine",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
    ),
    "mini-imagenet": Published(
        write_mini,
        mini_imagenet,
        "read",
        "mini-imagenet-cache-validation.pkl",
        f"{mini_imagenet.RECORD}/files/mini-imagenet-cache-train.pkl",
    ),
    "mnist": Published(
        write_mnist, mnist, "read", "MNIST/raw/t10k-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"
    ),
    "omniglot": Published(
        write_omniglot, omniglot, "read", "omniglot-py/images_evaluation", "images_background.zip"
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_reopening_does_not_read_again(tmp_path, monkeypatch, name):
    first = sources.load(name, SETS[name].write(tmp_path))
    monkeypatch.setattr(SETS[name].module, SETS[name].reads, None)
    again = sources.load(name, tmp_path)
    assert (again.fingerprint, again.part) == (first.fingerprint, first.part)
    assert torch.equal(again.images, first.images)


@pytest.mark.parametrize("name", SETS)
def test_neither_there_nor_to_be_had(tmp_path, name):
    root = tmp_path / "new"
    message = refused(name, root)
    assert message.startswith(f"--dataset {name}: not found in ")
    for part in (
        str(root / SETS[name].part),
        f"--data-root is {root}, which does not exist",
        f"{SETS[name].download}: <urlopen error [Errno -2] Name or service not known>",
        "with --data-root",
        "--dataset glyphs",
    ):
        assert part in message
    assert ("put the three files of" in message) == (name == "mini-imagenet")
    assert not root.exists() and socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", SETS)
def test_offline_does_not_try_and_names_what_is_missing(tmp_path, monkeypatch, name):
    missing = SETS[name].write(tmp_path) / SETS[name].part
    missing.unlink() if missing.is_file() else shutil.rmtree(missing)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    message = refused(name, tmp_path, offline=True)
    assert f"{missing} (--data-root is {tmp_path}), and not downloaded: --offline forbids it" in message
    answer = bench("data", "info", "--dataset", name, "--data-root", tmp_path, "--offline")
    assert answer == (2, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("cifar100", "cifar-100-python"),
        ("mini-imagenet", "mini-imagenet"),
        ("mnist", "MNIST"),
        ("mnist", "MNIST/raw"),
        ("omniglot", "omniglot-py"),
    ],
)
def test_folder_given_instead_of_its_parent(tmp_path, name, below):
    SETS[name].write(tmp_path)
    assert f"--data-root {tmp_path} has it" in refused(name, tmp_path / below)


@pytest.mark.parametrize("backbone", ["conv4", "resnet12-32"])
@pytest.mark.parametrize(("name", "size"), [("mini-imagenet", 84), ("omniglot", 28)])
def test_images_of_this_size_train(tmp_path, name, size, backbone):
    data = sources.load(name, SETS[name].write(tmp_path))
    split = resolve(data, name)
    normalise = Normaliser(data.images, split.train)
    stream = TrainingBatches(data, split, Shuffled(4), normalise, seed=0, device=torch.device("cpu"))
    images = next(iter(stream)).images
    assert images.shape == (4, 3, size, size)
    features = backbones.build(backbone)(images)
    assert features.shape[0] == 4 and features.isfinite().all()
