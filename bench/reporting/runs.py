"""Tables of runs, one line each: all runs, and failed runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.reporting.blocks import NOTHING, Block, Cell, Code, Grid, Heading, Listing, Number, Prose, table
from bench.reporting.numbers import percent
from bench.reporting.ranking.tables import HIDDEN_PRESET

if TYPE_CHECKING:
    from pandas import DataFrame

FAILED = Prose("They have no numbers and no rank. A row with other seeds uses only these.")


def runs(frame: DataFrame) -> DataFrame:
    """One line per run.

    Args:
        frame: of records, from `bench.reporting.frame`.
    """
    return table(
        {
            "run": (row["run_id"],),
            "method": (row["name"],),
            "data set": (row["dataset"],),
            "split": (row["split"],),
            "seed": Number(str(row["seed"]), row["seed"]),
            "5w1s": ("failed",) if row["failure"] else _accuracy(row, "fewshot/5w1s"),
            "5w5s": _accuracy(row, "fewshot/5w5s"),
            "created": (f"{row['created']:%Y-%m-%d %H:%M}",),
            "device": (row["device"],),
            "command": (Listing(row["command"]),),
        }
        for row in frame.to_dict("records")
    )


def failures(frame: DataFrame) -> list[Block]:
    """A table of the failed runs; empty if there are none."""
    failed = frame[frame["failure"].notna() & (frame["preset"] != HIDDEN_PRESET)]
    if failed.empty:
        return []
    shown = table(
        {
            "method": (Code(row["name"]),),
            "backbone": (Code(row["backbone"]),),
            "data set, split": (Code(row["dataset"]), " ", Code(row["split"])),
            "seed": Number(str(row["seed"]), row["seed"]),
            "what happened": (row["failure"],),
            "date": (f"{row['created']:%Y-%m-%d}",),
        }
        for row in failed.sort_values("run_id").to_dict("records")
    )
    return [Heading(2, ("Failed runs",)), FAILED, Grid(shown, leading=1)]


def _accuracy(row: Mapping[Any, Any], key: str) -> Cell:
    value = row.get(key)
    if value is None or value != value:  # NaN: not measured
        return NOTHING
    return percent(value, row[f"{key}.low"], row[f"{key}.high"])
