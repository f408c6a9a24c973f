"""The tables of bad input are as long as they are said to be."""

import importlib
from pathlib import Path

TABLES = ("flags", "config", "splits", "weights", "images", "records", "data")
AT_LEAST = 150


def test_there_are_enough_bad_inputs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data"))
    counts = {name: len(importlib.import_module(f"test_bad_input_{name}").CASES) for name in TABLES}
    print(f"{sum(counts.values())} bad inputs: {counts}")
    assert sum(counts.values()) >= AT_LEAST and min(counts.values()) >= 20
