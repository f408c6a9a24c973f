"""The backbones' names, apart from their code, which needs torch."""

import re
from itertools import pairwise

BACKBONES = {
    "conv4": "4 blocks of 3x3 convolution with 64 filters, 0.11 M parameters (Snell et al. 2017)",
    "conv4-32": "the same with 32 filters, 0.03 M parameters (Finn et al. 2017, on mini-ImageNet)",
    "resnet12": "ResNet-12, width 64-128-256-512, 8.0 M parameters (Lee et al. 2019, without DropBlock)",
    "resnet12-32": "ResNet-12 of half width, 32-64-128-256, 2.0 M parameters",
    "resnet20": "CIFAR ResNet-20, option A shortcuts, 0.27 M parameters (He et al. 2016)",
    "resnet32": "CIFAR ResNet-32, option A shortcuts, 0.46 M parameters (He et al. 2016)",
    "resnet56": "CIFAR ResNet-56, option A shortcuts, 0.85 M parameters (He et al. 2016)",
    "timm:<name>": "any model of timm, e.g. timm:resnet18: random weights, or its own with --pretrained",
}

ALIASES = {
    "resnet18": "timm:resnet18",
    "resnet50": "timm:resnet50",
    "dinov2-s": "timm:vit_small_patch14_dinov2",
    "dinov2-b": "timm:vit_base_patch14_dinov2",
    "clip-b16": "timm:vit_base_patch16_clip_quickgelu_224.openai",
    "clip-b32": "timm:vit_base_patch32_clip_quickgelu_224.openai",
    "vit-s16": "timm:vit_small_patch16_224",
    "vit-b16": "timm:vit_base_patch16_224",
    "convnext-t": "timm:convnext_tiny",
    "efficientnet-b0": "timm:efficientnet_b0",
    "mobilenet-v3": "timm:mobilenetv3_large_100",
}
"""Short names of models of timm; names of `BACKBONES` are none of them."""


def parameter_count(name: str) -> int | None:
    """Parameters of a backbone, without torch; None where the name does not tell, as for timm's.

    Args:
        name: one of `BACKBONES`.
    """
    if match := re.fullmatch(r"conv4(?:-([1-9][0-9]{0,3}))?", name):
        channels = (3, *[int(match[1] or 64)] * 4)
        return sum(_convolution(i, o) for i, o in pairwise(channels))
    if match := re.fullmatch(r"resnet12(?:-([1-9][0-9]{0,3}))?", name):
        width = int(match[1] or 64)
        widths = pairwise((3, width, 2 * width, 4 * width, 8 * width))
        return sum(_convolution(i, o) + 2 * _convolution(o, o) + _convolution(i, o, 1) for i, o in widths)
    if name in ("resnet20", "resnet32", "resnet56"):
        blocks = (int(name.removeprefix("resnet")) - 2) // 6
        first = _convolution(3, 16) + _convolution(16, 16)  # the first block's first convolution
        into = first + sum(_convolution(i, o) for i, o in ((16, 32), (32, 64)))
        return into + sum((2 * blocks - 1) * _convolution(width, width) for width in (16, 32, 64))
    return None


def _convolution(inputs: int, outputs: int, side: int = 3) -> int:
    """Weights of a convolution without bias, and of the batch norm after it."""
    return inputs * outputs * side * side + 2 * outputs
