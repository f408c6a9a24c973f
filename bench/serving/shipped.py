"""The model that the package ships: an embedding of pictures of characters, a few hundred kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.records import store
from bench.records.schema import Record

SHIPPED = Path(__file__).with_name("embedding")
"""A folder of one record, and of its model in a folder of its name (`bench.demo.ship` puts them there)."""


class Run(NamedTuple):
    """A recorded run whose model is there, and the folder of models."""

    record: Record
    runs: Path

    @property
    def folder(self) -> Path:
        """The folder of the model."""
        return self.runs / self.record.run_id


def shipped() -> Run:
    """The run whose model is in the package."""
    (path,) = SHIPPED.glob("*.json")
    return Run(store.read(path), SHIPPED)
