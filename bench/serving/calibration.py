"""Probabilities that mean what they say, and "none of these", from a run's validation images.

Computed at the first use for a number of classes (way) and images per class (shot), because any way and shot
may be asked for. `calibration.json` in the run's folder keeps what was computed; for the model that the
package ships, whose folder is not written to, a file of the cache does.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from bench.common.errors import UserError
from bench.common.files import is_file, write_files
from bench.config.yaml_files import read_yaml
from bench.data import cache, sources
from bench.data.images import ImageSet
from bench.data.names import NO_BASE, data_set
from bench.data.splits import Split, resolve
from bench.evaluation import budget
from bench.evaluation.open_set import FEWEST_CLASSES, rehearsal
from bench.records.schema import CONFIG_FILE
from bench.run.models import Card
from bench.serving.shipped import SHIPPED
from bench.statistics import best_threshold, expected_calibration_error, fit_temperature
from methods import backbones
from methods.method import Method

FILE = "calibration.json"
EPISODES_AT_ONCE = 16


class Scorer(Protocol):
    """What is calibrated: a `predictor.Predictor`."""

    card: Card
    method: Method
    folder: Path
    data_root: Path | None

    def features(self, pixels: Tensor) -> Tensor:
        """What `logits` takes, of uint8 images ``[N, 3, H, W]``."""

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores ``[E, Q, way]``."""


