"""Shared fixtures: a small learnable image set, and real CIFAR-100 where it is.

Each imports what it needs: the process that hands out the tests needs none of it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The folder tests/methods would otherwise be taken for the package `methods`.
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pytest

if TYPE_CHECKING:
    from damaged_records import Folder
    from torch import Tensor

    from bench.data.images import ImageSet
    from bench.data.splits import Split
    from bench.training.batches import TrainingBatches

# At the start of each training Lightning reads what is installed, to find callbacks of other packages.
_entry_points = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **wanted: (
    () if wanted.get("group") == "pytorch_lightning.callbacks_factory" else _entry_points(**wanted)
)

DATA_ROOT = os.environ.get("FEWSHOT_DATA")
BASE, VALIDATION, NOVEL = 8, 5, 6

STARTING = re.compile(
    r"^(import|from) forked_runs\b|^from bench\.run\.processes import .*\bstart_method\b", re.M
)
"""What a file that starts processes imports."""

gc.disable()  # until all is imported


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look at it again and again."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # otherwise libraries report leaks at exit


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`, all files that start processes go to one worker.

    They start them from one that has imported everything, which takes as long as many tests.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    @functools.cache
    def group(file: str) -> str:
        text = (config.rootpath / file).read_text(encoding="utf-8")
        return "starts processes" if STARTING.search(text) else file

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(super()._split_scope(nodeid))

    return Scheduling(config, log)


def make_images(classes: int, each: int, size: int = 16, seed: int = 0) -> ImageSet:
    """Classes that differ in colour and stripes, under noise; the last third of each is held out."""
    from bench.data.images import ImageSet

    rng = np.random.default_rng(seed)
    colours = rng.uniform(60, 190, (classes, 3, 1, 1))
    stripes = 40 * np.sign(rng.normal(size=(classes, 1, 1, size)))
    noise = rng.normal(0, 45, (classes, each, 3, size, size))
    images = (colours + stripes)[:, None] + noise
    return ImageSet.build(
        "tiny",
        images.clip(0, 255).astype(np.uint8).reshape(-1, 3, size, size),
        np.repeat(np.arange(classes), each),
        np.tile(np.arange(each) >= each - each // 3, classes),
        [f"class{c:02d}" for c in range(classes)],
    )


@pytest.fixture(scope="session")
def tiny() -> ImageSet:
    """19 classes of 30 images of 16 x 16 pixels."""
    return make_images(BASE + VALIDATION + NOVEL, each=30)


@pytest.fixture(scope="session")
def tiny_split(tiny, tmp_path_factory) -> Split:
    """8 base, 5 validation and 6 novel classes of `tiny`."""
    from bench.data.splits import resolve

    parts = ["base"] * BASE + ["validation"] * VALIDATION + ["novel"] * NOVEL
    path = tmp_path_factory.mktemp("splits") / "tiny.csv"
    lines = [f"{name},{part}" for name, part in zip(tiny.class_names, parts, strict=True)]
    path.write_text("\n".join(["class,part", *lines]))
    return resolve(tiny, str(path))


@pytest.fixture(scope="session")
def raw_batches(tiny, tiny_split) -> Callable[..., TrainingBatches]:
    """Batches of `tiny` as raw pixels, neither cropped nor flipped."""
    import torch

    from bench.training.batches import TrainingBatches

    def made(spec, seed=0):
        where = seed, torch.device("cpu")
        batches = TrainingBatches(tiny, tiny_split, spec, lambda images: images.float(), *where)
        batches._take = lambda index, generator: batches.images[torch.from_numpy(index)]
        return batches

    return made


@pytest.fixture(scope="session")
def class_of(tiny, tiny_split) -> Callable[[Tensor], list[int]]:
    """Base class 0..7 of raw pixels; KeyError if they are not a base training image."""
    known = {
        tiny.images[i].numpy().tobytes(): tiny_split.base.index(int(tiny.labels[i])) for i in tiny_split.train
    }
    return lambda images: [known[image.numpy().tobytes()] for image in images]


@pytest.fixture(scope="session")
def cifar100() -> ImageSet:
    """Real CIFAR-100 from $FEWSHOT_DATA."""
    if DATA_ROOT is None or not list(Path(DATA_ROOT, "cifar100").glob("*.parquet")):
        pytest.skip("needs FEWSHOT_DATA, a folder with cifar100/*.parquet")
    from bench.data import sources

    return sources.load("cifar100", Path(DATA_ROOT), offline=True)


@pytest.fixture(scope="session")
def decoded(tmp_path_factory) -> Path:
    """A folder with the `images` of eight classes, and with a `cache` that has them decoded in two sizes."""
    from command_line import decode

    return decode(tmp_path_factory.mktemp("decoded"), 8, 16, 32)


@pytest.fixture(scope="module")
def workspace(decoded, tmp_path_factory) -> Iterator[Path]:
    """A working directory for all tests of a file, as `here` is one for each."""
    from command_line import settle

    folder = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        settle(decoded, folder, patch)
        yield folder


@pytest.fixture(scope="module")
def larger_workspace(tmp_path_factory) -> Iterator[Path]:
    """The same with 16 classes, which are its own."""
    from command_line import decode, settle

    folder = decode(tmp_path_factory.mktemp("workspace"), 16, 32)
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, folder, patch)
        yield folder


@pytest.fixture
def here(decoded, tmp_path, monkeypatch) -> Path:
    """A working directory with the images of eight classes, which are decoded once for all tests."""
    from command_line import settle

    settle(decoded, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def empty_folder(tmp_path, monkeypatch) -> None:
    """An empty working directory, which is `tmp_path`, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def unquestioned(monkeypatch) -> None:
    """Runs whose method is not asked about its contract: that is shown in other tests, and takes a while."""
    monkeypatch.setattr("bench.evaluation.contract.check", lambda *given: None)


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory) -> Path:
    """The folder of records of two tiny runs."""
    from damaged_records import run_methods

    return run_methods(tmp_path_factory.mktemp("run"))


@pytest.fixture
def folder(two_runs, tmp_path) -> Folder:
    """A copy of those records, to be damaged."""
    from damaged_records import Folder

    shutil.copytree(two_runs, tmp_path / "results")
    return Folder(tmp_path / "results")


@pytest.fixture
def nothing_published(monkeypatch) -> None:
    """No published results, which are most of a small leaderboard."""
    monkeypatch.setattr("bench.reporting.published.published", lambda: ())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium, driven by Playwright. For one file only: an event loop of Playwright runs meanwhile."""
    names = "chromium", "chromium-browser", "google-chrome", "chrome"
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
