"""The model card of an export: what the model is, what it was trained on, its numbers and how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.markdown import code, plain, table
from bench.config.run_config import method_info
from bench.data.names import data_set
from bench.run.models import PRETRAINING
from methods import backbones

if TYPE_CHECKING:
    from bench.records.schema import Record
    from bench.serving.predictor import Predictor

USE = {
    "safetensors": """\
```python
import bench

predictor = bench.load("{folder}")
predictor.classify(["a.png", "b.png"], ["a", "b"], ["unknown.png"])  # probabilities
```
""",
    "onnx": """\
```python
import numpy as np, onnxruntime

embedding = onnxruntime.InferenceSession("embedding.onnx")
(made,) = embedding.run(None, {{"images": images}})  # uint8 [N, 3, {size}, {size}] -> float32 [N, D]
```
""",
    "torchscript": """\
```python
import torch

embedding = torch.jit.load("embedding.pt")
made = embedding(images)  # uint8 [N, 3, {size}, {size}] -> float32 [N, D]
```
""",
}
CLASSES = """\
`{name}` takes embeddings of a support set, float32 `[way, shot, D]`, and of queries, `[Q, D]`. It gives
scores `[Q, way]`: the largest is the answer.
"""
UNKNOWN = "unknown; ask who made the weights"


def model_card(predictor: Predictor, record: Record | None, format_: str, files: list[Path]) -> str:
    """The card as Markdown.

    Args:
        predictor: the model. record: of its run; None if it is not available.
        format_: of the export. files: that were written.
    """
    card = predictor.card
    paper = "" if card.method == PRETRAINING.name else method_info(card.method).paper
    # A training that diverged has no cost in the card, but its weights are from these images.
    trained = card.base_classes and (card.training or (record and record.failure))
    of_data = data_set(card.dataset).licence if trained else UNKNOWN
    if trained and (record is None or record.weights or record.external_data):
        without = "" if record else "if it had any, "
        of_data = f"{of_data}; for the data of the starting weights: {without}{UNKNOWN}"
    facts = {
        "method": code(card.method) + (f" ({plain(paper)})" if paper else ""),
        "backbone": f"{code(card.backbone)}, images of {card.image_size[0]}x{card.image_size[1]} pixels",
        "trained on": f"the {len(card.base_classes)} base classes of {code(card.dataset)},"
        f" split {code(card.split)}"
        if trained
        else f"other data; tested on {code(card.dataset)}",
        "licence of the data": plain(of_data),
        "data fingerprint": code(card.fingerprint),
        "weights": f"SHA-256 {code(card.weights_sha256)}",
        "made by": f"fewshot-bench {card.bench_version}" + (f", {code(record.command)}" if record else ""),
    }
    parts = [
        f"# {card.run_id}",
        table(["", ""], facts.items()),
        "## Use",
        USE[format_].format(folder=files[0].parent.name, size=predictor.size).rstrip(),
    ]
    if classes := next((path.name for path in files if path.stem == "classes"), None):
        parts.append(CLASSES.format(name=classes, size=predictor.size).rstrip())
    elif format_ != "safetensors":
        parts.append(
            f"How {code(card.method)} answers from embeddings is not exported: this format cannot hold it,"
            " for example because it fits each support set."
        )
    if format_ != "safetensors":
        how = backbones.interpolation(card.backbone, card.image_size[0])
        parts.append(
            f"Images are RGB: the shorter side resized to that size ({how}), then the centre. All in float32."
        )
        for kind, (low, high) in card.spans.items():
            numbers = "whole" if kind == "int" else "floating-point"
            parts.append(
                f"In images of more than 8 bits with {numbers} numbers, {low:g} to {high:g} become 0 to 255."
            )
    parts.append("## Numbers")
    if record is None:
        parts.append("The run's record was not available at export.")
    else:
        rows = [
            (code(key), f"{100 * m.value:.2f}", f"{100 * m.low:.2f} to {100 * m.high:.2f}", f"{m.n:,}")
            for key, m in record.metrics.items()
        ]
        parts.append(
            f"In percent, protocol version {record.protocol_version}. The 95% intervals apply to this model"
            " and these images: other episodes, pairs or triplets."
        )
        parts.append(table(["metric", "value", "95% interval", "n"], rows))
    if (threshold := card.thresholds.get("similarity")) is not None:
        parts.append(f"From a similarity of {threshold:.6g} on, two images show the same class.")
    return "\n\n".join(parts) + "\n"
