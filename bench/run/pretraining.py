"""The pretraining: a classifier of the base classes, trained once for all runs that ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from bench.common.errors import UserError
from bench.config.run_config import BRIEF, RunConfig
from bench.records.schema import Pretraining
from bench.run import models
from bench.run.models import PRETRAINING, Card
from methods.base_classifier import BaseClassifier
from methods.pretraining import Pretraining as Wanted


def configured(config: RunConfig, wanted: Wanted) -> RunConfig:
    """The configuration of the pretraining of a run: all that decides its weights, and nothing else."""
    keys = {"dataset", "split", "seed", "backbone", "weights", "image_size", "precision"}
    # Runs of all presets share one, but for the brief ones, which see other images.
    preset = BRIEF if config.brief else config.backbone
    kept = config.model_dump(include=keys)
    return RunConfig(method=PRETRAINING.name, preset=preset, hyperparameters=asdict(wanted), **kept)


def obtain(classifier: BaseClassifier, folder: Path, identity: str, train: Callable[[], None]) -> Pretraining:
    """Load the weights that `folder` holds into `classifier`, or train it first.

    Args:
        classifier: as built.
        folder: of the pretraining, under ``--runs``.
        identity: SHA-256 of what decides the weights.
        train: trains `classifier` and saves it in `folder`.

    Returns:
        What a record says of it.
    """
    found = _finished(folder, identity)
    if found is None:
        train()
        found = _finished(folder, identity)
    if found is None:
        raise UserError("--runs", folder, "the pretraining that was written there is gone")
    card, weights = found
    assert card.training is not None
    classifier.load_state_dict(weights)
    return Pretraining(run_id=card.run_id, model=card.weights_sha256, **card.training.model_dump())


def _finished(folder: Path, identity: str) -> tuple[Card, dict[str, Tensor]] | None:
    """What the folder holds; None where it is missing, damaged or of another identity."""
    try:
        card = models.read_card(folder)
        weights = models.read_weights(folder, card)
    except UserError:
        return None
    return (card, weights) if card.identity == identity and card.training else None
