"""What a method must keep to: each way of breaking it is found, and no method of the package breaks it."""

import re

import pytest
import torch
from contract_breakers import (
    BASE,
    RIGHT,
    WRONG,
    AdaptsToQueries,
    CentresPairs,
    CentresQueries,
    CountsQueries,
    ManyScores,
    Means,
    NormalisesBatches,
    RanksPairs,
)
from torch import nn

from bench.data.normalisation import Normaliser
from bench.evaluation import contract
from bench.evaluation.answers import ContractError, NotFinite, checked, inputs_unchanged, weights_unchanged
from methods import registry
from methods.backbones import Conv4

NAMES = sorted(name for name, info in registry.available().items() if info.source == f"methods.{name}")
KINDS = ("siamese_triplet", "pair_classifier", "reptile")  # of distances, of a learned score, and adapting
ROUNDED = (CentresQueries, CountsQueries, NormalisesBatches, CentresPairs, RanksPairs, AdaptsToQueries)
"""What breaks the contract by numbers that a lower precision hides or makes."""
PRECISIONS = ("32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow))


def found(method, data, split, precision="32-true"):
    return contract.findings(
        method, data, [split.validation_images], Normaliser(data.images, split.train), precision
    )


@pytest.mark.parametrize(
    "kind, precision",
    [
        *((kind, "32-true") for kind in WRONG),
        *(
            pytest.param(kind, "bf16-mixed", marks=pytest.mark.slow if kind in ROUNDED else pytest.mark.soak)
            for kind in WRONG
        ),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_wrong_is_found(kind, precision, tiny, tiny_split):
    first, *_ = found(kind(), tiny, tiny_split, precision)
    assert re.match(WRONG[kind], first), first


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", RIGHT, ids=lambda kind: kind.__name__)
def test_what_is_right_or_declared_is_not(kind, precision, tiny, tiny_split):
    assert found(kind(), tiny, tiny_split, precision) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, precision",
    [
        *((name, "32-true") for name in NAMES),
        *(
            pytest.param(name, "bf16-mixed", marks=() if name in KINDS else pytest.mark.soak)
            for name in NAMES
        ),
    ],
)
def test_the_methods_of_the_package_keep_it(name, precision, tiny, tiny_split):
    """Of every preset that answers in another way, and with weights that differ from class to class."""
    info = registry.available()[name]
    method_class, seen = registry.load(info), []
    for preset in registry.available()[name].presets.keys() - {"standard"}:
        changes = {key: value for key, value in info.presets[preset].items() if key != "backbone"}
        changes |= {"pretrained": False} if "pretrained" in changes else {}
        changes |= {"hidden": 64, "generated": 10} if "hidden" in changes else {}
        changes |= {key: 5 for key in ("test_steps", "adapt_epochs") if key in info.parameters}
        torch.manual_seed(0)
        method = method_class(Conv4(filters=8, image_size=16), method_class.Hyperparameters(**changes), BASE)
        with torch.no_grad():
            for weights in method.parameters():
                weights += 0.05 * torch.randn_like(weights)
        seen += found(method, tiny, tiny_split, precision)
    assert seen == []


def test_embeddings_that_hardly_differ_are_left_to_rounding(tiny, tiny_split):
    """All that squared distances show of a collapsed network is rounding, in any way they are computed."""

    class Collapsed(Means):
        def embed(self, images):
            return 1000 + 1e-3 * super().embed(images).float()

    assert found(Collapsed(), tiny, tiny_split) == []


def test_the_method_and_the_random_numbers_are_left_as_they_were(tiny, tiny_split):
    method = Means().train()
    method.backbone.eval()
    modes = [module.training for module in method.modules()]
    torch.manual_seed(3)
    assert found(method, tiny, tiny_split) == []
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), after)
    assert [module.training for module in method.modules()] == modes


def test_all_that_is_wrong_is_found_and_the_first_is_raised(tiny, tiny_split):
    class Wrong(CentresQueries, ManyScores):
        pass

    both = found(Wrong(), tiny, tiny_split)
    assert [text.split()[0] for text in both] == ["episode_logits", "similarity"]
    normalise = Normaliser(tiny.images, tiny_split.train)
    with pytest.raises(ContractError, match=r"^episode_logits"):
        contract.check(Wrong(), tiny, [tiny_split.novel_images], normalise, "32-true")


def test_two_classes_of_two_images_are_enough_and_fewer_are_not_asked_about(tiny, tiny_split):
    normalise = Normaliser(tiny.images, tiny_split.train)
    starts = [torch.arange(2) + 30 * c for c in range(2)]
    few, fewer = torch.cat(starts), torch.cat([starts[0], starts[1][:1]])
    asked = (tiny, [few], normalise, "32-true")
    assert contract.findings(Means(), *asked) == [] != contract.findings(CountsQueries(), *asked)
    assert contract.findings(CountsQueries(), tiny, [fewer], normalise, "32-true") == []
    assert contract.findings(CountsQueries(), tiny, [fewer, few], normalise, "32-true")


def test_single_answers():
    assert checked(torch.ones(2, 3), "embed", (2, -1)).shape == (2, 3)
    with pytest.raises(ContractError, match=r"^embed must return shape \[2, D\] here, but returned \[2, 0\]"):
        checked(torch.ones(2, 0), "embed", (2, -1))
    with pytest.raises(NotFinite):
        checked(torch.tensor([1.0, torch.inf]), "similarity", (2,))
    kept, weights = torch.zeros(2), nn.Linear(2, 2)
    with pytest.raises(ContractError, match="in place"), inputs_unchanged("it", kept):
        kept += 1
    with pytest.raises(ContractError, match=r"^weight changed"), weights_unchanged(weights), torch.no_grad():
        weights.weight += 1
    with inputs_unchanged("it", kept), weights_unchanged(weights):
        kept + 1
