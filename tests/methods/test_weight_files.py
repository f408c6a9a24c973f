"""Files of a backbone's weights: the forms that are read, and what is refused."""

import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import images, lived_in, refused, saved
from safetensors.torch import save_file
from torch import Tensor

from methods.backbones import build
from methods.weight_files import load_weights


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


def left_out(name: str, wrap: Callable[[dict[str, Tensor]], object], tmp_path: Path) -> list[str]:
    """What is not loaded of a backbone's state wrapped like this; all of the state itself is."""
    source, target = lived_in(build(name)), build(name)
    left = load_weights(target, str(saved(tmp_path, wrap(source.state_dict()))))
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())
    return left


def test_a_checkpoint_of_a_compiled_part(tmp_path):
    def compiled(state):
        return {name.replace("layer2.", "layer2._orig_mod."): value for name, value in state.items()}

    assert left_out("resnet20", compiled, tmp_path) == []


@pytest.mark.parametrize("beside", [np.float64(0.9), np.float32(0.5), np.int64(3), np.arange(4.0)], ids=repr)
def test_numpy_values_beside_the_weights_are_skipped(tmp_path, beside):
    """A checkpoint's best accuracy, say."""
    assert left_out("conv4", lambda state: {"state_dict": state, "best": beside}, tmp_path) == []


def test_a_tensor_beside_the_weights_hides_no_network(tmp_path):
    found = left_out("conv4", lambda state: {"net": state, "best_acc": torch.tensor(76.0)}, tmp_path)
    assert found == ["best_acc"]


def test_a_lightning_checkpoint_of_a_method_loads(tmp_path):
    """As `runs/` keeps them: the backbone under its name, beside a head."""

    def checkpoint(state):
        backbone = {f"backbone.{name}": value for name, value in state.items()}
        return {"state_dict": backbone | {"head.weight": torch.ones(3, 64)}, "global_step": 7}

    assert left_out("resnet20", checkpoint, tmp_path) == ["head.weight"]


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
def test_weights_that_are_not_finite(tmp_path, value):
    state = build("conv4").state_dict()
    state["2.0.weight"][1, 2, 0, 0] = value
    message = refused(build("conv4"), saved(tmp_path, state))
    assert message == "2.0.weight holds NaN or infinite numbers"


@pytest.mark.parametrize(
    "content",
    [{}, {"state_dict": {}}, [torch.ones(3)], torch.ones(3), {"epoch": 3, "model": {"lr": 0.1}}, "text"],
)
def test_files_without_named_tensors(tmp_path, content):
    assert refused(build("conv4"), saved(tmp_path, content)) == "holds no named tensors"


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files(tmp_path, form, share):
    path = tmp_path / "weights"
    state = build("conv4").state_dict()
    torch.save(state, path) if form == "torch" else save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = refused(build("conv4"), path)
    assert re.fullmatch(r"is not a safetensors file or plain PyTorch checkpoint \(\w+\)", message)


def test_what_is_refused_is_named(tmp_path):
    torch.save({"state_dict": build("conv4").state_dict(), "args": Namespace(lr=0.1)}, tmp_path / "mine.pt")
    assert "it contains argparse.Namespace, which is not loaded" in refused(
        build("conv4"), tmp_path / "mine.pt"
    )


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


def test_a_file_that_is_gone_is_not_called_damaged(tmp_path):
    assert refused(build("conv4"), tmp_path / "gone.pt").startswith("cannot be read: No such file")
