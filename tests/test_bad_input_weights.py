"""Files that do not hold weights of the backbone."""

from pathlib import Path

import pytest
import torch
from bad_inputs import RUN, with_images
from command_line import complaint

from methods import backbones
from methods.weight_files import load_weights

FIRST = "0.0.weight"
NONE = "is not a safetensors file or plain PyTorch checkpoint"

State = dict[str, torch.Tensor]


def first(change):
    """The backbone's parameters, the first of them changed."""
    return lambda state: {**state, FIRST: change(state[FIRST])}


def quantized(weights: torch.Tensor) -> torch.Tensor:
    return torch._empty_affine_quantized(weights.shape, scale=0.1, zero_point=0, dtype=torch.qint8)


CONTENTS = {
    "NaN": (first(lambda w: w * torch.nan), f"{FIRST} holds NaN or infinite numbers"),
    "one infinity": (first(lambda w: w.index_fill(0, torch.tensor(3), torch.inf)), f"{FIRST} holds NaN or i"),
    "another shape": (first(lambda w: w[:1]), f"{FIRST} is [1, 3, 3, 3], the backbone's is [64, 3, 3, 3]"),
    "no dimension": (first(lambda w: w.sum()), f"{FIRST} is [], the backbone's is [64, 3, 3, 3]"),
    "no elements": (first(lambda w: w[:0]), f"{FIRST} is [0, 3, 3, 3], the backbone's is [64, 3, 3, 3]"),
    "4 TB": (first(lambda w: torch.zeros(1).expand(10**6, 10**6)), f"{FIRST} is [1000000, 1000000], the"),
    "whole numbers": (first(torch.Tensor.long), f"{FIRST} is torch.int64, the backbone's is torch.float32"),
    "truth values": (first(torch.Tensor.bool), f"{FIRST} is torch.bool, the backbone's is torch.float32"),
    "complex numbers": (first(lambda w: w + 0j), f"{FIRST} is torch.complex64, the backbone's is torch.floa"),
    "sparse": (first(lambda w: w.flatten(1).to_sparse()), f"{FIRST} is not a plain tensor"),
    "without content": (first(lambda w: w.to("meta")), f"{FIRST} is not a plain tensor"),
    "quantized": (first(quantized), f"{FIRST} is not a plain tensor"),
    "one missing": (lambda s: {k: v for k, v in s.items() if k != FIRST}, "does not fit the backbone: 1 of"),
    "of another backbone": (
        lambda s: backbones.build("resnet20").state_dict(),
        "does not fit the backbone: 20 of 24 missing, e.g. 0.0.weight",
    ),
    "numbered": (lambda s: dict(enumerate(s.values())), "does not fit the backbone: 20 of 24 missing"),
    "nothing": (lambda s: {}, "holds no named tensors"),
    "a list": (lambda s: list(s.values()), "holds no named tensors"),
    "one tensor": (lambda s: s[FIRST], "holds no named tensors"),
    "text": (lambda s: dict.fromkeys(s, "text"), "holds no named tensors"),
    "three folds": (lambda s: {"model": {"net": {"weights": s}}}, "holds no named tensors"),
    "no model": (lambda s: {"model": None}, "holds no named tensors"),
}  # fmt: skip

BEYOND = b"\x40" + bytes(7) + b'{"x":{"dtype":"F32","shape":[9999],"data_offsets":[0,39996]}}    '

BYTES = {
    "zero bytes": b"",
    "text": b"hello",
    "a web page": b"<!DOCTYPE html><html></html>",
    "half a pickle": b"\x80\x04garbage",
    "an empty archive": b"PK\x05\x06" + bytes(18),
    "half an archive": b"PK\x03\x04" + bytes(100),
    "an array": b"\x93NUMPY\x01\0",
    "a header of 2^64 bytes": b"\xff" * 8 + b"{}",
    "a header that is no JSON": b"\x02" + bytes(7) + b"{]",
    "a header of tensors beyond the file": BEYOND,
}  # fmt: skip

PATHS = {
    "gone.pt": "cannot be read: No such file or directory",
    "images": "cannot be read: Is a directory",
    "../link.pt": "cannot be read: No such file or directory",
    "../loop.pt": "cannot be read: Too many levels of symbolic links",
    "a_file/x.pt": "cannot be read: Not a directory",
}


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "here"
    folder.mkdir()
    (folder / "a_file").touch()
    (folder.parent / "link.pt").symlink_to("nowhere.pt")
    (folder.parent / "loop.pt").symlink_to("loop.pt")
    with with_images(folder):
        yield


def said_of(path: str) -> str:
    said = complaint(*RUN, "--split", "50-50", "--weights", path)
    assert said.startswith(f"--weights {path}: ")
    return said.removeprefix(f"--weights {path}: ")


@pytest.mark.parametrize("name", CONTENTS)
def test_tensors_that_do_not_fit(name):
    change, expected = CONTENTS[name]
    torch.save(change(backbones.build("conv4").state_dict()), "mine.pt")
    said = said_of("mine.pt")
    assert said.startswith(expected) and said.endswith(" (conv4)")


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_not_a_checkpoint(name):
    Path("mine.pt").write_bytes(BYTES[name])
    assert said_of("mine.pt").startswith(NONE)


@pytest.mark.parametrize("path", PATHS)
def test_no_file_to_read(path):
    assert said_of(path).startswith(PATHS[path])


def test_a_name_that_no_file_has():
    Path("run.yaml").write_text('method: siamese_triplet\ndataset: folder:images\nweights: "a\\0b"\n')
    said = complaint("run", "--config", "run.yaml")  # Python's versions word the reason differently.
    assert said.startswith("--weights a\\x00b: cannot be read: ") and "embedded null" in said


def test_half_precision_is_as_good_as_any():
    state = backbones.build("conv4").state_dict()
    torch.save(
        {name: value.half() if value.is_floating_point() else value for name, value in state.items()}, "f16"
    )
    loaded = backbones.build("conv4")
    load_weights(loaded, "f16")
    assert torch.allclose(loaded.state_dict()[FIRST], state[FIRST], atol=1e-3)
