"""A scale for each kernel and a shift for each channel."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.backbones import build
from methods.scale_shift import ScaleShiftConv, scale_and_shift


@pytest.mark.parametrize("bias", [True, False])
def test_a_scale_for_each_kernel_and_a_shift_for_each_channel(bias):
    """(W * scale) x + (b + shift), summed up kernel by kernel."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=bias).double()
    ours = ScaleShiftConv(conv).double()
    assert ours.scale.shape == (5, 3, 1, 1) and ours.shift.shape == (5,)
    nn.init.normal_(ours.scale)
    nn.init.normal_(ours.shift)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = torch.zeros(2, 5, 4, 4, dtype=torch.float64)
    for o in range(5):
        for i in range(3):
            kernel = conv.weight[o : o + 1, i : i + 1]
            expected[:, o] += (
                ours.scale[o, i, 0, 0] * F.conv2d(images[:, i : i + 1], kernel, stride=2, padding=1)[:, 0]
            )
        expected[:, o] += ours.shift[o] + (conv.bias[o] if bias else 0)
    torch.testing.assert_close(ours(images), expected)


@pytest.mark.parametrize("name", ["conv4", "resnet12-8"])
def test_a_backbone_starts_as_it_was(name):
    torch.manual_seed(0)
    plain = build(name).eval()
    ours = copy.deepcopy(plain)
    scale_and_shift(ours)
    convs = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    wrapped = [module for module in ours.modules() if isinstance(module, ScaleShiftConv)]
    assert len(wrapped) == len(convs)
    assert sum(own.scale.numel() for own in wrapped) == sum(conv.weight[:, :, 0, 0].numel() for conv in convs)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), plain(images), rtol=1e-5, atol=1e-5)
    # And every one of them takes part.
    for own in wrapped:
        nn.init.zeros_(own.scale)
    assert not torch.allclose(ours(images), plain(images), atol=1e-3)


def test_circular_padding_is_kept():
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    images = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(ScaleShiftConv(conv)(images), conv(images))
