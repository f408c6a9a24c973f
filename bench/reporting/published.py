"""Results as others published them, from `published.csv`: shown beside ours, never ranked among them."""

from __future__ import annotations

import csv
import functools
import io
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """What one source says of one method on one split.

    Attributes:
        method, backbone: as the source calls them.
        dataset, split: as ours are called where they are the same classes.
        setting: inductive, transductive, external-data, ...: what the numbers do not share with others.
            second-hand: copied from a table in another paper, or from a collection of results.
        source: who says so.
        values: metric key -> percent and half-width of the 95% interval, as printed there; the latter is
            empty where none was. Keys are those of records where they mean the same.
    """

    method: str
    backbone: str
    dataset: str
    split: str
    setting: str
    source: str
    values: dict[str, tuple[str, str]]


@functools.cache
def published() -> tuple[Published, ...]:
    """Every row, in the order of the file."""
    rows: dict[tuple[str, ...], Published] = {}
    text = (files("bench.reporting") / "published.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(io.StringIO(text)):
        metric, number = line.pop("metric"), (line.pop("value"), line.pop("ci95"))
        row = rows.setdefault(tuple(line.values()), Published(**line, values={}))
        row.values[metric] = number
    return tuple(rows.values())
