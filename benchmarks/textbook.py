"""Backbones in the textbook's order: convolution, batch norm, activation, pooling."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbones import Conv4, ResNet12


def textbook(backbone: Conv4 | ResNet12) -> nn.Module:
    """The same network with the same weights (copies), one plain operation after the other."""
    made: Any = copy.deepcopy(backbone)
    if isinstance(backbone, Conv4):
        for i in range(4):
            made[i] = nn.Sequential(*made[i].children(), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    else:
        made.blocks = nn.Sequential(*(TextbookBlock(block) for block in made.blocks))
    return made


class TextbookBlock(nn.Module):
    """A block of ResNet-12, with the layers of ours."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.convs, self.norms, self.shortcut = block.convs, block.norms, block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C', H // 2, W // 2]``."""
        out = F.leaky_relu(self.norms[0](self.convs[0](x)), 0.1, inplace=True)
        out = F.leaky_relu(self.norms[1](self.convs[1](out)), 0.1, inplace=True)
        out = self.norms[2](self.convs[2](out)) + self.shortcut(x)
        return F.max_pool2d(F.leaky_relu(out, 0.1, inplace=True), 2)
