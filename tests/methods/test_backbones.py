"""Backbones against learn2learn's and the networks of published checkpoints."""

import pytest
import torch
from learn2learn.vision.models import CNN4Backbone, ResNet12Backbone
from networks import images, lived_in
from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbone_names import BACKBONES
from methods.backbones import build, parameter_count
from methods.weight_files import load_weights

# What akamaster/pytorch_resnet_cifar10 prints for its networks, less 64 x 10 + 10 of the linear layer.
AKAMASTER = {"resnet20": 269_722 - 650, "resnet32": 464_154 - 650, "resnet56": 853_018 - 650}


def of_kind(module: nn.Module, kind: type) -> list:
    return [part for part in module.modules() if isinstance(part, kind)]


@pytest.mark.parametrize("size", [32, 64])
def test_conv4_equals_learn2learn_s(size):
    """Theirs has biases before batch norm, which its mean takes out again; ours leaves them away.

    So outputs agree in training mode as they are, and in evaluation mode once the biases are taken off
    the running means.  Order of layers, padding and pooling are the same.
    """
    theirs, ours = lived_in(CNN4Backbone(hidden_size=64, channels=3, max_pool=True)), build("conv4")
    for block in theirs:
        nn.init.uniform_(block.conv.bias, -0.3, 0.3)
    with torch.no_grad():
        for block, conv, norm in zip(
            theirs, of_kind(ours, nn.Conv2d), of_kind(ours, nn.BatchNorm2d), strict=True
        ):
            conv.weight.copy_(block.conv.weight)
            norm.load_state_dict(block.normalize.state_dict())
            norm.running_mean -= block.conv.bias
        expected = theirs.eval()(images(size))
        torch.testing.assert_close(ours.eval()(images(size)), expected, rtol=1e-4, atol=1e-5)
        expected = theirs.train()(images(size))
        torch.testing.assert_close(ours.train()(images(size)), expected, rtol=1e-4, atol=1e-4)
    assert parameter_count(ours) == parameter_count(theirs) - 4 * 64


@pytest.mark.slow
def test_resnet12_equals_learn2learn_s():
    """Their narrower one, with dropout off, on the 84 pixels that its average pool is made for."""
    theirs = lived_in(ResNet12Backbone(wider=False, dropblock_dropout=0.0))
    ours = build("resnet12")
    blocks = [layer[0] for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)]
    for block, own in zip(blocks, ours.blocks, strict=True):
        for i, conv, norm in ((0, "conv1", "bn1"), (1, "conv2", "bn2"), (2, "conv3", "bn3")):
            own.convs[i].load_state_dict(getattr(block, conv).state_dict())
            own.norms[i].load_state_dict(getattr(block, norm).state_dict())
        own.shortcut.load_state_dict(block.downsample.state_dict())
    with torch.no_grad():
        expected = theirs.eval()(images(84, count=2))
        torch.testing.assert_close(ours.eval()(images(84, count=2)), expected, rtol=1e-3, atol=1e-4)
        small = images(32, count=4)
        expected = theirs.train().layer4(theirs.layer3(theirs.layer2(theirs.layer1(small)))).mean(dim=(2, 3))
        torch.testing.assert_close(ours.train()(small), expected, rtol=1e-3, atol=1e-4)
    assert parameter_count(ours) == parameter_count(theirs) == 7_996_800  # published as 8.0 M


def test_sizes():
    assert {name: parameter_count(build(name)) for name in AKAMASTER} == AKAMASTER
    assert parameter_count(build("conv4")) == 3 * 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64
    assert 1.9e6 < parameter_count(build("resnet12-32")) < 2.1e6


@pytest.mark.parametrize("name", ["conv4", "resnet12-32", "resnet12-8", "resnet20", "resnet32", "resnet56"])
def test_features(name):
    backbone = build(name).eval()
    with torch.no_grad():
        made = backbone(images())
        assert made.shape == (3, backbone.dim)
        alone = torch.cat([backbone(image[None]) for image in images()])
    torch.testing.assert_close(made, alone, rtol=1e-4, atol=1e-5)
    assert (made[0] - made[1]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [16, 33, 40, 64, 84])
