"""Names of data sets, and what load does with them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from published_files import refused

from bench.common.errors import UserError
from bench.data import glyphs, names, sources
from bench.data.images import ImageSet


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)


def test_data_root(tmp_path, monkeypatch):
    assert sources.data_root(None) == tmp_path / "user-cache" / "fewshot-bench"
    monkeypatch.setenv("FEWSHOT_DATA", "~/pictures")
    assert sources.data_root(None) == Path.home() / "pictures"
    assert sources.data_root(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "name, hint",
    [
        ("cifar10", "cifar100"),
        ("glyph", "glyphs"),
        ("mini_imagenet", "mini-imagenet"),
        ("Omniglot", "omniglot"),
        ("nmist", "mnist"),
        ("folder", "folder:PATH"),
        ("hf:", "hf:NAME"),
        ("Folder:x", "folder"),
    ],
)
def test_unknown_names_get_the_nearest(name, hint):
    message = refused(name)
    assert message.startswith(f"--dataset {name}: did you mean {hint}")
    assert all(known in message for known in names.DATASETS)


@pytest.mark.parametrize("name", ["", "imagenet", "cifar100:x", "glyphs:", "omniglot:28"])
def test_other_names_get_the_list(name):
    assert all(known in refused(name) for known in names.DATASETS)


@pytest.mark.parametrize("name", ["cifar100", "glyphs", "mini-imagenet", "mnist"])
def test_image_size_is_only_for_user_images(name):
    assert refused(name, image_size=32).startswith("--image-size 32: ")


@pytest.mark.parametrize("size", [0, -1, 7, 1025])
def test_image_size_out_of_range(size, tmp_path):
    assert refused(f"folder:{tmp_path}", image_size=size) == f"--image-size {size}: must be 8 to 1024 pixels"


def test_glyphs_are_generated_once_a_version(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    small = ImageSet.build("glyphs", pixels, np.arange(6) % 3, np.arange(6) > 3, ["a", "b", "c"])
    calls = []

    def generate(progress):
        calls.append(1)
        progress(1, 2)
        return small

    seen = []
    monkeypatch.setattr(glyphs, "generate", generate)
    for _ in range(2):
        assert (
            sources.load("glyphs", progress=lambda *step: seen.append(step)).fingerprint == small.fingerprint
        )
    assert calls == [1] and seen == [("drawing glyphs", 1, 2)]
    monkeypatch.setattr(glyphs, "GLYPHS_VERSION", -1)
    sources.load("glyphs", progress=lambda *step: None)
    assert calls == [1, 1]


def test_names_are_listed_without_heavy_imports():
    code = (
        "import sys; from bench.data.names import DATASETS; "
        "print(sorted({'torch', 'numpy', 'PIL', 'pyarrow', 'torchvision'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_two_data_sets_are_not_one():
    with pytest.raises(UserError, match=r"^--dataset glyphs -> letters: must be one data set here$"):
        sources.locate("glyphs -> letters")
