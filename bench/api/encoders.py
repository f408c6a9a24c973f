"""`bench.evaluate`: any encoder on the bench's episodes, pairs and triplets."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api.runs import Result
from bench.common import clock, environment
from bench.common.errors import UserError
from bench.common.progress import Progress
from bench.config.backbone import ENCODER
from bench.config.run_config import OWN_SETTING, RunConfig, default_split, method_info, resolve
from bench.data.names import data_set
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation.embedding import autocast
from bench.records import store
from bench.run import runner
from bench.run.materials import Materials, need_normaliser
from bench.run.plan import Options
from bench.run.preparation import assembled
from methods import registry

PROBED = 64
"""Images whose features identify an encoder: a callable has no file of weights."""

CIFAR_SHAPED = ("cifar100", "glyphs")
"""Data sets that the split ``cifar-fs`` divides."""

Encoder = Callable[[Tensor], Tensor]


class _Backbone(nn.Module):
    """An encoder in the place of a backbone."""

    def __init__(self, encoder: Encoder, dim: int) -> None:
        super().__init__()
        self.encoder, self.dim = encoder, dim

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images)


class _Transform(Normaliser):
    """Any function from uint8 images ``[N, 3, H, W]`` to what the encoder takes."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.mean, self.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)  # for the card: none of ours
        self._transform = transform

    def __call__(self, images: Tensor) -> Tensor:
        return self._transform(images)


def evaluate(
    encoder: Encoder,
    split: str | None = None,
    *,
    name: str | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    method: str = registry.OF_FEATURES,
    dataset: str = "cifar100",
    image_size: int | None = None,
    measure: Sequence[str] | None = None,
    results: str | Path = "results/own",
    runs: str | Path = "runs",
    data_root: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    offline: bool = False,
    **settings: Any,
) -> Result:
    """Evaluate an encoder without training: same episodes, pairs, triplets and intervals as a run.

    The record can be validated, compared and shown on the leaderboard. There it is a variation without a
    rank, marked *external data*, because nothing shows which images the encoder has seen. Its command cannot
    be run as it stands, and `bench.load` cannot load it: the encoder is code that the record does not have.
    The record identifies the encoder by the SHA-256 of its features of 64 base training images (`weights`;
    of novel images with the split ``all-novel``), and by that of the saved weights (`model`) if it is a
    module. Its features are not kept between runs, because nothing identifies its code.

    Args:
        encoder: an ``nn.Module``, which is in evaluation mode and on the device until this returns, or any
            function from image batches to features ``[N, D]``, each of which depends only on its own image.
        split: as ``--split``; by default ``cifar-fs``, and for other data sets that of ``run --no-train``:
            ``own`` for a folder with train and test parts, else ``all-novel`` for a folder.
        dataset, image_size, data_root, device, precision, overwrite, offline, results, runs: as the flags of
            ``python -m bench run``.
        name: of the encoder, for the record; by default that of its architecture (timm) or class.
        transform: from uint8 ``[N, 3, H, W]`` to the encoder's input, such as
            ``torchvision.models.ResNet18_Weights.DEFAULT.transforms()``. By default a model of timm gets
            images of its own size and normalisation; other encoders get images normalised with the
            statistics of the base training images, which the split ``all-novel`` does not have.
        method: what answers from the features: a method that needs no training of its own, such as
            ``nearest_centroid`` or ``logistic_head``.
        measure: as ``--measure``; by default everything.
        settings: ``way``, ``shot``, ``query``, ``episodes`` of an additional few-shot setting, and
            hyperparameters of the method.

    Raises:
        UserError: a value is wrong, data is missing, or features depend on other images of the batch.

    Example:
        >>> import bench, timm
        >>> model = timm.create_model("resnet18", pretrained=True, num_classes=0)
        >>> bench.evaluate(model, "cifar-fs").table()
    """
    before = clock.now()
    chosen = environment.pick_device(device)
    name = name or _name_of(encoder)
    size = image_size or _own_size(encoder, dataset)
    if split is None:
        split = "cifar-fs" if dataset in CIFAR_SHAPED else default_split(dataset, measure, frozen=True)
    config = _configured(name, method, split, dataset, size, measure, precision, settings)
    root = Path(data_root) if data_root else None
    command = f"bench.evaluate({name}, {split!r}, dataset={dataset!r}, method={method!r})  # in Python"
    options = Options(Path(results), Path(runs), command, root, device, overwrite, offline)

    started = time.perf_counter()
    materials = Materials(options)
    data = materials.images(config)
    parts, of_base = materials.parts(config)
    data_s = time.perf_counter() - started
    own = transform or _timm_transform(encoder)
    normalise = _Transform(own) if own else need_normaliser(of_base, "split", split, "a transform")

    kind = environment.pick_precision(config.precision, chosen)
    with _lent(encoder, chosen):
        features = _features(encoder, name, normalise, data.images[_probed(parts)].to(chosen), kind)
        weights = hashlib.sha256(features.float().cpu().contiguous().numpy().tobytes()).hexdigest()

        method_class = registry.load(method_info(method))
        hp = method_class.Hyperparameters(**config.hyperparameters)
        answering = method_class(_Backbone(encoder, features.shape[1]), hp, len(parts.base))
        if answering.training_steps or not answering.fixed_embedding:
            raise UserError("method", method, "trains; must answer from features as they are")
        prepared = assembled(config, data, parts, answering, normalise, chosen, kind, weights, data_s)
        prepared = replace(prepared, spent=clock.now() - before)
        progress = Progress()
        try:
            path, _ = runner.run(prepared, options, progress)
        finally:
            progress.stop()
    return Result(store.read(path), path, options.runs)


