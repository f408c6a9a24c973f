"""Runs without base classes (split `all-novel`): frozen embeddings, tested on all classes of a folder."""

from pathlib import Path

import pytest
from command_line import bench, complaint, write_images

from bench.demo.episodes import Browser
from bench.demo.runs import with_models
from bench.records.schema import MODEL_FILE
from bench.serving.predictor import load
from bench.serving.shipped import shipped

EMBEDDING = str(shipped().folder / MODEL_FILE)


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("few"), classes=3, each=3)
    assert bench("data", "info", "--dataset", "folder:few").code == 0  # which decodes them


def test_episodes_of_the_run_that_rank_makes_can_be_browsed():
    answer = bench("rank", "few", "--preset", "smoke", "--device", "cpu")
    assert answer.code == 0, answer.err
    [_, run] = with_models(Path("results"), Path("runs")).values()  # after the shipped one
    assert run.record.split == "all-novel"
    page = Browser(run, None).show(1, only_wrong=False)
    assert "Episode 1, 3w1s2q: " in page and page.count("<img") == 3 + 3 * 2
    found = load(run.record.run_id, runs="runs").calibration(2, 1)  # on the tested classes
    assert (found.way, found.shot, found.classes) == (
        2,
        1,
        "novel",
    ) and " of the run's data set)" in f"{found}"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("", "leaves no training images of base classes"),
        (
            f"--no-train --backbone conv4 --weights {EMBEDDING}",
            "leaves no training images of base classes to normalise with; allowed with timm's weights",
        ),
    ],
)
def test_what_needs_base_classes_is_refused(flags, problem):
    command = ("run", "--method", "nearest_centroid", "--preset", "smoke", "--dataset", "folder:few")
    assert complaint(*command, "--split", "all-novel", *flags.split()) == f"--split all-novel: {problem}"
