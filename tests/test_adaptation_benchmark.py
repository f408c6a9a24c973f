"""The speed benchmark of learning by gradient descent does the work it says; no timing is judged."""

import numpy as np
import pytest
import torch

from bench.data.images import ImageSet
from benchmarks import adaptation, ours


@pytest.fixture(scope="module")
def material() -> ours.Material:
    """100 classes of 20 random images in 20 superclasses."""
    images = np.random.default_rng(0).integers(0, 256, (2000, 3, 32, 32), dtype=np.uint8)
    classes = np.repeat(np.arange(100), 20)
    names = [f"class{c:02}" for c in range(100)], [f"group{c // 5:02}" for c in range(100)]
    return ours.Material.of(
        ImageSet.build("noise", images, classes, np.tile(np.arange(20) >= 15, 100), *names)
    )


def test_both_sides_get_the_same_episodes(material):
    batch = adaptation.episodes(material, 1)[0]
    assert batch.support.shape == (4, 5, 1, 3, 32, 32) and batch.query.shape == (4, 75, 3, 32, 32)
    parts = adaptation.alone(batch)
    assert len(parts) == 4 and torch.equal(parts[2].query[0], batch.query[2])
    peer = adaptation.in_default_layout(batch)
    assert torch.equal(peer.query, batch.query) and peer.query.is_contiguous()


@pytest.mark.slow
@pytest.mark.soak
def test_every_line_of_the_table_is_measured(material, monkeypatch):
    monkeypatch.setattr(adaptation, "TASKS", 1)
    counts = adaptation.Counts(steps=1, episodes=1, heads=2)
    rows = adaptation.timings(material, 1, counts, "32-true")
    assert [row.what.partition(",")[0] for row in rows] == [
        *["MAML training"] * 4,
        "MAML test episodes/s",
        "ANIL test episodes/s",
    ]
    assert all(float(row.ratio.rstrip("x").replace(",", "")) > 0 for row in rows)
    assert [bool(row.goal) for row in rows] == [True, False, True, False, False, False]
