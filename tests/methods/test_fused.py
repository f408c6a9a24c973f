"""The fused operations of training against PyTorch's own, one after another in the textbook's order."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from methods import fused
from methods import fused_formulas as formulas
from methods.backbones import build

NAMES = ("norm_pool", "norm_act", "norm_add", "pool_act")
PAIRS = {name: [getattr(formulas, f"{name}_{way}") for way in ("forward", "backward")] for name in NAMES}
TEXTBOOK = {
    "norm_pool": lambda x, w, b, eps, slope: F.max_pool2d(F.leaky_relu(normed(x, w, b, eps), slope), 2),
    "norm_act": lambda x, w, b, eps, slope: F.leaky_relu(normed(x, w, b, eps), slope),
    "norm_add": lambda x, w, b, eps, y, v, c, eps2: normed(x, w, b, eps) + normed(y, v, c, eps2),
    "pool_act": lambda x, slope: F.max_pool2d(F.leaky_relu(x, slope), 2),
}


def normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def arguments(name: str, size: int = 5, slope: float = 0.1) -> list:
    """In float64; an odd size has a row and a column that no window covers, and a weight is negative."""
    rng = torch.Generator().manual_seed(3)

    def parameters() -> list:
        shape = (3, 4, size, size + 1)
        x = 2 + torch.randn(shape, dtype=torch.float64, generator=rng)
        weight = torch.tensor([0.7, -1.2, 0.3, 1.5], dtype=torch.float64)
        bias = torch.tensor([0.1, -0.2, 0.5, -0.4], dtype=torch.float64)
        return [x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), 1e-5]

    if name == "pool_act":
        return [(parameters()[0] - 2).detach().requires_grad_(), slope]
    return [*parameters(), *parameters()] if name == "norm_add" else [*parameters(), slope]


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch):
    """Formulas are checked as they are written; tests/test_compilation.py compiles them."""
    for name, pair in PAIRS.items():
        monkeypatch.setattr(fused, f"_{name}", fused.operation(*pair, compiled=False))


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("size", [2, 5, 8])
@pytest.mark.parametrize("name", PAIRS)
def test_answers_and_gradients_are_the_textbook_s(name, size, slope):
    given = arguments(name, size, slope)
    tensors = [argument for argument in given if isinstance(argument, Tensor)]
    own = getattr(fused, f"_{name}")(*given)[0]
    expected = TEXTBOOK[name](*given)
    torch.testing.assert_close(own, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = torch.autograd.grad((own * weights).sum(), tensors)
    for gradient, wanted in zip(found, torch.autograd.grad((expected * weights).sum(), tensors), strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_gradients(name):
    """A method of second order may train on them too."""
    given = arguments(name)
    tensors = [argument for argument in given if isinstance(argument, Tensor)]

    def of_second_order(function) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(function(*given).pow(3).sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(gradient.square().sum() for gradient in first), tensors)

    found = of_second_order(lambda *a: getattr(fused, f"_{name}")(*a)[0])
    for own, wanted in zip(found, of_second_order(TEXTBOOK[name]), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("name", ["norm_pool", "pool_act"])
def test_equal_pixels_share_a_window_s_gradient(name):
    """Half-precision convolutions often give two equal values; the sum over the window stays."""
    given = arguments(name, size=4)
    with torch.no_grad():
        given[0].copy_(given[0].round())
    pooled = getattr(fused, f"_{name}")(*given)[0]
    torch.testing.assert_close(pooled, TEXTBOOK[name](*given))
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    fused.pool_act(x, 0.0).sum().backward()
    assert torch.equal(x.grad, torch.full((1, 1, 4, 4), 0.25, dtype=torch.float64))


def changed(backbone: nn.Module) -> nn.Module:
    """Batch norm whose weights are of both signs."""
    torch.manual_seed(6)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -1, 1)
            nn.init.uniform_(norm.bias, -1, 1)
    return backbone


def step(backbone: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Features, gradients and running statistics of one training step."""
    features = backbone(images)
    features.square().sum().backward()
    gradients = {f"{name}.grad": parameter.grad for name, parameter in backbone.named_parameters()}
    return {"features": features, **gradients, **dict(backbone.named_buffers())}


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("name", ["conv4", "resnet12-4"])
def test_a_training_step_is_the_same(name, size):
    eager = changed(build(name, size)).double()
    own = copy.deepcopy(eager)
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    expected = step(eager, images)
    with fused.fused_training(own):
        found = step(own, images)
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        torch.testing.assert_close(found[part], value, msg=part)


def spied(monkeypatch) -> list[str]:
    """Names of the fused operations that are called from here on."""
    called: list[str] = []
    for name in PAIRS:
        real = getattr(fused, f"_{name}")

        def noted(*arguments, name=name, real=real):
            called.append(name)
            return real(*arguments)

        monkeypatch.setattr(fused, f"_{name}", noted)
    return called


@pytest.mark.parametrize("name", ["conv4", "resnet12-4"])
def test_only_plain_training_runs_fused(name, monkeypatch):
    called, backbone, images = spied(monkeypatch), build(name), torch.randn(2, 3, 32, 32)
    backbone(images)
    assert not called
    with fused.fused_training(backbone):
        backbone.eval()(images)
        with torch.no_grad():
            backbone.train()(images)
        buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        grad(lambda weights, buffers: functional_call(backbone, (weights, buffers), (images,)).sum())(
            dict(backbone.named_parameters()), buffers
        )
        assert not called
        copy.deepcopy(backbone)(images).sum().backward()
        assert called
    called.clear()
    backbone(images)
    assert not called
