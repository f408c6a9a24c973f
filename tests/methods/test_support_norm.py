"""Batch norm by the statistics of a support set, against the formula."""

import copy

import pytest
import torch
from torch import nn

from methods.backbones import build
from methods.support_norm import (
    GivenStatistics,
    OwnStatistics,
    TakenStatistics,
    query_norm,
    support_norm,
    support_statistics,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network() -> nn.Sequential:
    """Two batch norms, with weights and biases that are not 1 and 0, and running statistics too."""
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    )
    made = made.double().eval()
    for norm in (made[1], made[4]):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(norm.running_var)
    return made


def by_hand(made: nn.Sequential, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """MetaBN: at each layer, the queries are normalised by mean and variance of the support activations."""
    for layer in made:
        if isinstance(layer, nn.BatchNorm2d):
            mean = support.mean((0, 2, 3), keepdim=True)
            deviation = (((support - mean) ** 2).mean((0, 2, 3), keepdim=True) + layer.eps) ** 0.5
            weight, bias = layer.weight[:, None, None], layer.bias[:, None, None]
            support, query = (weight * (x - mean) / deviation + bias for x in (support, query))
        else:
            support, query = layer(support), layer(query)
    return query


def test_queries_are_normalised_by_the_support_set_s_statistics():
    made = network()
    support, query = torch.randn(6, 3, 7, 7).double(), 3 + torch.randn(4, 3, 7, 7).double()
    state = copy.deepcopy(made.state_dict())
    layers = support_statistics("support", lambda: made(support))
    with query_norm("support", layers):
        found = made(query)
    torch.testing.assert_close(found, by_hand(made, support, query))
    with query_norm("support", layers):  # a second part of the queries finds the same statistics
        torch.testing.assert_close(made(query[:1]), found[:1])
    with support_norm("support"):
        torch.testing.assert_close(made(support), by_hand(made, support, support))
    assert all(torch.equal(state[name], value) for name, value in made.state_dict().items())


def test_gradients_flow_through_the_statistics():
    made = network()
    support, query = torch.randn(6, 3, 7, 7).double(), torch.randn(4, 3, 7, 7).double()
    support.requires_grad_()
    wanted = [support, *made.parameters()]
    with TakenStatistics() as taken:
        made(support)
    with GivenStatistics(taken.layers):
        found = torch.autograd.grad(made(query).pow(3).sum(), wanted)
    expected = torch.autograd.grad(by_hand(made, support, query).pow(3).sum(), wanted)
    torch.testing.assert_close(found, expected)
    assert found[0].abs().max() > 0


def test_transductive_queries_are_normalised_together():
    made = network()
    support, query = torch.randn(6, 3, 7, 7).double(), torch.randn(4, 3, 7, 7).double()
    with query_norm("transductive", support_statistics("transductive", lambda: made(support))):
        torch.testing.assert_close(made(query), by_hand(made, query, query))


def test_running_statistics_are_the_network_s_own():
    made = network().eval()
    query = torch.randn(4, 3, 7, 7).double()
    layers = support_statistics("running", lambda: pytest.fail("the support set is not asked"))
    with query_norm("running", layers):
        torch.testing.assert_close(made(query), made(query[:, :, :, :]))
    with support_norm("running"):
        assert torch.equal(made(query), made(query))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv4", "resnet12-8", "resnet20", "timm:efficientnet_b0"])
def test_every_batch_norm_of_a_backbone_is_reached(name):
    """Those of timm that hold their activation too."""
    backbone = build(name).double().eval()
    support, query = torch.randn(6, 3, 32, 32).double(), torch.randn(3, 3, 32, 32).double()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    with torch.no_grad():
        with TakenStatistics() as taken:
            own = backbone(support)
        with OwnStatistics():
            assert torch.equal(backbone(support), own)
        answers = []
        for images in (support, query, query[:1]):
            with GivenStatistics(taken.layers):
                answers.append(backbone(images))
    same, together, alone = answers
    assert len(taken.layers) == norms
    torch.testing.assert_close(same, own)
    torch.testing.assert_close(alone, together[:1])
    for module in backbone.modules():  # as training does, but without what else differs there (dropout)
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        torch.testing.assert_close(own, backbone(support))


def test_inside_autocast_statistics_have_full_precision():
    backbone = build("conv4").eval()
    support, query = torch.randn(5, 3, 32, 32), torch.randn(3, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with query_norm("support", support_statistics("support", lambda: backbone(support))):
            low = backbone(query)
        with TakenStatistics() as taken:
            backbone(support)
    with torch.no_grad(), query_norm("support", support_statistics("support", lambda: backbone(support))):
        high = backbone(query)
    assert all(mean.dtype == variance.dtype == torch.float32 for mean, variance in taken.layers)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), high, rtol=0.1, atol=0.1)
