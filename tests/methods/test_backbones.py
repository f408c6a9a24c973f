"""Backbones against learn2learn's, timm's and the published checkpoints' format."""

import os
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from learn2learn.vision.models import CNN4Backbone, ResNet12Backbone
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbone_names import BACKBONES
from methods.backbones import build, parameter_count
from methods.weight_files import load_weights

# What akamaster/pytorch_resnet_cifar10 prints for its networks, less 64 x 10 + 10 of the linear layer.
AKAMASTER = {"resnet20": 269_722 - 650, "resnet32": 464_154 - 650, "resnet56": 853_018 - 650}


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


@pytest.mark.parametrize(
    "name, near", [("resent18", "timm:resnet18"), ("test_resnets", "timm:test_resnet"), ("?!", "list_models")]
)
def test_a_model_that_timm_does_not_have(name, near):
    with pytest.raises(ValueError) as caught:
        build(f"timm:{name}")
    assert near in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_timm_does_not_have():
    assert build("timm:test_resnet.r160_in1k").dim == 96
    with pytest.raises(ValueError, match=r"no backbone 'timm:test_resnet\.mine': .*tag"):
        build("timm:test_resnet.mine")


def test_the_names_listed_are_those_that_build():
    for name in BACKBONES:
        if name != "timm:<name>":
            assert isinstance(build(name), nn.Module)


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


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.encoder.", "online_network.trunk.0."]
)
@pytest.mark.parametrize("wrap", ["", "state_dict", "model", "net", "safetensors"])
def test_every_form_of_file(tmp_path, prefix, wrap):
    source, target = lived_in(build("conv4")).eval(), build("conv4").eval()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    path = str(tmp_path / "weights")
    if wrap == "safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    assert load_weights(target, path) == []
    with torch.no_grad():
        assert torch.equal(source(images()), target(images()))


def test_a_checkpoint_of_a_compiled_part(tmp_path):
    source, target = lived_in(build("resnet20")), build("resnet20")
    state = {
        name.replace("layer2.", "layer2._orig_mod."): value for name, value in source.state_dict().items()
    }
    torch.save(state, tmp_path / "mine.pt")
    assert load_weights(target, str(tmp_path / "mine.pt")) == []
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("beside", [np.float64(0.9), np.float32(0.5), np.int64(3), np.arange(4.0)], ids=repr)
def test_numpy_values_beside_the_weights_are_skipped(tmp_path, beside):
    """A checkpoint's best accuracy, say."""
    source, target = lived_in(build("conv4")), build("conv4")
    path = str(tmp_path / "mine.pt")
    torch.save({"state_dict": source.state_dict(), "best": beside}, path)
    assert load_weights(target, path) == []
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_of_two_networks_the_outer_one_is_taken_and_equals_are_named(tmp_path):
    """Such as student and teacher, or MoCo's encoder_q and encoder_k."""
    one, other = (lived_in(build("conv4")).state_dict() for _ in range(2))
    outer = {f"backbone.{name}": value for name, value in one.items()}
    outer |= {f"teacher.backbone.{name}": value for name, value in other.items()}
    # Counters are not needed, so they do not make the other one fit better.
    outer = {k: v for k, v in outer.items() if k[0] == "t" or not k.endswith("num_batches_tracked")}
    target = build("conv4")
    load_weights(target, str(saved(tmp_path, outer)))
    got = target.state_dict()
    assert all(torch.equal(v, got[k]) for k, v in one.items() if not k.endswith("num_batches_tracked"))
    message = refused(build("conv4"), saved(tmp_path, {"student": one, "teacher": other}))
    assert message == "holds 2 networks: student, teacher; save only one of them"


def test_a_tensor_beside_the_weights_hides_no_network(tmp_path):
    source, target = lived_in(build("conv4")), build("conv4")
    path = str(saved(tmp_path, {"net": source.state_dict(), "best_acc": torch.tensor(76.0)}))
    assert load_weights(target, path) == ["best_acc"]
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_what_is_refused_is_named(tmp_path):
    torch.save({"state_dict": build("conv4").state_dict(), "args": Namespace(lr=0.1)}, tmp_path / "mine.pt")
    assert "it contains argparse.Namespace, which is not loaded" in refused(
        build("conv4"), tmp_path / "mine.pt"
    )


