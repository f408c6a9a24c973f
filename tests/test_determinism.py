"""The same command gives the same numbers; what ought not to matter does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, write_images

from bench.evaluation import contract, embedding, fewshot, verification
from bench.records import store
from bench.records.store import Record

pytestmark = pytest.mark.slow
COMMAND = [
    "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--split", "50-50", "--preset",
    "smoke", "--image-size", "16", "--steps", 6, "--set", "classes=4", "--device", "cpu",
    "--precision", "fp32", "--way", 3, "--shot", 2, "--query", 5, "--episodes", 200,
]  # fmt: skip
NOISE = 0.005
"""A similarity at the threshold, or two equally near classes, may go either way: one answer in 200."""
TRAINED_NOISE = 0.02
"""The same, where the training was rounded differently too."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images, decoded already, for commands in other folders."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "images", 8, 40, tint=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        patch.setattr(contract, "check", lambda *_: None)  # what methods promise is not asked again
        yield folder / "images"


def run(images: Path, folder: Path, seed: int = 0) -> tuple[Record, dict[str, np.ndarray]]:
    """The record and the arrays of the command, given in `folder`."""
    folder.mkdir()
    (folder / "images").symlink_to(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        answer = bench(*COMMAND, "--seed", seed)
    assert answer.code == 0, answer.err
    (path,) = (folder / "results" / "own").glob("*.json")
    with np.load(path.with_suffix(".npz")) as arrays:
        return store.read(path), dict(arrays)


@pytest.fixture(scope="module")
def first(images, tmp_path_factory):
    return run(images, tmp_path_factory.mktemp("first") / "here")


def test_the_same_command_gives_the_same_record_but_for_the_time(images, first, tmp_path):
    record, arrays = first
    again, own = run(images, tmp_path / "again")
    times = {"created", "timings"}
    assert again.model_dump(exclude=times) == record.model_dump(exclude=times)
    assert again.created > record.created
    assert own.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(own[name], arrays[name], err_msg=name)


def assert_same_but_for_noise(images, first, folder, noise) -> None:
    record, _ = first
    assert 0.4 < record.metrics["fewshot/3w2s5q"].value < 0.95  # so that noise could show
    other, _ = run(images, folder)
    assert other.episodes == record.episodes and other.pools == record.pools
    assert other.metrics.keys() == record.metrics.keys()
    for key, metric in record.metrics.items():
        assert other.metrics[key].value == pytest.approx(metric.value, abs=noise), key


def test_how_much_is_evaluated_at_once_does_not_matter(images, first, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "BATCH", 37)
    monkeypatch.setattr(fewshot, "FLOATS_AT_ONCE", 10_000)
    monkeypatch.setattr(verification, "ROWS_AT_ONCE", 999)
    assert_same_but_for_noise(images, first, tmp_path / "small", NOISE)


def test_nor_does_the_number_of_threads(images, first, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert_same_but_for_noise(images, first, tmp_path / "threads", TRAINED_NOISE)
    finally:
        torch.set_num_threads(threads)


def test_another_seed_gives_other_numbers_on_the_same_episodes(images, first, tmp_path):
    record, arrays = first
    other, own = run(images, tmp_path / "seed", seed=1)
    assert other.episodes == record.episodes
    assert own.keys() == arrays.keys()
    for name in ("3w2s5q", "curve/loss", "novel/pair_scores"):
        assert not np.array_equal(own[name], arrays[name]), name
