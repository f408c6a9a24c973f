"""The pretraining: a classifier of the base classes, trained once for all runs that ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench import models
from bench.config import BRIEF, RunConfig
from bench.errors import UserError
from bench.record import Pretraining
from methods import method
from methods.base_classifier import BaseClassifier
from methods.registry import MethodInfo

NAME = "pretraining"
INFO = MethodInfo(NAME, "methods.base_classifier", "BaseClassifier")


def configured(config: RunConfig, wanted: method.Pretraining) -> RunConfig:
    """The configuration of the pretraining of a run: all that decides its weights, and nothing else."""
    keys = {"dataset", "split", "seed", "backbone", "weights", "image_size", "precision"}
    # Runs of all presets share one, but for the brief ones, which see other images.
    preset = BRIEF if config.brief else config.backbone
    return RunConfig(
        method=NAME, preset=preset, hyperparameters=asdict(wanted), **config.model_dump(include=keys)
    )


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
    if not _finished(folder, identity):
        train()
    card = models.read_card(folder)
    assert card.training is not None
    classifier.load_state_dict(models.read_weights(folder, card))
    return Pretraining(run_id=card.run_id, model=card.weights_sha256, **card.training.model_dump())


def _finished(folder: Path, identity: str) -> bool:
    """Whether the folder holds the weights; other or damaged ones are replaced."""
    try:
        card = models.read_card(folder)
        models.read_weights(folder, card)
    except UserError:
        return False
    return card.identity == identity and card.training is not None