@contextmanager
def _lent(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """A module in evaluation mode and on the device; afterwards its modes, and its first tensor's device."""
    if not isinstance(encoder, nn.Module):
        yield
        return
    modes = {module: module.training for module in encoder.modules()}
    home = next((own.device for own in chain(encoder.parameters(), encoder.buffers())), device)
    try:
        encoder.eval().to(device)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        encoder.to(home)


def _features(encoder: Encoder, name: str, normalise: Normaliser, pixels: Tensor, precision: str) -> Tensor:
    """Features of images that are on the device.

    Raises:
        UserError: they are not ``[N, D]``, or a function has tensors on another device.
    """
    device = pixels.device
    try:
        with torch.inference_mode(), autocast(device, precision):
            features = encoder(normalise(pixels))
    except RuntimeError as error:  # torch has no type for tensors on several devices
        types = re.search(r"Input type \((.*?)\).*\((.*?)\) should be the same", str(error))
        elsewhere = types and ("cuda" in types[1]) != ("cuda" in types[2])  # otherwise it is their precision
        if device.type == "cpu" or not (elsewhere or "same device" in str(error)):
            raise
        problem = (
            f'has tensors on another device; allowed: device="cpu", or all of them on {device} ({error})'
        )
        raise UserError("device", device, f"{name} {problem}") from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError("encoder", name, f"must return features [N, D], but returned {found}")
    return features


def _probed(parts: Split) -> Tensor:
    """Indices of the images whose features identify an encoder."""
    return (parts.train if len(parts.train) else parts.novel_images)[:PROBED]


def _configured(
    name: str,
    method: str,
    split: str,
    dataset: str,
    image_size: int | None,
    measure: Sequence[str] | None,
    precision: str,
    settings: dict[str, Any],
) -> RunConfig:
    """The run's configuration; its backbone and weights are the encoder's name."""
    own = {key: settings.pop(key) for key in OWN_SETTING if key in settings}
    given = own | {
        "method": method,
        "split": split,
        "dataset": dataset,
        "image_size": image_size,
        "measure": list(measure) if measure is not None else None,
        "precision": precision,
        "train": False,
        "weights": name,
        "hyperparameters": settings,
    }
    config = resolve(given, {key: key for key in given}, {})
    backbone = ENCODER + name
    return config.model_copy(
        update={"backbone": backbone, "overrides": config.overrides | {"backbone": backbone}}
    )


def _name_of(encoder: Encoder) -> str:
    known = getattr(encoder, "pretrained_cfg", None) or {}
    if architecture := known.get("architecture"):
        return ".".join(part for part in (architecture, known.get("tag")) if part)
    return getattr(encoder, "__name__", type(encoder).__name__)


def _own_size(encoder: Encoder, dataset: str) -> int | None:
    """A timm model's image size, for data sets that are resized when loaded."""
    known, largest = getattr(encoder, "pretrained_cfg", None), data_set(dataset).largest_size
    return min(max(known["input_size"][1:]), largest) if known and largest else None


def _timm_transform(encoder: Encoder) -> Callable[[Tensor], Tensor] | None:
    """Resizing to a timm model's own size, and its normalisation; None for other encoders."""
    if not getattr(encoder, "pretrained_cfg", None):
        return None
    from timm.data import resolve_model_data_config

    wants = resolve_model_data_config(encoder)
    size, mode = tuple(wants["input_size"][1:]), wants["interpolation"]
    normalise = Normaliser.of_weights(wants["mean"], wants["std"])
    mode = mode if mode in ("bilinear", "bicubic") else "bicubic"

    def transform(images: Tensor) -> Tensor:
        if images.shape[2:] == size:
            return normalise(images)
        resized = F.interpolate(images.float(), size, mode=mode, antialias=True, align_corners=False)
        return normalise(resized.clamp(0, 255))

    return transform
