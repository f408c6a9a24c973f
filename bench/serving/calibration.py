"""Probabilities that mean what they say, and "none of these", from a run's validation images.

Computed at the first use for a number of classes (way) and images per class (shot), because any way and shot
may be asked for; `calibration.json` in the run's folder keeps what was computed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from bench.common.errors import UserError
from bench.common.files import is_file, write_files
from bench.config.yaml_files import read_yaml
from bench.data import sources
from bench.data.names import RESIZED
from bench.data.splits import Split, resolve, subsampled
from bench.sampling.episodes import QUERIES, ClassPool, Setting, draw
from bench.sampling.keys import part_key
from bench.statistics import best_threshold, expected_calibration_error, fit_temperature
from methods import backbones

if TYPE_CHECKING:
    from bench.data.images import ImageSet
    from bench.serving.predictor import Predictor

FILE = "calibration.json"
EPISODES = 200
ADAPTED_EPISODES = 40  # for methods that adapt in each episode
EPISODES_AT_ONCE = 16
MOST_IMAGES = 40  # validation images per class
FEWEST_CLASSES = 3  # two known ones, and one that is none of these


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
        episodes: number of them. classes: ``validation``, or ``base``, whose training images the model has
            seen: then it is likely to be too confident on new classes.
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
        seen = "" if self.classes == "validation" else ", new images of classes that it was trained on"
        return (
            f"{self.episodes} validation episodes ({self.way} classes, {self.shot} images per class{seen});"
            f" expected calibration error {self.calibration_error:.3f},"
            f" without temperature {self.uncalibrated_error:.3f};"
            f" none of these: {self.false_accepts:.1%} of other classes' images are accepted,"
            f" {self.false_rejects:.1%} of the classes' own are rejected"
        )


_FILE = TypeAdapter(dict[str, Calibration])


def calibrate(predictor: Predictor, way: int, shot: int) -> Calibration:
    """The calibration of a run's model, from its folder or from its data set's validation images.

    Args:
        predictor: the model. way, shot: lowered if the validation images do not suffice.

    Raises:
        UserError: the data set is not at hand, is another one, or has too few validation images.
    """
    kept, key = _kept(predictor), f"{way}w{shot}s"
    if key not in kept:
        kept[key] = measure(predictor, *_validation(predictor), way, shot)
        content = {"weights_sha256": predictor.card.weights_sha256, "calibrations": _FILE.dump_python(kept)}
        with suppress(UserError):  # the folder may be read-only
            write_files({predictor.folder / FILE: f"{json.dumps(content, indent=1)}\n".encode()}, "--runs")
    return kept[key]


def _kept(predictor: Predictor) -> dict[str, Calibration]:
    """Those in the run's folder, if they are of these weights."""
    with suppress(OSError, ValueError, ValidationError, KeyError, TypeError):
        content = json.loads((predictor.folder / FILE).read_bytes())
        if content["weights_sha256"] == predictor.card.weights_sha256:
            return _FILE.validate_python(content["calibrations"])
    return {}


def _validation(predictor: Predictor) -> tuple[ImageSet, Split]:
    card = predictor.card
    resized = predictor.size if card.dataset.partition(":")[0] in RESIZED else None
    data = sources.load(
        card.dataset,
        predictor.data_root,
        image_size=resized,
        interpolation=backbones.interpolation(card.backbone, resized),
        offline=True,
    )
    if data.fingerprint != card.fingerprint:
        raise UserError("--run", card.run_id, f"{card.dataset} has changed since the run")
    settings = predictor.folder / "config.yaml"  # with the path of a split in a file
    split = resolve(data, read_yaml(settings)["split"] if is_file(settings) else card.split)
    if split.name != card.split:
        raise UserError("--run", card.run_id, f"the split {card.split} has changed since the run")
    return data, split


def measure(predictor: Predictor, data: ImageSet, split: Split, way: int, shot: int) -> Calibration:
    """Calibrate on validation episodes in which one more class plays "none of these". Errors as above."""
    index = subsampled(data, split, MOST_IMAGES).validation_images
    labels = data.labels[index].numpy()
    counts = np.bincount(labels, minlength=1)
    while shot > 1 and (counts > shot).sum() < FEWEST_CLASSES:
        shot -= 1
    enough = counts > shot
    if enough.sum() < FEWEST_CLASSES:
        problem = f"its data set has fewer than {FEWEST_CLASSES} classes of validation images"
        raise UserError("--run", predictor.card.run_id, problem)
    index, labels = index[torch.from_numpy(enough[labels])], labels[enough[labels]]
    pool = ClassPool(labels)
    way = min(way, len(pool.classes) - 1)
    episodes = EPISODES if predictor.method.fixed_embedding else ADAPTED_EPISODES
    setting = Setting(way + 1, shot, min(QUERIES, pool.smallest - shot), episodes)
    key = part_key(data.fingerprint, split.name, "validation")
    drawn = draw(pool, f"{key}/calibration/{way}/{shot}", setting)
    content = predictor.features(data.images[index])
    size = EPISODES_AT_ONCE if predictor.method.fixed_embedding else 1
    parts = []
    for first in range(0, episodes, size):
        rows = slice(first, first + size)
        support, query = torch.from_numpy(drawn.support[rows, :way]), torch.from_numpy(drawn.query[rows])
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
        classes="validation" if split.validation else "base",
    )


def _take(content: Tensor, index: Tensor) -> Tensor:
    return content.index_select(0, index.flatten().to(content.device)).unflatten(0, index.shape)
