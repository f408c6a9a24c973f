"""Published results of others, from `published.csv`: shown beside ours, but not ranked."""

from __future__ import annotations

import csv
import functools
import io
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """Results of one method on one split from one source.

    Attributes:
        method, backbone: the source's names.
        dataset, split: our names if the classes are the same.
        setting: inductive, transductive, external-data, ...: differences from other rows.
            second-hand: copied from another paper, or from a collection of results.
        source: citation.
        values: metric key -> percent and half-width of the 95% interval, as printed; the latter is empty if
            not given. Keys are those of records if they mean the same.
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
