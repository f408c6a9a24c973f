"""Backbones: images ``[N, 3, H, W]`` -> features ``[N, dim]``.

`conv4`, `resnet12` and the CIFAR ResNets are written out here; `timm:<name>` is in `timm_backbone`.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from methods import fused, timm_backbone
from methods.timm_backbone import TimmBackbone


def build(name: str, image_size: int = 32) -> nn.Module:
    """Build a backbone by its name.

    Args:
        name: one of `backbone_names.BACKBONES`.
        image_size: height and width of its images, in pixels; `conv4` has more features for larger ones.

    Returns:
        A module with an attribute `dim`, the number of features.

    Raises:
        ValueError: no such backbone.
    """
    if name == "conv4" or name.removeprefix("conv4-").isdigit():
        return Conv4(int(name.partition("-")[2] or 64), image_size)
    if name == "resnet12" or name.removeprefix("resnet12-").isdigit():
        return ResNet12(width=int(name.partition("-")[2] or 64))
    if name in ("resnet20", "resnet32", "resnet56"):
        return CifarResNet(blocks=(int(name.removeprefix("resnet")) - 2) // 6)
    if name.startswith("timm:"):
        return TimmBackbone(name.removeprefix("timm:"))
    raise ValueError(f"no backbone {name!r}")


def interpolation(name: str, image_size: int | None) -> str:
    """How images are resized to `image_size` for a backbone: ``bilinear`` or ``bicubic``.

    A function of these two alone, so that a recorded configuration gives the same pixels again.
    """
    if name.startswith("timm:"):
        return timm_backbone.interpolation(name.removeprefix("timm:"), image_size)
    return "bilinear"


class Conv4(nn.Sequential):
    """Four blocks of convolution, batch norm, ReLU and 2x2 max-pooling, then flattened.

    ``[N, 3, 32, 32]`` -> ``[N, 256]``: 64 channels on a 2x2 grid, or 5x5 for images of 84 pixels (Vinyals
    et al. 2016; Snell et al. 2017).
    """

    def __init__(self, filters: int = 64, image_size: int = 32) -> None:
        def block(inputs: int) -> nn.Sequential:
            return _Conv4Block(nn.Conv2d(inputs, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters))

        super().__init__(block(3), block(filters), block(filters), block(filters), nn.Flatten())
        self.dim = filters * (image_size // 16) ** 2


class _Conv4Block(nn.Sequential):
    """Convolution and batch norm, then pooling before ReLU: the same function, for a quarter of the work."""

    fused = False  # see `fused_training`
    fused_gains_in_fp32 = True

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self
        if fused.usable(self, norm):
            return fused.norm_pool(norm, conv(x), slope=0.0)
        return F.relu(F.max_pool2d(norm(conv(x)), 2), inplace=True)


class ResNet12(nn.Module):
    """Four residual blocks of three 3x3 convolutions; leaky ReLU 0.1, max-pool after each block.

    Channels are `width` x (1, 2, 4, 8), features are globally average-pooled: ``[N, 8 * width]``.
    Source: Oreshkin et al. 2018; the variant of Lee et al. 2019 without DropBlock.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*(_ResNet12Block(i, o) for i, o in pairwise(channels)))
        self.dim = 8 * width

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, 8 * width]``."""
        return self.blocks(images).mean(dim=(2, 3))


class _ResNet12Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, outputs, outputs, outputs]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    fused = False  # see `fused_training`
    fused_gains_in_fp32 = False  # convolutions are nine tenths of a step: 0.9x of eager with AVX2

    def forward(self, x: Tensor) -> Tensor:
        if fused.usable(self, *self.norms, self.shortcut[1]):
            return self._fused(x)
        out = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if i < 2:
                out = F.leaky_relu(out, 0.1, inplace=True)
        out = F.max_pool2d(out + self.shortcut(x), 2)  # before the activation: the same function, less work
        return F.leaky_relu(out, 0.1, inplace=True)

    def _fused(self, x: Tensor) -> Tensor:
        out = x
        for conv, norm in zip(self.convs[:2], self.norms[:2], strict=True):
            out = fused.norm_act(norm, conv(out), 0.1)
        conv, norm = self.shortcut
        out = fused.norm_add(self.norms[2], self.convs[2](out), norm, conv(x))
        return fused.pool_act(out, 0.1)


class CifarResNet(nn.Module):
    """The ResNet for CIFAR of He et al. 2016, section 4.2: depth 6n + 2, 16-32-64 channels, option A.

    Parameter names are those of akamaster/pytorch_resnet_cifar10, so that its checkpoints load; its
    final `linear` layer has no counterpart here. ``[N, 3, H, W]`` -> ``[N, 64]``.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.dim = 64
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(*(_BasicBlock(inputs if i == 0 else outputs, outputs) for i in range(blocks)))

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, 64]``."""
        out = F.relu(self.bn1(self.conv1(images)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        return out.mean(dim=(2, 3))


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1:  # option A: subsample, and fill the new channels with zeros on both sides
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x, inplace=True)


def parameter_count(module: nn.Module) -> int:
    """Number of learnable parameters."""
    return sum(p.numel() for p in module.parameters())
