"""`bench.load`: a run's model answers for new images, of classes that it has never seen."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.common import environment
from bench.common.errors import UserError
from bench.data.pixels import Spans
from bench.evaluation.adapted import scores
from bench.evaluation.answers import checked
from bench.evaluation.embedding import embed_images
from bench.run import models
from bench.run.models import Model
from bench.serving.calibration import Calibration, calibrate
from bench.serving.decoding import decode
from bench.serving.finding import find_folder
from methods import backbones

Images = Tensor | Sequence[Any]
"""uint8 ``[N, 3, H, W]`` of the model's size, or a list of paths, PIL images and arrays of any size."""

MOST_REMEMBERED = 16  # support sets whose embeddings are kept
MOST_SHOTS = 1000  # up to which classes of different sizes are repeated to a common multiple


@dataclass(frozen=True)
class Answers:
    """Answers to Q queries.

    Attributes:
        classes: the labels of the support set, sorted: the columns of `probabilities`.
        probabilities: float32 ``[Q, C]``, calibrated if `calibration` is given.
        known: bool ``[Q]``, False where the answer is "none of these"; all True without a threshold.
        calibration: what the probabilities and the threshold come from; None if there is none.
        note: why there is none, or how it differs from the support set; empty if it does not.
    """

    classes: list[Any]
    probabilities: Tensor
    known: Tensor
    calibration: Calibration | None
    note: str = ""


