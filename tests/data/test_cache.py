"""The decoded cache: right, atomic, shared and never in the way."""

import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, write_images
from filelock import FileLock
from image_folders import fill, load, random_pixels, two_classes
from PIL import Image

from bench.data import cache, listing, photos
from bench.data.images import ImageSet


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small_set(seed: int = 0, count: int = 40) -> ImageSet:
    rng = np.random.default_rng(seed)
    made = ImageSet.build(
        "small",
        rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8),
        rng.integers(0, 3, count),
        rng.integers(0, 2, count) == 1,
        ["b", "a", "ü\n"],
        ["y", "x", ""],
        ["novel", "base", ""],
    )
    return dataclasses.replace(made, left_out=7, notes=("b/\udce9.png (damaged)", "b/2.png"), chosen=True)


def assert_same(a: ImageSet, b: ImageSet) -> None:
    for name in cache.TENSORS:
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype and torch.equal(left, right), name
    for name in ("name", "class_names", "superclass", "part", "fingerprint", "left_out", "notes", "chosen"):
        assert getattr(a, name) == getattr(b, name)


def test_the_command_lists_the_cache_and_prunes_what_no_run_needs(folder, tmp_path, monkeypatch):
    """Touching one file four times leaves four copies more, of which one is needed."""
    monkeypatch.chdir(tmp_path)
    write_images(Path("images"), 3, 6)
    for moment in range(5):
        os.utime(Path("images", "class0", "00.png"), ns=(moment, moment))
        assert bench("data", "info", "--dataset", "folder:images").code == 0
    assert bench("data", "info", "--dataset", "folder:images", "--image-size", "16").code == 0
    (folder / "cut.safetensors").write_bytes(b"cut")
    (folder / "killed.tmp").write_bytes(b"killed")
    for moment, weights in enumerate(("old", "new")):  # of the shipped model
        (folder / f"calibration-{weights}.json").write_text("{}")
        os.utime(folder / f"calibration-{weights}.json", (moment, moment))
    listed = json.loads(bench("data", "cache", "--json").out)
    assert Counter(row["needed"] for row in listed) == {
        "yes": 3, "superseded": 5, "damaged": 1, "left over": 1
    }  # fmt: skip
    assert {row["images"] for row in listed if row["needed"] == "yes"} == {"18x3x32x32", "18x3x16x16", ""}
    assert "deleted 7 files" in bench("data", "cache", "--prune").out
    assert (
        sorted(path.suffix for path in folder.iterdir()) == [".json"] + [".lock"] * 2 + [".safetensors"] * 2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bench("data", "info", "--dataset", "folder:images").code == 0
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert "deleted 3 files" in bench("data", "cache", "--clear").out and not list(folder.iterdir())


def test_a_file_that_another_process_writes_is_kept(folder):
    folder.mkdir()
    (folder / "busy.tmp").write_bytes(b"half")
    (folder / "gone.tmp").symlink_to("nowhere")  # as if deleted while the files are listed
    with FileLock(folder / "busy.lock"):
        assert "deleted 0 files" in bench("data", "cache", "--clear").out and (folder / "busy.tmp").exists()
    assert "deleted 1 files" in bench("data", "cache", "--clear").out and not (folder / "busy.tmp").exists()


def never() -> ImageSet:
    raise AssertionError("built although it was cached")


def test_reopening_gives_the_same_set_without_building(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = cache.open_or_build("small 1", small_set)
        reopened = cache.open_or_build("small 1", never)
    assert_same(built, small_set())
    assert_same(reopened, small_set())
    assert sorted(path.suffix for path in folder.iterdir()) in ([".safetensors"], [".lock", ".safetensors"])


def test_the_file_has_the_mode_of_any_new_file(folder):
    cache.open_or_build("small 1", small_set)
    (folder / "new").touch(mode=0o644)
    assert cache.path_of("small 1").stat().st_mode == (folder / "new").stat().st_mode


def test_another_key_is_another_file():
    cache.open_or_build("small 1", small_set)
    other = cache.open_or_build("small 2", lambda: small_set(seed=1))
    assert_same(other, small_set(seed=1))


def test_names_with_strange_characters_make_a_plain_file_name(folder):
    path = cache.path_of("folder:../x/\udce9 y\0z")
    assert path.parent == folder and "/" not in path.name and path.name.startswith("folder-")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_images_are_mapped_and_writing_to_them_leaves_the_file_alone():
    data = cache.open_or_build("small 1", small_set)
    path = cache.path_of("small 1")
    before = path.read_bytes()
    address = data.images.data_ptr()
    ranges = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if path.name in line]
    bounds = [[int(end, 16) for end in fields[0].split("-")] for fields in ranges]
    assert any(low <= address < high for low, high in bounds)
    data.images[0] = 0
    assert path.read_bytes() == before
    assert_same(cache.read(path), small_set())


def damage_header(content: bytes) -> bytes:
    return content[:8] + b"\xff" * 20 + content[28:]


def damage_name(content: bytes) -> bytes:
    """Still a well-formed file, but with another class name."""
    return content.replace(rb"[\"a\", ", rb"[\"c\", ", 1)


def damage_pixel(content: bytes) -> bytes:
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


@pytest.mark.parametrize(
    "damage",
    [
        damage_header,
        damage_name,
        damage_pixel,
        lambda c: c[:-1],
        lambda c: c[: len(c) // 2],
        lambda c: b"",
        lambda c: b"x",
    ],
)
def test_damaged_file_is_rebuilt_with_one_line(damage, capsys):
    cache.open_or_build("small 1", small_set)
    path = cache.path_of("small 1")
    content = path.read_bytes()
    assert damage(content) != content
    path.write_bytes(damage(content))
    with pytest.raises(cache.DamagedError):
        cache.read(path)
    assert_same(cache.open_or_build("small 1", small_set), small_set())
    message = capsys.readouterr().err
    assert message.startswith("warning: the cache file") and message.count("\n") == 1 and str(path) in message
    assert_same(cache.open_or_build("small 1", never), small_set())
    assert capsys.readouterr().err == ""


def test_flipped_bytes_are_noticed_wherever_they_are():
    cache.open_or_build("small 1", lambda: small_set(count=2))
    path = cache.path_of("small 1")
    content = path.read_bytes()
    for i in range(0, len(content), 5):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x04]) + content[i + 1 :])
        with pytest.raises(cache.DamagedError):
            cache.read(path)


