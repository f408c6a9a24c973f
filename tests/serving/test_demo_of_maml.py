"""The page of `demo` with a method that adapts its weights to every support set."""

from pathlib import Path

import numpy as np
import pytest
from served_run import QUICK_MAML, made


@pytest.mark.slow
def test_it_compares_and_classifies(place):
    from bench.demo import pictures
    from bench.demo.page import Page  # imports gradio, which takes seconds
    from bench.demo.runs import chosen

    record = made(place, "maml", *QUICK_MAML)
    page = Page(chosen("maml", Path("results"), Path("runs")), Path("results"), Path("runs"), None)
    assert page.record.run_id == record.run_id
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, pictures.SIDE, pictures.SIDE, 3), dtype=np.uint8)
    one, other = map(pictures.encode, pixels)
    assert "<strong>Same</strong>" in page.compare(one, one)
    classes = page.add(page.add((), one, "one")[0], other, "other")[0]
    probabilities, _ = page.classify(classes, one)
    assert set(probabilities) == {"one", "other"} and sum(probabilities.values()) == pytest.approx(1)