class Calibration(BaseModel):
    """How a model's scores become answers; fitted on half of the validation episodes, measured on the rest.

    Attributes:
        way, shot: classes, and support images per class, of the episodes.
        temperature: scores are divided by it before the softmax (Guo et al. 2017).
        calibration_error: expected difference between probability and share of right answers, 15 bins.
        uncalibrated_error: the same without the temperature.
        threshold: largest score below which the answer is "none of these".
        false_accepts: share of images of other classes that are answered with a class.
        false_rejects: share of images of the episode's classes that are answered with "none of these".
        episodes: number of them. classes: ``validation``; or ``base``, whose training images the model has
            seen: then it is likely to be too confident on new classes; or ``novel``: no class was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: int
    shot: int
    temperature: float
    calibration_error: float
    uncalibrated_error: float
    threshold: float
    false_accepts: float
    false_rejects: float
    episodes: int
    classes: str

    def __str__(self) -> str:
        whose = {"base": ", new images of classes that it was trained on", "novel": " of the run's data set"}
        kind = "" if self.classes == "novel" else "validation "
        images = f"{self.shot} image{'s' * (self.shot > 1)}"
        return (
            f"{self.episodes} {kind}episodes ({self.way} classes, {images} per class"
            f"{whose.get(self.classes, '')});"
            f" expected calibration error {self.calibration_error:.3f},"
            f" without temperature {self.uncalibrated_error:.3f};"
            f" none of these: {self.false_accepts:.1%} of other classes' images are accepted,"
            f" {self.false_rejects:.1%} of the classes' own are rejected"
        )


_FILE = TypeAdapter(dict[str, Calibration])


def calibrate(predictor: Scorer, way: int, shot: int) -> Calibration:
    """The calibration of a run's model, from its folder or from its data set's validation images.

    Args:
        predictor: the model. way, shot: lowered if the validation images do not suffice.

    Raises:
        UserError: the data set is not available, has changed, or has too few validation images.
    """
    kept, key = _kept(predictor), f"{way}w{shot}s"
    if key not in kept:
        kept[key] = measure(predictor, *_validation(predictor), way, shot)
        content = {"weights_sha256": predictor.card.weights_sha256, "calibrations": _FILE.dump_python(kept)}
        with suppress(UserError):  # the folder may be read-only
            write_files({_file(predictor): f"{json.dumps(content, indent=1)}\n".encode()}, "--runs")
    return kept[key]


def _file(predictor: Scorer) -> Path:
    """Where they are kept."""
    if predictor.folder.parent == SHIPPED:
        return cache.directory() / f"calibration-{predictor.card.weights_sha256[:20]}.json"
    return predictor.folder / FILE


def _kept(predictor: Scorer) -> dict[str, Calibration]:
    """Those that were computed before, or shipped, if they are of these weights."""
    found: dict[str, Calibration] = {}
    for path in {predictor.folder / FILE, _file(predictor)}:
        with suppress(OSError, ValueError, ValidationError, KeyError, TypeError):
            content = json.loads(path.read_bytes())
            if content["weights_sha256"] == predictor.card.weights_sha256:
                found |= _FILE.validate_python(content["calibrations"])
    return found


def _validation(predictor: Scorer) -> tuple[ImageSet, Split]:
    card = predictor.card
    resized = card.image_size[0] if data_set(card.dataset).largest_size else None
    data = sources.load(
        card.dataset,
        predictor.data_root,
        image_size=resized,
        interpolation=backbones.interpolation(card.backbone, resized),
        offline=True,
    )
    if data.fingerprint != card.fingerprint:
        raise UserError("--run", card.run_id, f"{card.dataset} has changed since the run")
    settings = predictor.folder / CONFIG_FILE  # with the path of a split in a file
    config = {"split": card.split} | (read_yaml(settings) if is_file(settings) else {})
    split = resolve(data, config["split"], train_on=config.get("train_on"))
    # Without its settings, a run that trained on validation classes too has other base classes.
    same_base = {data.class_names[c] for c in split.base} == set(card.base_classes)
    if split.name != card.split or not same_base:
        raise UserError("--run", card.run_id, f"the split {card.split} has changed since the run")
    return data, split


def measure(predictor: Scorer, data: ImageSet, split: Split, way: int, shot: int) -> Calibration:
    """Calibrate on validation episodes in which one more class plays "none of these". Errors as above.

    A model that was trained on no class has no validation images: those that it was tested on serve.
    """
    if untrained := split.name == NO_BASE:
        split = replace(split, validation_images=split.novel_images)
    fixed, own = predictor.method.fixed_embedding, budget.FULL
    episodes = own.calibration_episodes if fixed else own.adapted_calibration_episodes
    found = rehearsal(data, split, way, shot, episodes)
    if found is None:
        problem = f"its data set has fewer than {FEWEST_CLASSES} classes of validation images"
        raise UserError("--run", predictor.card.run_id, problem)
    index, drawn, way, shot = found
    content = predictor.features(data.images[index])
    size = EPISODES_AT_ONCE if fixed else 1
    parts = []
    for first in range(0, episodes, size):
        rows = slice(first, first + size)
        support, query = torch.from_numpy(drawn.support[rows]), torch.from_numpy(drawn.query[rows])
        parts.append(predictor.logits(_take(content, support), _take(content, query)))
    logits = torch.cat(parts).numpy().astype(np.float64)
    half, known = episodes // 2, drawn.labels < way
    fitted, rest = known[:half], known[half:]
    temperature = fit_temperature(logits[:half][fitted], drawn.labels[:half][fitted])
    threshold = best_threshold(logits[:half].max(2).ravel(), fitted.ravel())
    answers, truth = logits[half:][rest], drawn.labels[half:][rest]
    accepted = logits[half:].max(2) >= threshold
    return Calibration(
        way=way,
        shot=shot,
        temperature=temperature,
        calibration_error=expected_calibration_error(answers / temperature, truth),
        uncalibrated_error=expected_calibration_error(answers, truth),
        threshold=threshold,
        false_accepts=float(accepted[~rest].mean()),
        false_rejects=float(1 - accepted[rest].mean()),
        episodes=episodes,
        classes="novel" if untrained else "validation" if split.validation else "base",
    )


def _take(content: Tensor, index: Tensor) -> Tensor:
    return content.index_select(0, index.flatten().to(content.device)).unflatten(0, index.shape)
