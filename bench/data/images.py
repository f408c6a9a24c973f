"""`ImageSet`: every image of a data set in one tensor, in one order, under one fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class ImageSet:
    """A data set in canonical order: classes alphabetical, then images by pixel digest.

    The order depends only on the pixels, so index tensors (splits, episodes) mean the same images for every
    storage format. Images of a folder or the hub are ordered by their pixels at the default size, so these
    tensors mean the same images for every size.

    Attributes:
        name: as in ``--dataset``, e.g. ``cifar100``.
        images: uint8 ``[N, 3, H, W]``, contiguous, possibly memory-mapped.
        labels: int64 ``[N]``, ascending, indices into `class_names`.
        held_out: bool ``[N]``, the source's test images.
        validation: bool ``[N]``, the source's validation images of classes that it also trains on.
        digests: uint8 ``[N, 32]``, SHA-256 of each image's pixels.
        class_names: alphabetical.
        superclass: one per class; the empty string if the source has none.
        part: one per class, base, validation or novel, if the source has a split; `names.FOREIGN` for classes
            of a second data set; otherwise the empty string.
        fingerprint: SHA-256 (hex) over the sorted (class name, pixel digest) list.
        drawn_by: the same over the digests that the order follows; episodes and pairs are drawn by it.
        one_colour: number of images with a single colour.
        left_out: number of unreadable images of the source.
        left_out_classes: names of classes of the source with too few readable images.
        notes: what was left out of the source and why, one line each.
        chosen: whether `held_out` was chosen here, because the source has no test images.
        spans: ranges of the source's images of more than 8 bits (`pixels.Spans`); empty if it has none.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    held_out: torch.Tensor
    validation: torch.Tensor
    digests: torch.Tensor
    class_names: tuple[str, ...]
    superclass: tuple[str, ...]
    part: tuple[str, ...]
    fingerprint: str
    drawn_by: str
    one_colour: int = 0
    left_out: int = 0
    left_out_classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    chosen: bool = False
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        name: str,
        images: np.ndarray,
        labels: np.ndarray,
        held_out: np.ndarray,
        class_names: list[str],
        superclass: list[str] | None = None,
        part: list[str] | None = None,
        validation: np.ndarray | None = None,
        order_by: np.ndarray | None = None,
    ) -> ImageSet:
        """Put decoded images into canonical order and fingerprint them.

        Args:
            name: the data set's name.
            images: uint8 ``[N, 3, H, W]``.
            labels: ``[N]`` indices into `class_names`, in any order.
            held_out: bool ``[N]``.
            class_names: one per class, in any order, all different.
            superclass, part: one per class, or None.
            validation: bool ``[N]``, or None.
            order_by: uint8 ``[N, 8 k]``, such as digests at the default size; None: by those of `images`.
        """
        held_out = np.asarray(held_out, dtype=bool)
        validation = np.zeros_like(held_out) if validation is None else np.asarray(validation, dtype=bool)
        ranks = np.argsort(np.array(class_names))
        names = [class_names[i] for i in ranks]
        superclasses, parts = (
            [of_class[i] for i in ranks] if of_class else [""] * len(names) for of_class in (superclass, part)
        )
        new_label = np.empty(len(names), dtype=np.int64)
        new_label[ranks] = np.arange(len(names))
        labels = new_label[np.asarray(labels)]
        images = np.ascontiguousarray(images)
        digests = pixel_digests(images)

        def ordered(*keys: np.ndarray) -> np.ndarray:
            # lexsort's last key is the primary one; digests sort as big-endian words.
            words = [word for key in reversed(keys) for word in key.view(">u8").T[::-1]]
            return np.lexsort((validation, held_out, *words, labels))

        order = plain = ordered(digests)
        if order_by is not None:
            order = ordered(order_by, digests)
        own = fingerprint(names, labels[plain], digests[plain])
        drawn_by = own if order_by is None else fingerprint(names, labels[order], order_by[order])
        labels, digests = labels[order], digests[order]
        return cls(
            name=name,
            images=torch.from_numpy(images[order]),
            labels=torch.from_numpy(labels),
            held_out=torch.from_numpy(held_out[order]),
            validation=torch.from_numpy(validation[order]),
            digests=torch.from_numpy(digests),
            class_names=tuple(names),
            superclass=tuple(superclasses),
            part=tuple(parts),
            fingerprint=own,
            drawn_by=drawn_by,
            one_colour=int(of_one_colour(images).sum()),
        )

    def __len__(self) -> int:
        return len(self.labels)


def of_one_colour(images: np.ndarray) -> np.ndarray:
    """Which of uint8 ``[N, 3, H, W]`` have a single colour, and so no content: bool ``[N]``."""
    return np.array([bool((image == image[:, :1, :1]).all()) for image in images], dtype=bool)


def pixel_digests(images: np.ndarray) -> np.ndarray:
    """SHA-256 of each image of a contiguous uint8 ``[N, 3, H, W]`` array: uint8 ``[N, 32]``."""
    joined = b"".join(hashlib.sha256(image.data).digest() for image in images.reshape(len(images), -1))
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32).copy()


def fingerprint(class_names: list[str] | tuple[str, ...], labels: np.ndarray, digests: np.ndarray) -> str:
    """SHA-256 (hex) over the (class name, pixel digest) list, which must be sorted."""
    total = hashlib.sha256()
    prefixes = [name.encode() + b"\0" for name in class_names]
    for label, digest in zip(labels.tolist(), digests, strict=True):
        total.update(prefixes[label])
        total.update(digest)
    return total.hexdigest()
