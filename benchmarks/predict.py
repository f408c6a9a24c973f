"""Classified images per second against a bare loop around the same embedding, the one that the package ships.

    python -m benchmarks.predict

Needs no data set.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.serving.predictor import Predictor, load
from bench.serving.shipped import shipped
from benchmarks import command
from benchmarks.measure import Comparison, Row, Side, a_second, compare, interleave, seconds, short, table
from benchmarks.speed import conditions

CLASSES = 5
GOAL = 0.9  # least ratio of our rate to that of the embedding alone
GOAL_MS = 100.0  # for one image, once the model is loaded


def main() -> int:
    """Measure and print the table."""
    return command.run("benchmarks.predict", __doc__ or "", report)


def report(_: Path | None, repeats: int, quick: bool) -> str:
    """The table as Markdown, with 1,000 images to classify (20 if `quick`)."""
    load_before = os.getloadavg()[0]
    own = shipped()
    predictor = load(own.record.run_id, runs=own.runs, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = timings(predictor, photographs(Path(folder), 20 if quick else 1000), repeats)
    return f"{table(rows)}\n\n{conditions(repeats, load_before)}"


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of 640x480 pixels, each another."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def timings(predictor: Predictor, paths: list[Path], repeats: int) -> list[Row]:
    """Images in memory, files, and one file at a time, against the bare loop."""
    images = predictor.pixels(paths)
    support, labels = images[:CLASSES], list(range(CLASSES))
    predictor.classify(support, labels, images[:1])  # its calibration is read once

    def each(work: partial) -> Side:
        return lambda: seconds(work) / len(paths)

    singles: list[float] = []

    def one_by_one() -> float:
        some = paths[:50]
        times = [seconds(partial(predictor.classify, support, labels, [path])) for path in some]
        singles.append(statistics.median(times))
        return singles[-1]

    sides = {
        "classify": each(partial(predictor.classify, support, labels, images)),
        "embed": each(partial(embed, predictor, images)),
        "classify files": each(partial(predictor.classify, support, labels, paths)),
        "decode and embed": each(partial(decode_and_embed, predictor, paths)),
        "one": one_by_one,
    }
    measured = interleave(sides, repeats, command.say)
    count = f"{len(paths):,} images, {CLASSES} classes of 1 image"
    alone = "`embed(normalised batch of 512)` in a loop, nothing classified"
    comparisons = [
        Comparison(
            what="images classified/s, in memory",
            against="the embedding alone",
            ours="classify",
            peer="embed",
            show=a_second,
            goal=GOAL,
            how=f"`Predictor.classify`, {count}; peer: {alone}",
        ),
        Comparison(
            what="images classified/s, JPEG files of 640x480",
            against="Pillow and the embedding alone",
            ours="classify files",
            peer="decode and embed",
            show=a_second,
            goal=GOAL,
            how=f"the same from files; peer: `Image.open`, `convert`, `crop`, `resize`, then {alone}",
        ),
    ]
    rows = [compare(comparison, measured) for comparison in comparisons]
    ms = 1e3 * statistics.median(singles)
    rows.append(
        Row(
            what="one JPEG file, once the model is loaded, ms",
            against="",
            ours=short(ms),
            peer="",
            ratio="",
            goal=f"< {GOAL_MS:g} ms: {'met' if ms < GOAL_MS else 'missed'}",
            how="`Predictor.classify` of a list of one path; median of 50",
        )
    )
    return rows


@torch.inference_mode()
def embed(predictor: Predictor, images: Tensor) -> Tensor:
    """What anyone would write: ``[N, D]``."""
    method, normalise = predictor.method, predictor.normalise
    return torch.cat([method.embed(normalise(batch)) for batch in images.split(512)])


def decode_and_embed(predictor: Predictor, paths: list[Path]) -> Tensor:
    """`embed` of files, cut square and resized by Pillow."""
    pixels = []
    for path in paths:
        with Image.open(path) as image:
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            pixels.append(np.asarray(square.resize((predictor.size,) * 2, Image.Resampling.BILINEAR)))
    return embed(predictor, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


if __name__ == "__main__":
    sys.exit(main())
