"""CIFAR-100 in all the ways it is stored, damaged, or absent."""

import hashlib
import io
import os
import pickle
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cifar100_files import TEST, TRAIN, Content, python2_pickle, table, write_parquet, write_pickles
from PIL import Image
from published_files import refused

from bench.data import cache, cifar100, download, inspect, sources
from bench.data.images import ImageSet

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def content() -> Content:
    return Content()


def check(data: ImageSet, content: Content) -> None:
    """Every image is there once, under its own class, superclass and part."""

    def described(pixels, label, part):
        return pixels.tobytes(), cifar100.FINE_NAMES[label], cifar100.COARSE_NAMES[label % 20], part

    expected = sorted(
        described(pixels.transpose(2, 0, 1), label, index >= TRAIN)
        for index, (pixels, label) in enumerate(zip(content.images, content.fine, strict=True))
    )
    found = sorted(
        (image.numpy().tobytes(), data.class_names[label], data.superclass[label], held_out)
        for image, label, held_out in zip(
            data.images, data.labels.tolist(), data.held_out.tolist(), strict=True
        )
    )
    assert found == expected
    assert data.name == "cifar100" and data.class_names == tuple(cifar100.FINE_NAMES)


@pytest.mark.parametrize("names", [True, False])
def test_parquet(tmp_path, content, names):
    check(sources.load("cifar100", write_parquet(tmp_path, content, names=names)), content)