def test_conv4_s_features_of_larger_images(size):
    backbone = build("conv4", image_size=size).eval()
    assert backbone(images(size)).shape == (3, backbone.dim)


@pytest.mark.parametrize(
    "name", ["conv5", "resnet18", "resnet12-", "resnet", "", "timm:no_such_model", "timm:"]
)
def test_no_such_backbone(name):
    with pytest.raises(ValueError, match="no backbone"):
        build(name)


def test_the_names_listed_are_those_that_build():
    for name in BACKBONES:
        if name != "timm:<name>":
            assert isinstance(build(name), nn.Module)


def test_weights_are_random_and_reproducible():
    torch.manual_seed(0)
    first, second = build("resnet20"), build("resnet20")
    torch.manual_seed(0)
    again = build("resnet20")
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, second.conv1.weight)


def akamaster_state(blocks: int) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of akamaster/pytorch_resnet_cifar10."""
    rng = torch.Generator().manual_seed(4)

    def weights(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) * (2 / (shape[0] * 9)) ** 0.5

    def norm(prefix: str, channels: int) -> dict[str, Tensor]:
        return {
            f"{prefix}.weight": torch.rand(channels, generator=rng) + 0.5,
            f"{prefix}.bias": torch.randn(channels, generator=rng) * 0.1,
            f"{prefix}.running_mean": torch.randn(channels, generator=rng) * 0.1,
            f"{prefix}.running_var": torch.rand(channels, generator=rng) + 0.5,
        }

    state = {"conv1.weight": weights(16, 3, 3, 3), **norm("bn1", 16)}
    inputs = 16
    for layer, planes in ((1, 16), (2, 32), (3, 64)):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            state[f"{prefix}.conv1.weight"] = weights(planes, inputs, 3, 3)
            state |= norm(f"{prefix}.bn1", planes)
            state[f"{prefix}.conv2.weight"] = weights(planes, planes, 3, 3)
            state |= norm(f"{prefix}.bn2", planes)
            inputs = planes
    return state | {"linear.weight": weights(10, 64), "linear.bias": torch.zeros(10)}


def akamaster_features(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The features by He et al. 2016, section 4.2, option A, as plain functions of the weights."""

    def norm(x: Tensor, prefix: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{prefix}.{name}"].view(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = norm(F.conv2d(x, state["conv1.weight"], padding=1), "bn1").clamp(min=0)
    for layer in (1, 2, 3):
        for block in range(blocks):
            prefix, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            out = norm(
                F.conv2d(x, state[f"{prefix}.conv1.weight"], stride=stride, padding=1), f"{prefix}.bn1"
            )
            out = F.conv2d(out.clamp(min=0), state[f"{prefix}.conv2.weight"], padding=1)
            if stride == 2:
                zeros = torch.zeros_like(x[:, : x.shape[1] // 2, ::2, ::2])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            x = (norm(out, f"{prefix}.bn2") + x).clamp(min=0)
    return F.avg_pool2d(x, x.shape[-1]).flatten(1)


@pytest.mark.parametrize("name, blocks", [("resnet20", 3), ("resnet32", 5), ("resnet56", 9)])
def test_akamaster_s_checkpoints_load(tmp_path, name, blocks):
    state = akamaster_state(blocks)
    expected = akamaster_features(state, images(), blocks)
    path = tmp_path / f"{name}.th"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "best_prec1": 0.9}, path)
    backbone = build(name)
    assert load_weights(backbone, str(path)) == ["module.linear.weight", "module.linear.bias"]
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images()), expected, rtol=1e-3, atol=1e-4)


def test_parameter_names():
    found = dict(build("resnet20").named_parameters())
    block = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]
    layers = [f"layer{layer}.{i}.{name}" for layer in (1, 2, 3) for i in (0, 1, 2) for name in block]
    assert list(found) == ["conv1.weight", "bn1.weight", "bn1.bias", *layers]
