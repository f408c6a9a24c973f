"""The model behind the page: a recorded run's, or the embedding of characters that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bench.common.errors import UserError
from bench.demo import pictures
from bench.records import store
from bench.records.schema import MODEL_FILE, Record
from bench.reporting.run_page import find_run
from bench.run import models

SHIPPED = Path(__file__).with_name("embedding")
"""A folder of one record, and of its model in a folder of its name (`bench.demo.ship` puts them there)."""


class Run(NamedTuple):
    """A recorded run whose model is there, and the folder of models."""

    record: Record
    runs: Path


class Model:
    """Compares and classifies pictures.

    Args:
        run: with a model.

    Raises:
        UserError: its model is missing, damaged, or has no fixed embedding.
    """

    def __init__(self, run: Run) -> None:
        self.record = run.record
        self.method, self.normalise, card = models.load(run.runs / run.record.run_id)
        if not self.method.fixed_embedding or "similarity" not in card.thresholds:
            raise UserError(
                "--run", run.record.run_id, "must be of a method that compares embeddings of images"
            )
        self.size, self.threshold = card.image_size[0], card.thresholds["similarity"]
        self.temperature = card.hyperparameters.get("temperature", 1.0)

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """What the model sees of a picture: uint8 ``[3, size, size]``."""
        return pictures.fit(pixels, self.size)

    @torch.inference_mode()
    def embed(self, images: np.ndarray) -> torch.Tensor:
        """uint8 ``[N, 3, size, size]`` -> ``[N, D]``."""
        return self.method.embed(self.normalise(torch.from_numpy(images)))

    def similarity(self, a: np.ndarray, b: np.ndarray) -> float:
        """Of two images uint8 ``[3, size, size]``; at the threshold or above they show the same class."""
        first, second = self.embed(np.stack([a, b])).split(1)
        return float(self.method.similarity(first, second))

    def classify(self, support: np.ndarray, query: np.ndarray) -> list[float]:
        """Probabilities of the classes.

        Args:
            support: one image per class, uint8 ``[classes, 3, size, size]``.
            query: uint8 ``[3, size, size]``.
        """
        made = self.embed(np.concatenate([support, query[None]]))
        logits = self.method.episode_logits(made[None, :-1, None], made[None, -1:])[0, 0]
        return (logits / self.temperature).softmax(dim=0).tolist()


def shipped() -> Run:
    """The run whose model is in the package."""
    (path,) = SHIPPED.glob("*.json")
    return Run(store.read(path), SHIPPED)


def with_models(results: Path, runs: Path) -> dict[str, Run]:
    """Run id -> run, for all whose model is there; the shipped one is the first."""
    own = shipped()
    found = {own.record.run_id: own}
    for path in sorted(results.glob("*.json")) if results.is_dir() else ():
        if (runs / path.stem / MODEL_FILE).is_file():
            record = store.try_read(path)
            if isinstance(record, Record) and record.run_id not in found:
                found[record.run_id] = Run(record, runs)
    return found


def chosen(name: str | None, results: Path, runs: Path) -> Run:
    """The run that ``--run`` names; the shipped one if it is not given.

    Raises:
        UserError: there is no such run.
    """
    return shipped() if name is None else Run(store.read(find_run(results, name, "--run")), runs)
