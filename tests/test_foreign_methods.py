"""Whole runs of methods that are not of this package: from a file, and from an installed plug-in."""

from pathlib import Path

import pytest
from command_line import bench, complaint
from small_budget import small_budget

from bench.config.run_config import method_info
from bench.records import store
from methods.registry import ENTRY_POINT_GROUP, available, find, places

RUN = [
    "run", "--dataset", "folder:images", "--split", "50-50", "--image-size", "16",
    "--way", "3", "--shot", "2", "--query", "5", "--episodes", "50",
]  # fmt: skip
PIXELS = '''
from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.batches import Shuffled
from methods.method import Method, class_means


class NearestMean(Method):
    """Nearest mean of raw pixels; the one weight that it learns multiplies all of them."""

    family = "baseline"
    paper = "none"
    trains_on = "shuffled"

    @dataclass(frozen=True)
    class Hyperparameters:
        steps: int = 2  # training steps

    def __init__(self, backbone, hp, num_classes):
        super().__init__(backbone, hp, num_classes)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def batches(self):
        return Shuffled(16)

    def training_step(self, batch, batch_idx):
        return self.log_loss((self.scale * batch.images).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)

    def embed(self, images):
        return self.scale * images.flatten(1)

    def episode_logits(self, support, query):
        return -torch.cdist(query.float(), class_means(support))

    def similarity(self, a, b):
        return -(a - b).norm(dim=1)
'''


def record_of(method: str, measure: str) -> store.Record:
    answer = bench(*RUN, "--method", method, "--measure", measure)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


@pytest.mark.slow
def test_a_method_from_a_file_runs(workspace, unquestioned, monkeypatch):
    small_budget(monkeypatch, pairs=500)
    (workspace / "pixels.py").write_text(PIXELS)
    # It has no preset `smoke`, so its defaults, called `standard`, are run.
    record = record_of("pixels.py:NearestMean", "3w2s5q,pairs")
    assert (record.method, record.family, record.preset) == ("pixels", "baseline", "standard")
    assert record.hyperparameters == {"steps": 2} and record.trained
    assert record.metrics["fewshot/3w2s5q"].value > 0.6  # chance is 0.33


@pytest.mark.slow
def test_an_installed_plug_in_runs_and_is_listed(workspace, unquestioned, monkeypatch):
    place = workspace / "site"
    information = place / "pixel_methods-1.0.dist-info"
    information.mkdir(parents=True)
    (place / "pixel_methods.py").write_text(PIXELS)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pixel-methods\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nnearest_pixels = pixel_methods:NearestMean\n"
    )
    monkeypatch.syspath_prepend(str(place))
    caches = (available, find, places, method_info)
    for cached in caches:
        cached.cache_clear()
    try:
        assert "nearest_pixels" in bench("list", "methods").out
        record = record_of("nearest_pixels", "3w2s5q")
        assert record.sources.plugin == "pixel-methods 1.0"
        assert record.method == "nearest_pixels" and record.metrics["fewshot/3w2s5q"].value > 0.6
    finally:
        for cached in caches:
            cached.cache_clear()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pixels.py:Gone", "pixels.py has no class Gone; it has Near"),
        ("raises.py", "raises.py cannot be imported: RuntimeError: not today"),
    ],
)
def test_what_cannot_be_imported_is_one_line(workspace, name, expected):
    (workspace / "pixels.py").write_text(PIXELS)
    (workspace / "raises.py").write_text(PIXELS + "\nraise RuntimeError('not\\ntoday')\n")
    assert complaint(*RUN, "--method", name).startswith(f"--method {name}: {expected}")
