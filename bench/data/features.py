"""Features of images by a frozen backbone, kept in the cache of decoded images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bench.common.errors import printable
from bench.data import cache


@dataclass(frozen=True)
class FrozenFeatures:
    """The features of one backbone, of one data set.

    Attributes:
        dataset: as in ``--dataset``. backbone: its name, and the size of its images.
        fingerprint: of the data set.
        made_by: digest of libraries and code; features of others are superseded.
        weights: digest of everything else that determines them: weights, normalisation, precision, device.
    """

    dataset: str
    backbone: str
    fingerprint: str
    made_by: str
    weights: str

    def open_or_build(self, index: Tensor, build: Callable[[], Tensor]) -> Tensor:
        """Features ``[len(index), D]`` of the images at `index`, from the cache or from `build`.

        Each list of images has its own file: batches of other images would give other rounding errors.
        """
        about = {
            "name": printable(self.dataset),
            "backbone": self.backbone,
            "fingerprint": self.fingerprint,
            "made_by": self.made_by,
        }
        rows = hashlib.sha256(index.numpy().astype("<i8").tobytes()).hexdigest()
        kind = cache.Kind(
            what="features",
            tensors=("features",),
            pack=lambda made: ({"features": made}, about),
            unpack=lambda tensors, _: tensors["features"],
        )
        key = ["features", self.backbone, self.fingerprint, self.made_by, self.weights, rows]
        return cache.open_or_build(" ".join(key), build, kind)
