"""Decides whether a training runs on compiled operations (`methods.fused`), and compiles them before it.

Compiled operations round differently. So the decision depends only on the configuration and the machine, not
on a timing, and it is part of the checkpoint's stamp and of the record.
"""

from __future__ import annotations

import copy
import os
from contextlib import nullcontext
from pathlib import Path

import torch
from platformdirs import user_cache_dir

from bench.common.errors import one_line
from bench.common.streams import say, without_logs
from bench.evaluation.embedding import autocast
from methods.batches import AnchorTasks
from methods.fused import fused_training, fusible
from methods.method import Method

# Compiling takes 50 (conv4) to 75 (resnet12-32) processor seconds the first time, about 10 from the cache.
# Without fast bfloat16, it saves 0.5 processor seconds per 1,000 images of 32 x 32 pixels with conv4, and
# nothing with resnet12 (`fused_gains_in_fp32`). On an H200, compiled steps were slower: 96 instead of 146 per
# second with conv4.
PAYS_FROM = 150_000 * 32 * 32

TOLERANCE = {"32-true": 0.02, "bf16-mixed": 0.2}
"""Allowed error of the gradient of all weights, relative to its norm, by precision."""


def compile_training(
    method: Method, size: int, precision: str, device: torch.device, however_short: bool = False
) -> bool:
    """Compile the operations of the training if that saves time; returns whether it did.

    If compiling fails, one line on stderr says so, and the training runs uncompiled.

    Args:
        method: before training, with channels-last weights; it is not changed.
        size: height and width of the images, in pixels.
        precision: as Lightning names it.
        device: of the training.
        however_short: compile even a short training, for benchmarks.
    """
    if not gains(method, precision, device) or not (however_short or long_enough(method, size)):
        return False
    try:
        _keep_cache()
        with without_logs():
            _compare(method, _forward_size(method), size, precision, device)
    except Exception as error:  # Dynamo, Inductor and the compiler raise many types
        reason = one_line(f"{type(error).__name__}: {error}")[:200]
        say(f"warning: training runs without torch.compile and is slower ({reason})")
        return False
    return True


def gains(method: Method, precision: str, device: torch.device) -> bool:
    """Whether steps of this training are faster compiled.

    PyTorch's own switch ``TORCH_COMPILE_DISABLE=1`` turns it off.
    """
    slow = precision == "32-true"
    return (
        device.type == "cpu"
        and method.fuses
        and method.training_steps > 0
        and os.environ.get("TORCH_COMPILE_DISABLE", "0") != "1"
        and any(block.fused_gains_in_fp32 or not slow for block in fusible(method.backbone))
    )


def long_enough(method: Method, size: int) -> bool:
    """Whether the training saves more time than compiling takes."""
    return method.training_steps * method.batches().size * size * size >= PAYS_FROM


def directory() -> Path:
    """Cache folder of compiled operations; it belongs to the user, because its content is run."""
    return Path(user_cache_dir("fewshot-bench")) / "compiled"


def _keep_cache() -> None:
    """Make Inductor use this cache; it may already have set its default, a temporary folder."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir()) == default_cache_dir():
        directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(directory())


def _forward_size(method: Method) -> int:
    """Number of images per forward pass of the training."""
    spec = method.batches()
    return 3 * spec.triplets if isinstance(spec, AnchorTasks) else spec.size


def _compare(method: Method, count: int, size: int, precision: str, device: torch.device) -> None:
    """Run one step of a plain and a compiled copy of the backbone; every copy uses the compiled code.

    Raises:
        RuntimeError: their gradients differ.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    found = []
    for context in (nullcontext, fused_training):
        backbone = copy.deepcopy(method.backbone).to(device).train()
        with torch.random.fork_rng(), context(backbone), autocast(device, precision):
            features = backbone(images)
        weights = torch.randn(features.shape, generator=generator.manual_seed(1)).to(device)
        (features.float() * weights).sum().backward()
        gradients = [p.grad.flatten() for p in backbone.parameters() if p.grad is not None]
        found.append(torch.cat(gradients).double())
    error = float((found[0] - found[1]).norm() / found[0].norm())
    if not error <= TOLERANCE[precision]:
        raise RuntimeError(f"compiled operations give other gradients: relative error {error:.2g}")
