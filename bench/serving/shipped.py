"""The models that the package ships: two embeddings of characters, a few hundred kilobytes each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.records import store
from bench.records.schema import Record

SHIPPED = Path(__file__).with_name("embedding")
"""A folder of records, and of their models in folders named like their runs (see `bench.demo.ship`)."""

DRAWINGS, PICTURES = "letters", "glyphs"
"""What they were trained on: dark strokes on a plain background, or coloured characters on coloured ones."""


class Run(NamedTuple):
    """A recorded run whose model is there, and the folder of models."""

    record: Record
    runs: Path

    @property
    def folder(self) -> Path:
        """The folder of the model."""
        return self.runs / self.record.run_id


def shipped(data: str = PICTURES) -> Run:
    """The run in the package whose model was trained on `data`: for `DRAWINGS`, or for any `PICTURES`."""
    (path,) = SHIPPED.glob(f"*_{data}_*.json")
    return Run(store.read(path), SHIPPED)
