"""What determines the features of a frozen backbone, so that a second method takes those of the first."""

from __future__ import annotations

import hashlib
import json

import torch

from bench.common import environment
from bench.config.backbone import BACKBONE
from bench.data.features import FrozenFeatures
from bench.run import source_code
from bench.run.plan import Prepared

RECORDED = ("torch", "torchvision", "timm")  # libraries whose versions stand for their code


def frozen_features(prepared: Prepared) -> FrozenFeatures | None:
    """Where the features of the run's backbone are kept; None if they are not.

    They are kept for backbones of ``--backbone`` that are evaluated as they are. A training gives other
    weights each time, and nothing identifies the code and the weights of an encoder of `bench.evaluate`.
    """
    config, backbone = prepared.config, prepared.method.backbone
    if config.train or not BACKBONE.fullmatch(config.backbone):
        return None
    weights = hashlib.sha256(f"{backbone}".encode())  # its modules and their settings
    for name, tensor in sorted((backbone.state_dict() | dict(backbone.named_buffers())).items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    pixels = prepared.normalise
    settings = (
        config.backbone,
        pixels.mean.flatten().tolist(),
        pixels.std.flatten().tolist(),
        prepared.precision,
        environment.device_name(prepared.device),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),  # sums in another order give other rounding errors
    )
    weights.update(json.dumps(settings).encode())
    modules = {type(module).__module__ for module in backbone.modules()}
    own = [name for name in modules if name.partition(".")[0] not in RECORDED]
    code = source_code.digest(*own, "bench.data.normalisation", "bench.evaluation.embedding")
    made_by = hashlib.sha256(f"{code} {environment.package_versions()}".encode()).hexdigest()
    height, width = prepared.data.images.shape[2:]
    return FrozenFeatures(
        dataset=prepared.data.name,
        backbone=f"{config.backbone} at {height}x{width}",
        fingerprint=prepared.data.fingerprint,
        made_by=made_by,
        weights=weights.hexdigest(),
    )
