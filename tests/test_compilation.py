"""Training on compiled operations: when it is done, what it gives, and what happens without a compiler."""

import os
from pathlib import Path

import pytest
import torch
from fitting import fit, killed_after
from forked_runs import in_fork, say_into
from small_budget import small_budget
from torch import nn

from bench.training import compilation
from bench.training.compilation import compile_training, gains, long_enough
from methods import fused, registry
from methods.backbones import Conv4, build
from methods.base_classifier import BaseClassifier
from methods.pretraining import Pretraining
from methods.protonet import ProtoNet

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


def made(name: str, preset: str, **changes):
    """A method of 60 base classes as a preset makes it."""
    method_class = registry.load(registry.available()[name])
    values = {**method_class.presets[preset], **changes}
    return method_class(build(values.pop("backbone")), method_class.Hyperparameters(**values), 60)


def saves_time(method, size: int, device: torch.device, precision: str = "32-true") -> bool:
    return gains(method, precision, device) and long_enough(method, size)


def test_it_pays_in_a_long_training_only(monkeypatch):
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    for name in ("siamese_triplet", "pair_classifier", "protonet", "anil", "siamese_reptile"):
        assert saves_time(made(name, "quick"), 32, CPU), name
        assert not saves_time(made(name, "smoke"), 32, CPU), name
    assert saves_time(made("protonet", "quick", steps=200), 84, CPU)
    assert not saves_time(made("protonet", "quick", steps=200), 32, CPU)
    assert saves_time(BaseClassifier(build("conv4"), Pretraining(2400), 60), 32, CPU)
    assert not saves_time(made("nearest_centroid", "quick"), 32, CPU)  # has no training of its own
    assert not saves_time(
        made("protonet", "quick", steps=40_000), 32, torch.device("cuda")
    )  # measured slower
    assert not saves_time(made("maml", "quick"), 32, CPU)  # takes gradients of gradients
    assert not saves_time(made("protonet", "quick", backbone="resnet20"), 32, CPU)  # has no fused blocks
    resnet12 = made("protonet", "quick", backbone="resnet12-32")
    assert saves_time(resnet12, 32, CPU, "bf16-mixed")
    assert not saves_time(resnet12, 32, CPU)  # nearly all of a step is convolutions in fp32
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    assert not saves_time(made("protonet", "quick"), 32, CPU)


STEPS = 4


def protonet(steps: int = STEPS, blocks: int = 1) -> ProtoNet:
    """On the first block of a conv4, or the last one too: each shape is compiled, 16 and 2 pixels here."""
    torch.manual_seed(0)
    first, _, _, last, flatten = Conv4(filters=8, image_size=16)
    layers = [first, nn.AvgPool2d(8)] if blocks == 1 else [first, nn.AvgPool2d(4), last]
    backbone = nn.Sequential(*layers, flatten)
    backbone.dim = 8
    method = ProtoNet(backbone, ProtoNet.Hyperparameters(steps=steps, train_way=5), 8)
    return method.to(memory_format=torch.channels_last)


def result(data, split, folder, runs_compiled: bool) -> dict[str, torch.Tensor]:
    """Train; the weights and running statistics at the end."""
    method = protonet()
    fit(method, data, split, folder, compiled=runs_compiled)
    return method.state_dict()


@pytest.fixture(scope="module")
def available():
    """Skips without a compiler; leaves the random numbers and the method as they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "PAYS_FROM", 0)
        method = protonet()
        before = {name: value.clone() for name, value in method.state_dict().items()}
        drawn = torch.get_rng_state()
        if not compile_training(method, 16, "32-true", CPU):
            pytest.skip("needs a C++ compiler")
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
        assert all(weights.grad is None for weights in method.parameters())


@pytest.mark.usefixtures("available")
def test_compiled_training_is_the_same_and_resumes_bit_for_bit(tiny, tiny_split, tmp_path, monkeypatch):
    small_budget(monkeypatch, validation_episodes=10, save_every_s=0.0)
    called = []
    norm_pool = fused.norm_pool
    monkeypatch.setattr(fused, "norm_pool", lambda *a, **k: called.append(a) or norm_pool(*a, **k))
    whole = result(tiny, tiny_split, tmp_path / "whole", runs_compiled=True)
    assert len(called) == STEPS  # validation embeds uncompiled
    eager = result(tiny, tiny_split, tmp_path / "eager", runs_compiled=False)
    assert len(called) == STEPS
    for name, value in eager.items():
        torch.testing.assert_close(whole[name], value, rtol=1e-2, atol=1e-3, msg=name)

    with killed_after(2):
        result(tiny, tiny_split, tmp_path / "killed", runs_compiled=True)
    torch._dynamo.reset()  # the resuming process starts from what is in the cache
    resumed = result(tiny, tiny_split, tmp_path / "killed", runs_compiled=True)
    assert (tmp_path / "killed" / "logs" / "from-2").is_dir()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.usefixtures("available")
@pytest.mark.parametrize(
    "dtype, blocks", [(torch.float32, 1), pytest.param(torch.bfloat16, 2, marks=pytest.mark.soak)]
)
def test_compiled_gradients_are_eager_ones(dtype, blocks):
    """In bfloat16 too, where PyTorch's own operations round in between and equal pixels are common."""
    eager = protonet(1, blocks).backbone
    images = torch.randn(25, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)

    def gradients(fuse: bool) -> torch.Tensor:
        eager.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            if fuse:
                with fused.fused_training(eager):
                    features = eager(images)
            else:
                features = eager(images)
        assert features.dtype == dtype
        features.float().square().sum().backward()
        return torch.cat([weights.grad.flatten() for weights in eager.parameters()])

    found, expected = gradients(True), gradients(False)
    limit = 1e-4 if dtype == torch.float32 else 0.1
    assert (found - expected).norm() < limit * expected.norm()


@pytest.mark.usefixtures("available")
def test_operations_that_give_other_gradients_are_not_used(monkeypatch, capsys):
    monkeypatch.setattr(compilation, "PAYS_FROM", 0)
    right = fused.norm_pool
    monkeypatch.setattr(fused, "norm_pool", lambda norm, x, slope: 1.1 * right(norm, x, slope))
    assert not compile_training(protonet(), 16, "32-true", CPU)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: training runs without torch.compile") and "other gradients" in line


def compiled_without_a_compiler(folder: Path) -> bool:
    from torch._inductor import config

    cache = {"FEWSHOT_CACHE": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    os.environ.update(cache)
    config.cpp.cxx = (None, "no-such-compiler")  # what $CXX sets when torch is imported
    compilation.PAYS_FROM = 0
    say_into(folder / "said")
    return compile_training(protonet(), 16, "32-true", CPU)


def test_without_a_compiler_one_line_says_so(tmp_path):
    assert not in_fork(compiled_without_a_compiler, tmp_path)
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert line.startswith("warning: training runs without torch.compile")
