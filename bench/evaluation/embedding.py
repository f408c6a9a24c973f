"""Embeds each image once, for all episodes, pairs and triplets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from bench.data.features import FrozenFeatures
from bench.data.normalisation import Normaliser
from bench.evaluation.answers import checked
from methods.method import Method

BATCH = 512  # images of up to 84x84 pixels
BATCH_VALUES = BATCH * 3 * 84 * 84  # larger images come in smaller batches, or they would take gigabytes


def batch_size(image: Tensor, backbone: nn.Module) -> int:
    """How many images pass the backbone at once.

    Args:
        image: one, ``[1, ...]``, as the backbone gets it. backbone: may resize it, to its `size`.
    """
    own = getattr(backbone, "size", None)
    values = max(image.numel(), 3 * math.prod(own) if isinstance(own, tuple) else 1)
    return min(BATCH, max(1, BATCH_VALUES // values))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The autocast context for `precision`."""
    if precision == "32-true":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    # Cached casts of weights would become wrong after a step that changes weights in place.
    return torch.autocast(device.type, dtype, cache_enabled=False)


@torch.inference_mode()
def embed_images(
    method: Method,
    images: Tensor,
    index: Tensor,
    normalise: Normaliser,
    precision: str,
    progress: Callable[[int], None] | None = None,
    frozen: FrozenFeatures | None = None,
) -> Tensor:
    """Embeddings of the images at `index`: float32 ``[len(index), D]`` on the method's device.

    Args:
        method: in evaluation mode, so that embeddings do not depend on other images.
        images: uint8 ``[N, 3, H, W]``.
        index: int64, positions in `images`.
        normalise: the one that training used.
        precision: as Lightning names it, e.g. ``bf16-mixed``.
        progress: called with the number of newly embedded images.
        frozen: where the features of the method's backbone are kept between runs, if they are.
    """
    if method.training:
        raise ValueError("embeddings are made in evaluation mode")
    device, backbone = method.device, method.backbone
    first = normalise(images[:1].to(device))
    size = batch_size(first, backbone)

    def batches() -> Iterator[Tensor]:
        for part in index.split(size):
            yield normalise(images[part].to(device))
            if progress:
                progress(len(part))

    def featured() -> Tensor:
        with autocast(device, precision):
            return torch.cat([backbone(batch).cpu() for batch in batches()])

    if frozen and not _takes_features(method, first):
        frozen = None
    features = frozen.open_or_build(index, featured).split(size) if frozen else None
    if features:
        progress = None  # either all of it is made, or nothing has to be
    parts = []
    for number, batch in enumerate(batches()):
        known = _instead(backbone, batch, features[number].to(device).clone()) if features else nullcontext()
        with autocast(device, precision), known:
            parts.append(checked(method.embed(batch), "embed", (len(batch), -1)).float())
    return torch.cat(parts)


@contextmanager
def _instead(backbone: nn.Module, images: Tensor, features: Tensor | Exception) -> Iterator[None]:
    """The backbone gives or raises `features` for `images`, without a forward pass; others are computed."""
    usual = backbone.forward

    def forward(given: Tensor) -> Tensor:
        if given is not images:
            return usual(given)
        if isinstance(features, Exception):
            raise features
        return features

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward


class _Asked(Exception):
    pass


def _takes_features(method: Method, images: Tensor) -> bool:
    """Whether `embed` gives the backbone the images as they come."""
    try:
        with _instead(method.backbone, images, _Asked()):
            method.embed(images)
    except _Asked:
        return True
    return False