def test_a_lightning_checkpoint_of_a_method_loads(tmp_path):
    """As `runs/` keeps them: the backbone under its name, beside a head."""
    source = lived_in(build("resnet20"))
    state = {f"backbone.{name}": value for name, value in source.state_dict().items()}
    path = str(tmp_path / "best.ckpt")
    torch.save({"state_dict": state | {"head.weight": torch.ones(3, 64)}, "global_step": 7}, path)
    target = build("resnet20")
    assert load_weights(target, path) == ["head.weight"]
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def refused(backbone: nn.Module, path: Path) -> str:
    """The message; the backbone must be as it was."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_weights(backbone, str(path))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.mark.parametrize(
    "file, backbone, message",
    [
        (
            "resnet20",
            "resnet56",
            r"does not fit the backbone: \d+ of \d+ missing, e\.g\. layer1\.3\.conv1\.weight; .*",
        ),
        ("resnet56", "resnet20", r"does not fit the backbone, which has no layer1\.3"),
        (
            "conv4",
            "resnet20",
            r"does not fit the backbone: \d+ of \d+ missing, e\.g\. conv1\.weight; the file has 0\.0\..*",
        ),
        (
            "resnet12-8",
            "resnet12-16",
            r"blocks\.0\.convs\.0\.weight is \[8, 3, 3, 3\], the backbone's is \[16, 3, 3, 3\]",
        ),
    ],
)
def test_weights_of_another_architecture(tmp_path, file, backbone, message):
    path = saved(tmp_path, build(file).state_dict())
    assert re.fullmatch(message, refused(build(backbone), path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path, value):
    state = build("conv4").state_dict()
    state["2.0.weight"][1, 2, 0, 0] = value
    message = refused(build("conv4"), saved(tmp_path, state))
    assert message == "2.0.weight holds NaN or infinite numbers"


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files(tmp_path, form, share):
    path = tmp_path / "weights"
    state = build("conv4").state_dict()
    torch.save(state, path) if form == "torch" else save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = refused(build("conv4"), path)
    assert re.fullmatch(r"is not a safetensors file or plain PyTorch checkpoint \(\w+\)", message)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("old_format", [False, True])
def test_pickled_code_is_not_executed(tmp_path, old_format):
    marker = tmp_path / "marker"
    content = {"state_dict": build("conv4").state_dict(), "hook": Malicious(marker)}
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert "is not a safetensors file or plain PyTorch checkpoint" in refused(build("conv4"), path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is harmful indeed
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"state_dict": {}}, [torch.ones(3)], torch.ones(3), {"epoch": 3, "model": {"lr": 0.1}}, "text"],
)
def test_files_without_named_tensors(tmp_path, content):
    assert refused(build("conv4"), saved(tmp_path, content)) == "holds no named tensors"


def test_files_that_cannot_be_read(tmp_path):
    assert refused(build("conv4"), tmp_path / "none.pt").startswith(
        "cannot be read: No such file or directory"
    )
    (tmp_path / "notes.txt").write_text("not weights")
    assert "is not a safetensors file" in refused(build("conv4"), tmp_path / "notes.txt")
    assert "cannot be read" in refused(build("conv4"), tmp_path)


@pytest.fixture(scope="module")
def resnet18():
    import timm

    torch.manual_seed(0)
    return lived_in(timm.create_model("resnet18", pretrained=False, num_classes=10)).eval()


@pytest.mark.slow
def test_timm_s_models_without_their_classifier(resnet18, tmp_path):
    backbone = build("timm:resnet18").eval()
    assert backbone.dim == 512
    save_file(resnet18.state_dict(), tmp_path / "resnet18.safetensors")
    assert load_weights(backbone, str(tmp_path / "resnet18.safetensors")) == ["fc.bias", "fc.weight"]
    with torch.no_grad():
        made = backbone(images())
        resized = F.interpolate(images(), (224, 224), mode="bicubic", antialias=True)
        expected = resnet18.forward_features(resized).mean(dim=(2, 3))
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(resnet18.fc(made), resnet18(resized), rtol=1e-4, atol=1e-4)
    assert made.shape == (3, 512)


def test_a_deeper_model_of_timm_does_not_fit(resnet18, tmp_path):
    deeper = resnet18.state_dict() | {"layer1.2.conv1.weight": torch.ones(64, 64, 3, 3)}
    message = refused(build("timm:resnet18"), saved(tmp_path, deeper))
    assert message == "does not fit the backbone, which has no model.layer1.2"


TINY = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", TINY)
def test_any_model_of_timm(name):
    backbone = build(f"timm:{name}").eval()
    with torch.no_grad():
        assert backbone(images()).shape == (3, backbone.dim)


def seen(backbone: nn.Module) -> Tensor:
    """What the model within the backbone gets of 32-pixel images."""
    kept = []
    handle = backbone.model.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        backbone.eval()(images())
    handle.remove()
    return kept[0]


def test_random_weights_take_images_as_they_come():
    backbone = build("timm:test_resnet")
    assert torch.equal(seen(backbone), images()) and backbone.normalisation is None
    assert seen(build("timm:test_vit")).shape[2:] == (160, 160)  # has a position for each patch


def test_images_as_timm_says_that_weights_want_them(tmp_path):
    import timm

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "file.safetensors")
    backbone = build("timm:test_resnet")
    load_weights(backbone, str(tmp_path / "file.safetensors"))
    assert seen(backbone).shape == (3, 3, 160, 160)
    assert backbone.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    # And so does what a training from there leaves behind, but not one from random weights.
    for source, size in ((backbone, 160), (build("timm:test_resnet"), 32)):
        state = {f"backbone.{name}": value for name, value in source.state_dict().items()}
        again = build("timm:test_resnet")
        load_weights(again, str(saved(tmp_path, {"state_dict": state})))
        assert seen(again).shape[2:] == (size, size)
        assert again.normalisation == source.normalisation


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A Hugging Face cache where timm's own weights of test_resnet would lie, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    where = tmp_path / "models--timm--test_resnet.r160_in1k"
    (where / "refs").mkdir(parents=True)
    (where / "refs" / "main").write_text("0123abc")
    (where / "snapshots" / "0123abc").mkdir(parents=True)
    return where / "snapshots" / "0123abc" / "model.safetensors"


def test_timm_s_own_weights(hub):
    import timm

    source = lived_in(timm.create_model("test_resnet")).eval()
    save_file(source.state_dict(), hub)
    backbone = build("timm:test_resnet")
    chance = torch.get_rng_state()
    backbone.load_pretrained()
    assert torch.equal(torch.get_rng_state(), chance)
    assert backbone.external and seen(backbone).shape[2:] == (160, 160)
    with torch.no_grad():
        large = images(160)
        expected = source.forward_head(source.forward_features(large), pre_logits=True)
        torch.testing.assert_close(backbone.eval()(large), expected)


def test_timm_s_own_weights_that_are_not_there(hub):
    backbone = build("timm:test_resnet")
    with pytest.raises(ValueError) as caught:
        backbone.load_pretrained()
    assert "timm/test_resnet.r160_in1k" in str(caught.value) and "HF_HUB_OFFLINE" in str(caught.value)
    assert "\n" not in str(caught.value) and not backbone.external
    hub.write_bytes(b"half a fi")
    with pytest.raises(ValueError, match=r"cannot be had: .*header"):
        backbone.load_pretrained()


def test_a_failed_download_says_why(hub, monkeypatch):
    """No offline mode, and a hub that cannot be reached."""
    from huggingface_hub import constants

    asked = []

    def create_model(name, pretrained, num_classes):
        asked.append(constants.HF_HUB_OFFLINE)
        if constants.HF_HUB_OFFLINE:
            raise FileNotFoundError("not in the cache")
        raise OSError("no such host\nand a long story")

    backbone = build("timm:test_resnet")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("timm.create_model", create_model)
    with pytest.raises(ValueError, match=r"cannot be had: no such host$"):
        backbone.load_pretrained()
    assert asked == [True, False] and constants.HF_HUB_OFFLINE is False


def test_the_small_stem_keeps_the_middle_of_the_filters():
    backbone = lived_in(build("timm:resnet18")).eval()
    old = backbone.model.conv1.weight.clone()
    deeper = backbone.model.layer1
    backbone.shrink_stem()
    kept = []
    deeper.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        backbone(images())
        expected = backbone.model.bn1(F.conv2d(images(), old[:, :, 2:5, 2:5], padding=1)).clamp(min=0)
    assert kept[0].shape == (3, 64, 32, 32)
    torch.testing.assert_close(kept[0], expected, rtol=1e-4, atol=1e-5)
    again = [id(parameter) for parameter in backbone.parameters()]
    backbone.shrink_stem()
    assert again == [id(parameter) for parameter in backbone.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:resnet18"])
def test_files_of_a_small_stem(name, tmp_path):
    """Ours say so themselves; from elsewhere a 3x3 filter in the place of a wider one tells."""
    source = lived_in(build(name)).eval()
    source.shrink_stem()
    target = build(name).eval()
    load_weights(target, str(saved(tmp_path, source.state_dict())))
    assert target.small_stem and not target.external
    with torch.no_grad():
        assert torch.equal(target(images()), source(images()))
    elsewhere = {k.removeprefix("model."): v for k, v in source.state_dict().items() if k != "_extra_state"}
    foreign = build("timm:resnet18")
    if name == "timm:resnet18":
        load_weights(foreign, str(saved(tmp_path, elsewhere)))
        assert foreign.small_stem and foreign.external and seen(foreign).shape[2:] == (32, 32)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext"])
def test_no_stem_to_shrink(name):
    with pytest.raises(ValueError, match="begins with a convolution of stride 2"):
        build(name).shrink_stem()


def test_weights_are_random_and_reproducible():
    torch.manual_seed(0)
    first, second = build("resnet20"), build("resnet20")
    torch.manual_seed(0)
    again = build("resnet20")
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
