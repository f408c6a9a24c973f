"""Shared trainings: a classifier of the base classes, or a run that differs only in test-only values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from bench.common.errors import UserError
from bench.config.run_config import BRIEF, RunConfig
from bench.records.parts import SharedTraining
from bench.run import models
from bench.run.models import PRETRAINING, Card
from methods.method import Method
from methods.pretraining import Pretraining as Wanted


def configured(config: RunConfig, wanted: Wanted) -> RunConfig:
    """The configuration of a run's pretraining: only what determines its weights."""
    keys = {
        "dataset",
        "split",
        "seed",
        "backbone",
        "weights",
        "pretrained",
        "image_size",
        "augment",
        "precision",
        "train_on",
    }
    # Runs of all presets share one, except smoke runs, which see other images.
    preset = BRIEF if config.brief else config.backbone
    kept = config.model_dump(include=keys)
    return RunConfig(method=PRETRAINING.name, preset=preset, hyperparameters=asdict(wanted), **kept)


def obtain(
    trained: Method, folder: Path, identity: str, train: Callable[[], None]
) -> tuple[SharedTraining, SharedTraining | None]:
    """Load the weights in `folder` into `trained`, after training them if necessary.

    Args:
        trained: the method, just built.
        folder: of the training, under ``--runs``.
        identity: SHA-256 of what determines the weights.
        train: trains `trained` and saves it in `folder`.

    Returns:
        The training, and the pretraining that it started from, as a record holds them.
    """
    there = _finished(folder, identity)
    if there is None:
        train()
        there = _finished(folder, identity)
    if there is None:
        raise UserError("--runs", folder, "the training that was just written is missing")
    card, weights = there
    assert card.training is not None
    trained.load_state_dict(weights)
    found = SharedTraining(run_id=card.run_id, model=card.weights_sha256, **card.training.model_dump())
    return found, card.pretraining


def _finished(folder: Path, identity: str) -> tuple[Card, dict[str, Tensor]] | None:
    """Card and weights of the folder; None if missing, damaged or of another identity."""
    try:
        card = models.read_card(folder)
        weights = models.read_weights(folder, card)
    except UserError:
        return None
    return (card, weights) if card.identity == identity and card.training else None
