"""Embeds each image once, for all episodes, pairs and triplets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from bench.data.normalisation import Normaliser
from bench.evaluation.answers import checked
from methods.method import Method

BATCH = 512


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
) -> Tensor:
    """Embeddings of the images at `index`: float32 ``[len(index), D]`` on the method's device.

    Args:
        method: in evaluation mode, so that embeddings do not depend on other images.
        images: uint8 ``[N, 3, H, W]``.
        index: int64, positions in `images`.
        normalise: the one that training used.
        precision: as Lightning names it, e.g. ``bf16-mixed``.
        progress: called with the number of newly embedded images.
    """
    if method.training:
        raise ValueError("embeddings are made in evaluation mode")
    device = method.device
    parts = []
    for part in index.split(BATCH):
        batch = normalise(images[part].to(device))
        with autocast(device, precision):
            parts.append(checked(method.embed(batch), "embed", (len(part), -1)).float())
        if progress:
            progress(len(part))
    return torch.cat(parts)
