"""Backbones with weights to tell them apart by, and files of weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from methods.weight_files import load_weights


def images(size: int = 32, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def lived_in(module: nn.Module, size: int = 32) -> nn.Module:
    """Batch norm with statistics, scales and shifts that are not the initial ones."""
    torch.manual_seed(2)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.5, 0.5)
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.5, 1.5)
    return module


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def refused(backbone: nn.Module, path: Path) -> str:
    """The message; the backbone must be as it was."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_weights(backbone, str(path))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)