def dump_newest(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def dump_bytes_keys(value: dict) -> bytes:
    return pickle.dumps({key.encode(): entry for key, entry in value.items()}, 2)


@pytest.mark.parametrize("dump", [python2_pickle, dump_newest, dump_bytes_keys])
def test_pickles(tmp_path, content, dump):
    check(sources.load("cifar100", write_pickles(tmp_path, content, dump)), content)


def test_torchvision_reads_the_same_images_from_the_same_folder(tmp_path, content):
    from torchvision.datasets import CIFAR100

    write_pickles(tmp_path, content)
    folder = tmp_path / "cifar-100-python"
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    checked = {
        "train_list": [["train", sums["train"]]],
        "test_list": [["test", sums["test"]]],
        "meta": {**CIFAR100.meta, "md5": sums["meta"]},
    }
    loader = type("Loader", (CIFAR100,), checked)
    data = sources.load("cifar100", tmp_path)
    for train in (True, False):
        theirs = loader(tmp_path, train=train)
        expected = sorted((np.asarray(image).tobytes(), theirs.classes[label]) for image, label in theirs)
        mine = (data.held_out != train).nonzero().flatten().tolist()
        found = [
            (data.images[i].permute(1, 2, 0).numpy().tobytes(), data.class_names[data.labels[i]])
            for i in mine
        ]
        assert sorted(found) == expected


def test_storage_does_not_change_the_fingerprint(tmp_path, content):
    roots = [
        write_parquet(tmp_path / "a", content, shards=1),
        write_parquet(tmp_path / "b", content, shards=3, names=False),
        write_pickles(tmp_path / "c", content),
    ]
    loaded = [sources.load("cifar100", root) for root in roots]
    assert len({data.fingerprint for data in loaded}) == 1
    for data in loaded[1:]:
        for name in cache.TENSORS:
            assert torch.equal(getattr(data, name), getattr(loaded[0], name))
    other = sources.load("cifar100", write_pickles(tmp_path / "d", Content(seed=1)))
    assert other.fingerprint != loaded[0].fingerprint


def test_the_folder_of_the_shards_given_instead_of_its_parent(tmp_path, content):
    write_parquet(tmp_path, content)
    assert f"--data-root {tmp_path} has it" in refused("cifar100", tmp_path / "cifar100")


def test_parquet_comes_before_pickles_and_a_change_of_files_is_seen(tmp_path, content):
    write_pickles(tmp_path, Content(seed=1))
    write_parquet(tmp_path, content)
    check(sources.load("cifar100", tmp_path), content)
    shutil.rmtree(tmp_path / "cifar100")
    check(sources.load("cifar100", tmp_path), Content(seed=1))
    shutil.rmtree(tmp_path / "cifar-100-python")
    check(sources.load("cifar100", write_pickles(tmp_path, Content(seed=2))), Content(seed=2))


def test_progress_of_each_file(tmp_path, content):
    seen = []
    sources.load("cifar100", write_parquet(tmp_path, content), progress=lambda *step: seen.append(step))
    assert seen == [
        ("decoding train-00000-of-00002.parquet", TRAIN // 2, TRAIN // 2),
        ("decoding train-00001-of-00002.parquet", TRAIN // 2, TRAIN // 2),
        ("decoding test-00000-of-00001.parquet", TEST, TEST),
    ]


def test_missing_shards_are_named(tmp_path, content):
    write_parquet(tmp_path, content, shards=3)
    (tmp_path / "cifar100/train-00001-of-00003.parquet").unlink()
    (tmp_path / "cifar100/test-00000-of-00001.parquet").unlink()
    assert "lacks train-00001-of-00003.parquet, test-*-of-*.parquet" in refused("cifar100", tmp_path)


def test_shards_of_an_older_set_are_not_read_twice(tmp_path, content):
    write_parquet(tmp_path, content, shards=2)
    pq.write_table(table(content, content.parts["train"]), tmp_path / "cifar100/train-00000-of-00001.parquet")
    check(sources.load("cifar100", tmp_path), content)


def test_missing_pickle_is_named(tmp_path, content):
    write_pickles(tmp_path, content)
    (tmp_path / "cifar-100-python/meta").unlink()
    assert "lacks meta" in refused("cifar100", tmp_path)


# Download


def archive_of(content: Content, tmp_path: Path) -> Path:
    """torchvision's archive with a few images in it."""
    made = write_pickles(tmp_path / "for-archive", content)
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made / "cifar-100-python", "cifar-100-python")
    return archive


@pytest.fixture
def published(tmp_path, content, serve, monkeypatch) -> Path:
    """A small archive in the place of the real one, served by this machine."""
    from torchvision.datasets import CIFAR100

    archive = archive_of(content, tmp_path)
    monkeypatch.setattr(CIFAR100, "url", f"{serve(tmp_path)}/{archive.name}")
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def test_download_into_the_root(tmp_path, content, published, capsys):
    root = tmp_path / "new" / "root"
    check(sources.load("cifar100", root), content)
    assert [path.name for path in root.iterdir()] == ["cifar-100-python"]
    assert "downloading CIFAR-100 (169 MB) from http://127.0.0.1:" in capsys.readouterr().err
    published.unlink()
    check(sources.load("cifar100", root), content)


def test_archive_in_the_root_needs_no_network(tmp_path, content, published):
    root = tmp_path / "root"
    root.mkdir()
    shutil.move(published, root / published.name)
    check(sources.load("cifar100", root, offline=True), content)


def test_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path, published):
    from torchvision.datasets import CIFAR100

    published.write_bytes(published.read_bytes()[:-100])
    message = refused("cifar100", tmp_path / "new" / "root")
    assert f"not downloaded: {CIFAR100.url}: File not found or corrupted" in message
    assert not (tmp_path / "new").exists()


def test_a_silent_host_is_given_up(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(CIFAR100, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz")
        assert "timed out" in download.download(cifar100.ARCHIVES, tmp_path / "new", offline=False)
    assert not (tmp_path / "new").exists()


def test_message_says_where_the_root_comes_from(tmp_path, monkeypatch):
    assert "the default data root is" in refused("cifar100", offline=True)
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path))
    assert f"$FEWSHOT_DATA is {tmp_path})" in refused("cifar100", offline=True)


# The real thing


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FEWSHOT_DATA"), reason="needs CIFAR-100 under $FEWSHOT_DATA")
class TestRealCifar100:
    @pytest.fixture(scope="class")
    def root(self) -> Path:
        return Path(os.environ["FEWSHOT_DATA"])

    @pytest.fixture(scope="class")
    def data(self, cifar100) -> ImageSet:
        return cifar100

    def test_counts(self, data):
        assert data.images.shape == (60_000, 3, 32, 32) and len(data.class_names) == 100
        assert set(torch.bincount(data.labels).tolist()) == {600}
        assert set(torch.bincount(data.labels[data.held_out]).tolist()) == {100}
        assert {data.superclass.count(name) for name in data.superclass} == {5}
        assert data.superclass[data.class_names.index("beaver")] == "aquatic_mammals"

    def test_fingerprint(self, data):
        assert data.fingerprint == "1b38f42d35d532d326c00be6bdcb9f3f317868025cc68b5915573dd27cfa226c"

    def test_known_duplicates(self, data):
        assert inspect.duplicates(data) == {
            "within_class": {"groups": 9, "images": 18},
            "across_classes": {"groups": 17, "images": 34},
            "train_and_held_out": {"groups": 10, "images": 20},
        }

    def test_twenty_images_decoded_by_hand(self, data, root):
        digests = {bytes(digest): i for i, digest in enumerate(data.digests.numpy())}
        for part in ("train", "test"):
            for shard in sorted((root / "cifar100").glob(f"{part}-*.parquet"))[-1:]:
                rows = pq.ParquetFile(shard).read_row_group(0).slice(5000, 10).to_pylist()
                for row in rows:
                    pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")).transpose(
                        2, 0, 1
                    )
                    index = digests[hashlib.sha256(pixels.tobytes()).digest()]
                    np.testing.assert_array_equal(data.images[index].numpy(), pixels)
                    assert data.class_names[data.labels[index]] == cifar100.FINE_NAMES[row["fine_label"]]
                    assert data.superclass[data.labels[index]] == cifar100.COARSE_NAMES[row["coarse_label"]]
                    assert bool(data.held_out[index]) == (part == "test")
