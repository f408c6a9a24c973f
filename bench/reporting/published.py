"""Published results of others, from `published.csv`: in tables beside ours, without ranks."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Collection, Iterable
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from bench.records.naming import UNBALANCED, join
from bench.records.store import Record
from bench.reporting.blocks import (
    NOTHING,
    Block,
    Cell,
    Code,
    Heading,
    Number,
    Paragraph,
    table,
    without_empty_columns,
)
from bench.reporting.ranking.rows import COLUMNS

if TYPE_CHECKING:
    from pandas import DataFrame

HEADINGS = {
    **{key: heading for heading, (key, _) in COLUMNS.items() if key.startswith("fewshot/")},
    "fewshot/5w": "5w, shots not given",
    "novel/pair_accuracy@0.2": "novel pairs at 0.2",
    "novel/pair_accuracy_oracle": "novel pairs at best",
    "novel/pair_auc": "novel AUC",
    "novel/triplet_accuracy": "novel triplets",
    "base/pair_accuracy@0.2": "base pairs at 0.2",
    "base/pair_accuracy_oracle": "base pairs at best",
    "base/pair_auc": "base AUC",
    "base/triplet_accuracy": "base triplets",
    UNBALANCED: "unbalanced pairs",
    **{f"{join(40, 1, shots)}/novel": f"novel, {shots}-shot" for shots in (1, 5, 10, 20)},
}
"""Metric key -> heading."""

NOTE = (
    "As reported by their sources: with other episodes, budgets, image sizes and often other images. They "
    "are not ranked with the rows above. Pairs: at a threshold of 0.2, and at the best threshold of the "
    "tested pairs."
)


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


def published_beside(record: Record) -> list[Block]:
    """Published results on the classes of this record."""
    rows = [row for row in published() if (row.dataset, row.split) == (record.dataset, record.split)]
    return [Heading(3, ("Published",)), Paragraph((NOTE,)), _table(rows)] if rows else []


def elsewhere(shown: Collection[tuple[str, str]]) -> list[Block]:
    """Published results on (data set, split) not in `shown`: one table per kind of number."""

    def kind(row: Published) -> tuple[str, list[str]]:
        return row.dataset, sorted({key.split("/")[0] for key in row.values})

    rows = [row for row in published() if (row.dataset, row.split) not in shown]
    tables = [_table(list(own), places=True) for _, own in groupby(sorted(rows, key=kind), key=kind)]
    return [Heading(2, ("Published, without a row of ours",)), Paragraph((NOTE,)), *tables] if rows else []


def as_printed(value: tuple[str, str]) -> Cell:
    """A published number with its interval, as it was printed."""
    return Number(" ± ".join(part for part in value if part), float(value[0]))


def lines(rows: Iterable[Published]) -> DataFrame:
    """Published results, one line each."""
    return table(
        {
            "data set": (Code(row.dataset),),
            "split": (Code(row.split),),
            "method": (row.method,),
            "backbone": (row.backbone,),
            **{
                heading: as_printed(row.values[key]) if key in row.values else NOTHING
                for key, heading in HEADINGS.items()
            },
            "setting": (row.setting,),
            "source": (row.source,),
        }
        for row in rows
    )


def _table(rows: Iterable[Published], places: bool = False) -> Block:
    shown = lines(rows)
    return without_empty_columns(
        shown if places else shown.drop(columns=["data set", "split"]), 3 if places else 1
    )
