"""Generalized accuracy where some novel classes are too small for some shots: the others are measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pixel_prototypes import Pixels, join
from record_factory import make_record

from bench.config.run_config import resolve as configured
from bench.data.splits import resolve
from bench.evaluation.generalized import plan
from bench.records.recomputing import recompute
from bench.run.measurable import measured
from bench.run.recording import metrics_of
from bench.sampling.episodes import ClassPool

SMALL = {3: 8, 5: 15}  # position of a novel class -> its images


@pytest.fixture(scope="module")
def case(tiny):
    """9 base and 10 novel classes, two of which are small."""
    split = resolve(tiny, "47-53")
    labels = np.searchsorted(split.novel, tiny.labels[split.novel_images].numpy())
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    kept = place < np.array([SMALL.get(label, 30) for label in labels])
    return tiny, replace(split, novel_images=split.novel_images[torch.from_numpy(kept)])


def test_the_others_join(case):
    data, split = case
    found, whole = join(data, split, Pixels()), join(data, resolve(data, "47-53"), Pixels())
    joined = {f"generalized/9+{n}/{shot}s" for n, shot in ((10, 1), (10, 5), (9, 10), (8, 20))}
    keys = {key.rsplit("/", 1)[0] for key in found.metrics}
    assert keys == joined | {f"generalized/9+1/{shot}s" for shot in (0, 1, 5, 10, 20)}
    assert found.arrays["generalized/9+1/20s/novel"].shape == (8, 10)
    names = [data.class_names[c] for c in split.novel]
    assert {f"generalized/9+1/{s}s/novel" for s in (1, 5)} <= set(found.per_class[names[3]])
    assert not any("/10s/" in key or "/20s/" in key for key in found.per_class[names[3]])
    # Nothing joins before: the small classes change nothing.
    assert (
        found.arrays["generalized/9+1/0s/base"].tolist() == whole.arrays["generalized/9+1/0s/base"].tolist()
    )


def test_validate_recomputes_them(case):
    data, split = case
    found = join(data, split, Pixels())
    pools = {
        part: {
            data.class_names[c]: int(n) for c, n in zip(*np.unique(labels, return_counts=True), strict=True)
        }
        for part, labels in (
            ("base", data.labels[split.base_test].numpy()),
            ("novel", data.labels[split.novel_images].numpy()),
        )
    }
    metrics = metrics_of(found.metrics)
    counts = make_record().classes.model_dump() | {"base": 9}
    record = make_record(metrics=metrics, pools=pools, episodes={}, per_class={}, classes=counts)
    again = recompute(record, found.arrays, pools)
    assert not again.problems and again.metrics.keys() == metrics.keys()
    assert all(number.value == pytest.approx(metrics[key].value) for key, number in again.metrics.items())
    assert all(again.per_class[name].keys() == own.keys() for name, own in found.per_class.items())
    more = found.arrays | {"generalized/9+10/20s/novel": np.zeros((10, 10))}
    [problem] = recompute(record, more, pools).problems
    assert problem == "generalized/9+10/20s: must be 1 or 8 classes that join 9 base classes"


def test_they_are_named(case):
    data, split = case
    config = configured({"method": "protonet", "dataset": "glyphs", "measure": ["generalized"]}, {}, {})
    found, left_out = measured(config, split, data, Pixels())
    assert found.names == ["generalized"]
    small = [f"{data.class_names[split.novel[c]]} ({n})" for c, n in SMALL.items()]
    assert left_out == [
        f"generalized 10s of 1 novel class with fewer than 11 images: {small[0]}",
        f"generalized 20s of 2 novel classes with fewer than 21 images: {'; '.join(small)}",
    ]


def test_two_classes_are_needed():
    base = ClassPool(np.repeat(np.arange(9), 5))
    sizes = ClassPool(np.repeat(np.arange(3), [30, 12, 3]))
    left_out = ["generalized 20s (shot: at most 11, one less than two novel classes have)"]
    assert plan(Pixels(), base, sizes) == ([1, 5, 10], left_out)
