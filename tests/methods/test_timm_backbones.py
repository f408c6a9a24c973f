"""Models of timm as backbones: their features, the images that they take, their weights and small stems."""

from pathlib import Path

import pytest
import torch
from networks import images, lived_in, refused, saved
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbones import build
from methods.timm_backbone import interpolation
from methods.weight_files import load_weights


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


def test_a_model_without_weights_says_so():
    backbone = build("timm:test_resnet")
    backbone.model.pretrained_cfg = {**backbone.model.pretrained_cfg, "hf_hub_id": None, "url": ""}
    with pytest.raises(ValueError, match=r"^timm has no weights for timm:test_resnet$"):
        backbone.load_pretrained()


def test_a_small_stem_keeps_its_bias():
    backbone = build("timm:test_resnet")
    where = backbone.model.pretrained_cfg["first_conv"]
    old = nn.Conv2d(3, backbone.model.get_submodule(where).out_channels, 7, stride=2, padding=3)
    backbone.model.set_submodule(where, old)
    backbone.shrink_stem()
    new = backbone.model.get_submodule(where)
    assert new.kernel_size == (3, 3) and torch.equal(new.bias, old.bias)


def test_interpolation_is_the_model_s_at_its_own_size_alone():
    assert interpolation("resnet18", 224) == "bicubic"
    assert interpolation("resnet18", 32) == interpolation("resnet18.no_such_tag", 224) == "bilinear"
