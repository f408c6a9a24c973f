"""Trained models on disk: weights as safetensors, and a card that is enough to use them without the data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from bench import __version__
from bench.common.errors import UserError
from bench.common.files import is_file, read_regular, write_files
from bench.config.backbone import ENCODER
from bench.config.run_config import METHOD_FILE, method_info
from bench.data.normalisation import Normaliser
from bench.data.pixels import Spans
from bench.records.parts import SharedTraining, Training
from bench.records.schema import MODEL_FILE
from bench.records.store import first_problem
from bench.run.plan import Prepared
from methods import backbones, registry
from methods.method import Method
from methods.method_info import MethodInfo

CARD = "model.json"
JOINED = "joined"  # folder of the networks that novel classes joined

PRETRAINING = MethodInfo("pretraining", "methods.base_classifier", "BaseClassifier")
"""Name of the shared classifier of the base classes, in place of a method's name."""


class Card(BaseModel):
    """Everything needed to use a model, and its origin.

    Attributes:
        bench_version: version of the bench that wrote it.
        run_id: of the run, which is also its record's name.
        method: as in ``--method``. hyperparameters: all.
        backbone: as in ``--backbone``.
        dataset, fingerprint, split: what it was trained on. base_classes: by name, in the order of its
            classifier if the method has one.
        image_size: height and width of its images, in pixels.
        pixel_mean, pixel_std: of each channel, for pixels from 0 to 255; images are normalised with them.
        spans: ranges of the data set's images of more than 8 bits, by which such images are scaled.
        precision: of the evaluation, as Lightning names it.
        thresholds: name -> similarity from which two images are classified as the same class, or score of an
            open-set setting.
        identity: SHA-256 of everything that determines the weights (`bench.run.run_id`).
        training: its cost; None if the weights were not trained, or training did not finish.
        pretraining: what training started from; None for random weights, or weights from a file.
        weights_sha256: of the file of weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bench_version: str
    run_id: str
    method: str
    hyperparameters: dict[str, Any]
    backbone: str
    dataset: str
    fingerprint: str
    split: str
    base_classes: list[str]
    image_size: tuple[int, int]
    pixel_mean: list[float]
    pixel_std: list[float]
    spans: Spans = {}
    precision: str
    thresholds: dict[str, float]
    identity: str = ""
    training: Training | None = None
    pretraining: SharedTraining | None = None
    weights_sha256: str


class Model(NamedTuple):
    """A loaded model: `method` in evaluation mode on the CPU."""

    method: Method
    normalise: Normaliser
    card: Card


def save(
    prepared: Prepared,
    folder: Path,
    thresholds: dict[str, float],
    training: Training | None = None,
    pretraining: SharedTraining | None = None,
) -> str:
    """Write the method's current weights and their card into `folder`.

    Returns:
        SHA-256 (hex) of the file of weights.

    Raises:
        UserError: they cannot be written; no partial files remain.
    """
    method, config, data = prepared.method, prepared.config, prepared.data
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in method.state_dict().items()}
    # The card names the run: safetensors writes several metadata keys in an order that changes per process.
    content = safetensors.torch.save(weights, {"format": "pt"})
    sha256 = hashlib.sha256(content).hexdigest()
    card = Card(
        bench_version=__version__,
        run_id=prepared.run_id,
        method=config.method,
        hyperparameters=dataclasses.asdict(method.hp),
        backbone=config.backbone,
        dataset=data.name,
        fingerprint=data.fingerprint,
        split=prepared.split.name,
        base_classes=[data.class_names[c] for c in prepared.split.base],
        image_size=(data.images.shape[2], data.images.shape[3]),
        pixel_mean=prepared.normalise.mean.flatten().tolist(),
        pixel_std=prepared.normalise.std.flatten().tolist(),
        spans=data.spans,
        precision=prepared.precision,
        thresholds=thresholds,
        identity=prepared.identity.sha256,
        training=training,
        pretraining=pretraining,
        weights_sha256=sha256,
    )
    # Unlike pydantic, this takes paths that are not UTF-8; their wrong bytes become "?".
    text = f"{json.dumps(card.model_dump(mode='json'), indent=1, ensure_ascii=False)}\n"
    files = {folder / MODEL_FILE: content, folder / CARD: text.encode("utf-8", "replace")}
    write_files(files, "--runs", exclusive=True)
    return sha256


def load(folder: Path, *, run_code: bool = False) -> Model:
    """Load a model; this needs neither its data nor a network connection.

    Args:
        folder: of the run, ``runs/<run_id>``.
        run_code: also load methods that are a Python file, which runs its code.

    Raises:
        UserError: there is no model, it is damaged, or its method or encoder is not available.
    """
    card = read_card(folder)
    check_kept(card.run_id, card.backbone)
    if METHOD_FILE.fullmatch(card.method) and not run_code:
        how = "predict, similarity and export run it with --run-code, bench.load with run_code=True"
        raise UserError("--runs", folder, f"its method is the Python file {card.method}; {how}")
    weights = read_weights(folder, card)
    try:
        info = PRETRAINING if card.method == PRETRAINING.name else method_info(card.method)
        method_class = registry.load(info)
        backbone: Any = backbones.build(card.backbone, card.image_size[0])
        if isinstance(backbone, backbones.TimmBackbone):
            # Its weights are here, so nothing is downloaded, and the stem is that of the run.
            prefix = "backbone."
            backbone.make_ready(
                {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            )
        hp = method_class.Hyperparameters(**card.hyperparameters)
        method = method_class(backbone, hp, len(card.base_classes))
        method.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"does not fit {card.method} of this installation: {str(error).splitlines()[0]}"
        raise UserError("--runs", folder / MODEL_FILE, problem) from None
    method.to(memory_format=torch.channels_last)
    return Model(method.eval(), Normaliser.of_pixels(card.pixel_mean, card.pixel_std), card)


def exists(folder: Path) -> bool:
    """Whether a run's folder has a model."""
    return is_file(folder / CARD)


def check_kept(run_id: str, backbone: str) -> None:
    """Refuse a run of `bench.evaluate`.

    Raises:
        UserError: its encoder is the caller's code.
    """
    if backbone.startswith(ENCODER):
        name = backbone.removeprefix(ENCODER)
        problem = f"was made by bench.evaluate, which does not keep the encoder; use {name} itself"
        raise UserError("--run", run_id, problem)


def read_card(folder: Path) -> Card:
    """The card of the model in a run's folder.

    Raises:
        UserError: it does not exist.
    """
    path = folder / CARD
    try:
        return Card.model_validate_json(read_regular(path))
    except OSError as error:
        raise UserError("--runs", path, error.strerror or "cannot be read") from None
    except ValidationError as error:
        raise UserError("--runs", path, f"not a model card: {first_problem(error)}") from None


def read_weights(folder: Path, card: Card) -> dict[str, torch.Tensor]:
    """The weights that the card describes.

    Raises:
        UserError: they do not exist, or are not those of the card.
    """
    path = folder / MODEL_FILE
    try:
        content = read_regular(path)
        if hashlib.sha256(content).hexdigest() != card.weights_sha256:
            raise UserError("--runs", path, f"not the weights of {CARD}: the SHA-256 differs")
        return safetensors.torch.load(content)
    except OSError as error:
        raise UserError("--runs", path, error.strerror or "cannot be read") from None
    except SafetensorError as error:
        raise UserError("--runs", path, f"not a safetensors file ({error})") from None
