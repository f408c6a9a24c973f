"""Digests of what determines a run's numbers: configuration, images and classes, and code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from bench import PROTOCOL_VERSION
from bench.config.run_config import RunConfig
from bench.data.names import ARROW
from bench.run import source_code
from methods import registry
from methods.method_info import MethodInfo

if TYPE_CHECKING:
    from bench.data.images import ImageSet
    from bench.data.splits import Split

MEASURING = (
    "bench.run.runner",
    "bench.training.loop",
    "bench.training.compilation",
    "bench.data.normalisation",
    "bench.data.augmentation",
)
"""Modules of bench that train and measure, with everything that they import."""

NOT_MEASURING = (
    "bench", "bench.common*", "bench.config*", "bench.data*", "bench.records*", "bench.evaluation.contract",
    "bench.evaluation.invariance", "bench.run", "bench.run.failures", "bench.run.locks", "bench.run.models",
    "bench.run.outcome", "bench.run.plan", "bench.run.processes", "bench.run.recording",
    "bench.run.rehearsal", "bench.run.run_id", "bench.run.source_code", "bench.run.trackers",
    "bench.run.weights", "methods.method_info", "methods.registry",
)  # fmt: skip
"""Imports that do not change numbers, or whose result (images, classes, configuration) is digested itself."""


NOT_HASHED = {"method", "dataset", "image_size", "split", "weights", "pretrained", "overrides"}
"""Settings that are digested by their content instead, or follow from others."""

LONGEST = 200
"""Characters of a run id (`bench.records.schema.RUN_ID`)."""


@dataclass(frozen=True)
class Identity:
    """Runs with equal identities give equal numbers on one machine with the same libraries.

    The device, the precision chosen by ``auto``, the number of threads and whether operations were compiled
    are in the record and in the stamp of checkpoints, not here: a record from another machine is reused.

    Attributes:
        run_id: a readable name with the first digits of `sha256`; safe as a file name.
        sha256: of everything that determines the numbers.
        split: SHA-256 of the classes and images of each part.
        method: SHA-256 of the code of the method and of its imports, except libraries.
        bench: SHA-256 of the code of this bench that trains and measures.
        plugin: name and version of the package of a plug-in method; the empty string for others.
    """

    run_id: str
    sha256: str
    split: str
    method: str
    bench: str
    plugin: str


def identify(
    config: RunConfig,
    info: MethodInfo,
    data: ImageSet,
    split: Split,
    weights_sha256: str | None,
    start: Identity | None = None,
) -> Identity:
    """The identity of a run; its method must be imported already.

    Args:
        config: resolved.
        info: its method.
        data, split: its images.
        weights_sha256: of the file of starting weights, if any.
        start: identity of the shared training that provides its weights, if any.
    """
    method = source_code.digest(registry.module_name(info))
    bench = source_code.digest(*MEASURING, without=NOT_MEASURING)
    parts = split_digest(split)
    # Files and folders count by content, not by path.
    kinds, _, places = zip(*(one.partition(":") for one in data.name.split(ARROW)), strict=True)
    content = config.model_dump(exclude=NOT_HASHED)
    for key in ("augment", "train_on"):  # newer than the first records, which keep their names
        if content[key] is None:
            del content[key]
    content |= {
        "protocol": PROTOCOL_VERSION,
        "dataset": [ARROW.join(kinds), *dict.fromkeys([data.fingerprint, data.drawn_by])],
        "split": [split.name, parts],
        "weights": weights_sha256,
        "pretraining": start and start.sha256,
        "method": [info.name, info.class_name, info.plugin, method],
        "bench": bench,
    }
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    words = [
        info.name,
        " ".join(f"{kind} {PurePath(place).name}" for kind, place in zip(kinds, places, strict=True)),
        split.name,
        config.preset,
        f"s{config.seed}",
        sha256[:8],
    ]
    run_id = "_".join(map(_slug, words))
    if len(run_id) > LONGEST:
        share = LONGEST // len(words) - 1  # and an underscore
        run_id = "_".join(_slug(word)[-share:].strip("-.") for word in words)
    return Identity(run_id, sha256, parts, method, bench, info.plugin)


def split_digest(split: Split) -> str:
    """SHA-256 (hex) of the classes and images of each part.

    The order of images follows from their pixels (see `ImageSet`), so together with the data set's
    fingerprint and what it is drawn by, this identifies the images.
    """
    total = hashlib.sha256()
    for part in ("base", "validation", "novel"):
        total.update(f"{part} {getattr(split, part)}".encode())
    labelled = ["novel_labelled"] if len(split.novel_labelled) else []
    for part in ("train", "validation_images", "base_test", "novel_images", *labelled):
        images = getattr(split, part).numpy().astype("<i8")
        total.update(f"{part} {len(images)}".encode())
        total.update(images.tobytes())
    return total.hexdigest()


def novel_digest(split: Split) -> str:
    """SHA-256 (hex) of the novel classes and their images, as `split_digest`."""
    none = split.train[:0]
    return split_digest(
        dataclasses.replace(split, base=(), validation=(), train=none, validation_images=none, base_test=none)
    )


def _slug(text: str) -> str:
    """Text made safe for file names; long text loses its beginning."""
    return re.sub(r"[^A-Za-z0-9.@+-]+", "-", text).strip("-.")[-48:]