def _open(barrier, builds: Path, results: Path) -> None:
    def build() -> ImageSet:
        (builds / str(os.getpid())).touch()
        time.sleep(0.1)
        return small_set()

    barrier.wait()
    data = cache.open_or_build("small 1", build)
    (results / str(os.getpid())).write_text(data.fingerprint)


def test_processes_that_ask_at_once_build_once(tmp_path):
    builds, results = tmp_path / "builds", tmp_path / "results"
    builds.mkdir()
    results.mkdir()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_open, args=(barrier, builds, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(list(builds.iterdir())) == 1
    assert [path.read_text() for path in results.iterdir()] == [small_set().fingerprint] * 3


def test_full_disk_costs_a_warning_and_leaves_no_file(folder, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        data = cache.open_or_build("small 1", small_set)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(data, small_set())
    message = capsys.readouterr().err
    assert message.startswith("warning: the decoded images cannot be cached") and message.count("\n") == 1
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}


def test_unwritable_directory_costs_a_warning(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file" / "cache"))
    assert_same(cache.open_or_build("small 1", small_set), small_set())
    message = capsys.readouterr().err
    assert message.startswith("warning: the decoded images cannot be cached") and message.count("\n") == 1


def test_errors_of_the_build_pass_through_and_leave_nothing(folder):
    with pytest.raises(ZeroDivisionError):
        cache.open_or_build("small 1", lambda: 1 / 0)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert_same(cache.open_or_build("small 1", small_set), small_set())


def test_interrupted_write_leaves_the_old_file(folder, monkeypatch):
    cache.open_or_build("small 1", small_set)
    path = cache.path_of("small 1")
    before = path.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache._write(path, small_set(seed=1), cache.IMAGES)
    assert path.read_bytes() == before
    assert not list(folder.glob("*.tmp"))


def test_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory().parts[-2:] == ("fewshot-bench", "decoded")
    monkeypatch.setenv("FEWSHOT_CACHE", "~/mine")
    assert cache.directory() == Path.home() / "mine"


def test_key_follows_files_place_and_size(pictures, tmp_path):
    two_classes(pictures)
    keys = {listing.scan(pictures).key(8), listing.scan(pictures).key(16)}
    os.utime(pictures / "a" / "000.png", ns=(1, 1))
    keys.add(listing.scan(pictures).key(8))
    fill(pictures / "b", 1, first=20)
    keys.add(listing.scan(pictures).key(8))
    shutil.copytree(pictures, tmp_path / "copy")
    keys.add(listing.scan(tmp_path / "copy").key(8))
    assert len(keys) == 5
    assert listing.scan(pictures).key(8) == listing.scan(pictures).key(8)


def test_reopening_does_not_decode(pictures, monkeypatch):
    two_classes(pictures)
    first = load(pictures)
    monkeypatch.setattr(photos, "to_square", None)
    assert load(pictures).fingerprint == first.fingerprint


def test_a_file_replaced_by_another_of_its_name_size_and_time(pictures):
    """As tools that copy and unpack make them: the old pixels are not served."""
    two_classes(pictures, suffix=".bmp")
    first = load(pictures)
    replaced, times = pictures / "a" / "000.bmp", (pictures / "a" / "000.bmp").stat()
    Image.fromarray(random_pixels(99)).save(pictures / "new.bmp")
    (pictures / "new.bmp").replace(replaced)
    os.utime(replaced, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert replaced.stat().st_size == times.st_size and replaced.stat().st_mtime_ns == times.st_mtime_ns
    second = load(pictures)
    assert second.fingerprint != first.fingerprint
    replaced.write_bytes((pictures / "a" / "001.bmp").read_bytes())  # the same inode, written in place
    os.utime(replaced, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(pictures).fingerprint not in (first.fingerprint, second.fingerprint)