class Predictor:
    """A run's trained model.

    Args:
        model: as loaded.
        folder: of the run; calibrations are cached there.
        device: as in ``--device``.
        data_root: folder of data sets, for calibration; else $FEWSHOT_DATA, else the user's cache folder.

    Attributes:
        card: what the model is and where it comes from.
    """

    def __init__(
        self, model: Model, folder: Path, device: str = "auto", data_root: Path | None = None
    ) -> None:
        self.method = model.method.to(environment.pick_device(device))
        self.normalise, self.card = model.normalise, model.card
        self.folder, self.data_root = folder, data_root
        self._calibrations: dict[tuple[int, int], Calibration] = {}
        self._supports: dict[bytes, Tensor] = {}

    @property
    def size(self) -> int:
        """Height and width of the model's images, in pixels."""
        return self.card.image_size[0]

    @property
    def threshold(self) -> float:
        """The similarity from which two images show the same class, from validation pairs.

        Raises:
            UserError: the run measured no pairs.
        """
        if "similarity" not in self.card.thresholds:
            raise UserError("--run", self.card.run_id, "measured no pairs, so it has no threshold for them")
        return self.card.thresholds["similarity"]

    def decode(
        self, items: Sequence[Any], spans: Spans | None = None, together: bool = False
    ) -> tuple[Tensor, dict[int, str], Spans]:
        """Bring images of any format and size to the model's size, as the images of its data set.

        Args:
            items: paths, PIL images, or arrays ``[H, W]`` or uint8 ``[H, W, 3 or 4]``.
            spans: ranges of images of more than 8 bits; by default those of the model's data set.
            together: measure other ranges over all items, which are a support set. Otherwise each image is
                scaled by its own: an answer must not depend on other queries.

        Returns:
            uint8 ``[N, 3, H, W]``; index -> name and reason, for images that cannot be read; and the ranges
            for queries.
        """
        how = backbones.interpolation(self.card.backbone, self.size)
        return decode(items, self.size, how, self.card.spans if spans is None else spans, together)

    def pixels(self, images: Images) -> Tensor:
        """As uint8 ``[N, 3, H, W]`` of the model's size.

        Raises:
            UserError: one cannot be read. ValueError: a tensor has another type or shape.
        """
        return self._pixels(images)[0]

    def _pixels(
        self, images: Images, spans: Spans | None = None, together: bool = False
    ) -> tuple[Tensor, Spans | None]:
        """`pixels`, and the ranges as `decode` takes and gives them."""
        if isinstance(images, Tensor):
            if images.dtype != torch.uint8 or images.shape[1:] != (3, *self.card.image_size):
                wanted = f"uint8 [N, 3, {self.size}, {self.size}]"
                raise ValueError(
                    f"images must be {wanted}, but are {images.dtype} {list(images.shape)};"
                    " give images of other sizes as a list of paths, PIL images or arrays"
                )
            return images, spans
        found, unreadable, spans = self.decode(images, spans, together)
        if unreadable:
            raise UserError("images", "", f"cannot be read: {next(iter(unreadable.values()))}")
        return found, spans

    def embed(self, images: Images) -> Tensor:
        """Embeddings: float32 ``[N, D]``."""
        pixels = self.pixels(images)
        everything = torch.arange(len(pixels))
        return embed_images(self.method, pixels, everything, self.normalise, self.card.precision)

    def similarity(self, a: Images, b: Images) -> Tensor:
        """Scores of N pairs ``[N]``; at least `threshold` means the same class."""
        made = self.embed(torch.cat([self.pixels(a), self.pixels(b)]))
        first, second = made.chunk(2)
        with torch.inference_mode():
            return checked(self.method.similarity(first, second), "similarity", (len(first),)).float().cpu()

    def classify(
        self, support_images: Images, support_labels: Sequence[Hashable] | Tensor, query_images: Images
    ) -> Tensor:
        """Probabilities of the classes of a support set: float32 ``[Q, C]``, columns sorted by label.

        They are calibrated for this number of classes and images per class, see `answer`.

        Args:
            support_images: one or more of each class. support_labels: one per support image.
            query_images: Q images.

        Warns:
            UserWarning: they are not calibrated, or for another number of classes or images per class.
        """
        found = self.answer(support_images, support_labels, query_images)
        if found.note:
            warnings.warn(found.note, stacklevel=2)
        return found.probabilities

    def answer(
        self, support_images: Images, support_labels: Sequence[Any] | Tensor, query_images: Images
    ) -> Answers:
        """As `classify`, with "none of these" and where the probabilities come from.

        Raises:
            ValueError: there are not as many labels as support images, or fewer than two classes.
        """
        labels = support_labels.tolist() if isinstance(support_labels, Tensor) else list(support_labels)
        support, spans = self._pixels(support_images, together=True)
        support, query = support.cpu(), self._pixels(query_images, spans)[0]
        if len(labels) != len(support):
            raise ValueError(f"{len(support)} support images need as many labels, not {len(labels)}")
        classes = sorted(set(labels))
        if len(classes) < 2:
            raise ValueError(f"a support set needs at least 2 classes, not {len(classes)}")
        content = self._remembered(support)
        position = torch.tensor([classes.index(label) for label in labels], device=content.device)
        own = [content[position == c] for c in range(len(classes))]
        logits = self.logits(equal_shots(own)[None], self.features(query)[None])[0]
        calibration, note = self._calibration_for(len(classes), round(len(labels) / len(classes)))
        known = torch.ones(len(logits), dtype=torch.bool)
        if calibration is None:
            return Answers(classes, logits.softmax(1), known, None, note)
        known = logits.amax(1) >= calibration.threshold
        return Answers(classes, (logits / calibration.temperature).softmax(1), known, calibration, note)

    def _remembered(self, support: Tensor) -> Tensor:
        """`features` of a support set, which is often asked again with the next query."""
        key = hashlib.sha256(support.contiguous().numpy().data).digest()
        found = self._supports.get(key)
        if found is None:
            if len(self._supports) >= MOST_REMEMBERED:
                self._supports.clear()
            found = self._supports[key] = self.features(support)
        return found

    def features(self, pixels: Tensor) -> Tensor:
        """What `logits` takes: embeddings, or the images themselves if the method adapts to them."""
        return self.embed(pixels) if self.method.fixed_embedding else pixels

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores of queries, float32 ``[E, Q, way]`` on the CPU.

        Args:
            support: `features` of E support sets, ``[E, way, shot, ...]``.
            query: ``[E, Q, ...]``.
        """
        method = self.method
        if method.fixed_embedding:
            shape = (*query.shape[:2], support.shape[1])
            with torch.inference_mode():
                return checked(method.episode_logits(support, query), "episode_logits", shape).float().cpu()
        return scores(method, support, query, self._normalised, self.card.precision).float()

    def _normalised(self, pixels: Tensor) -> Tensor:
        lead = pixels.shape[:-3]
        return self.normalise(pixels.flatten(0, -4).to(self.method.device)).unflatten(0, lead)

    def calibration(self, way: int, shot: int) -> Calibration:
        """How to turn scores into probabilities, from the validation images of the run's data set.

        Computed at the first use and cached in memory and in the run's folder. With too few validation
        classes or images it is for a lower way or shot.

        Raises:
            UserError: the data set is not available, or has too few validation images.
        """
        if (way, shot) not in self._calibrations:
            self._calibrations[way, shot] = calibrate(self, way, shot)
        return self._calibrations[way, shot]

    def _calibration_for(self, way: int, shot: int) -> tuple[Calibration | None, str]:
        try:
            found = self.calibration(way, shot)
        except UserError as error:
            problem = "probabilities are not calibrated, and no image is rejected as 'none of these'"
            return None, f"{problem}: {error}"
        if (found.way, found.shot) == (way, shot):
            return found, ""
        size = f"{found.way} classes with {found.shot} image{'s' * (found.shot > 1)} each"
        return found, f"calibrated for {size}, the most that the run's data set allows"


def load(
    run: str | Path,
    *,
    runs: str | Path | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    run_code: bool = False,
) -> Predictor:
    """Load a run's model; this needs neither its data nor a network connection.

    Args:
        run: a run id, the start of exactly one, the run's folder, or its record; or what `bench.run` returns,
            which names its folder of runs.
        runs: folder of runs, as ``--runs``; by default that of `run`, or ``runs``.
        device: as ``--device``.
        data_root: folder of data sets, for `Predictor.calibration`.
        run_code: also load methods that are a Python file, which runs its code.

    Raises:
        UserError: there is no such run, its model is missing or damaged, or it is of `bench.evaluate`, whose
            encoder is not kept.

    Example:
        >>> import bench
        >>> predictor = bench.load("runs/protonet_glyphs_90-10_quick_s0_8bcbde9a")  # doctest: +SKIP
        >>> predictor.classify(["a.png", "b.png"], ["a", "b"], ["unknown.png"])  # doctest: +SKIP
    """
    name = getattr(run, "path", None) or getattr(run, "run_id", run)
    folder = find_folder(str(name), Path(runs or getattr(run, "runs", None) or "runs"))
    model = models.load(folder, run_code=run_code)
    return Predictor(model, folder, device, Path(data_root) if data_root else None)


def equal_shots(classes: Sequence[Tensor]) -> Tensor:
    """Classes of different numbers of images as ``[way, shot, ...]``: images are repeated.

    Up to `MOST_SHOTS`, each image of a class is repeated equally often, so that its mean does not change.
    """
    counts = [len(own) for own in classes]
    shots = math.lcm(*counts)
    if shots > MOST_SHOTS:
        shots = max(counts)
    return torch.stack([own[torch.arange(shots, device=own.device) % len(own)] for own in classes])
