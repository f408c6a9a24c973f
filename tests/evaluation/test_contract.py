"""What a method must keep to: each way of breaking it is found, and no method of the package breaks it."""

import re

import pytest
import torch
from torch import nn

from bench.data.normalisation import Normaliser
from bench.evaluation import contract
from bench.evaluation.answers import ContractError, NotFinite, checked, inputs_unchanged, weights_unchanged
from methods import registry
from methods.backbones import Conv4
from methods.method import Method, class_means
from methods.protonet import ProtoNet

BASE = 8
NAMES = sorted(name for name, info in registry.available().items() if info.source == f"methods.{name}")
KINDS = ("siamese_triplet", "pair_classifier", "reptile")  # of distances, of a learned score, and adapting
PRECISIONS = ("32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow))


class Means(ProtoNet):
    """Nearest class mean of a small network's features; nothing is wrong with it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(Conv4(filters=8, image_size=16), ProtoNet.Hyperparameters(), BASE)
        self.register_buffer("answered", torch.zeros(()))


class CentresQueries(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query - query.mean(dim=1, keepdim=True))


class CentresAndSaysSo(CentresQueries):
    transductive = True


class CentresOverEpisodes(Means):
    transductive = True

    def episode_logits(self, support, query):
        return super().episode_logits(support, query - query.mean(dim=(0, 1)))


class CountsQueries(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query) * query.shape[1]


class KnowsPlaces(Means):
    """An answer that depends on where in the batch the query is."""

    def episode_logits(self, support, query):
        places = torch.arange(query.shape[1])[:, None] * torch.arange(support.shape[1])
        return super().episode_logits(support, query) + places


class OneColumn(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query)[..., :1]


class Squeezes(Means):
    """Right for any number of shots but one."""

    def episode_logits(self, support, query):
        return super().episode_logits(support, query)[:, : -1 if support.shape[2] == 1 else None]


class AnswersClasses(Means):
    def episode_logits(self, support, query):
        return nn.functional.one_hot(super().episode_logits(support, query).argmax(2), support.shape[1])


class AnswersNothing(Means):
    def episode_logits(self, support, query):
        super().episode_logits(support, query)


class NaN(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query).log()


class ShiftsQueries(Means):
    def episode_logits(self, support, query):
        query -= 1.0
        return super().episode_logits(support, query)


class ShiftsSupport(Means):
    def episode_logits(self, support, query):
        support.mul_(2)
        return super().episode_logits(support, query)


class Counts(Means):
    def episode_logits(self, support, query):
        self.answered += 1
        return super().episode_logits(support, query)


class ReplacesWeights(Means):
    def episode_logits(self, support, query):
        self.backbone.head = nn.Parameter(support.mean())
        return super().episode_logits(support, query)


class PrefersTheFirst(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query) + torch.eye(support.shape[1])[0]


class PrefersTheFirstAndSaysSo(PrefersTheFirst):
    order_dependent = True


class TakesTheFirstShot(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support[:, :, :1], query)


class MixesAxes(Means):
    def episode_logits(self, support, query):
        _, way, shot, dim = support.shape
        mixed = support.reshape(-1, shot, way, dim).transpose(1, 2)
        return super().episode_logits(mixed, query)


class Draws(Means):
    def episode_logits(self, support, query):
        return super().episode_logits(support, query) + torch.randn(support.shape[1])


class NormalisesBatches(Means):
    def embed(self, images):
        made = super().embed(images)
        return (made - made.mean(0)) / (made.std(0) + 1e-3)


class Maps(Means):
    def embed(self, images):
        return images


class RanksPairs(Means):
    def similarity(self, a, b):
        return super().similarity(a, b).argsort().argsort().float()


class CentresPairs(Means):
    def similarity(self, a, b):
        return super().similarity(a - a.mean(0), b - b.mean(0))


class ManyScores(Means):
    def similarity(self, a, b):
        return a * b


class NoSimilarity(Means):
    similarity = Method.similarity


class ShiftsPairs(Means):
    def similarity(self, a, b):
        a -= b
        return -a.norm(dim=1)


class JointlyCentres(Means):
    def joint_logits(self, base, support, query):
        return super().joint_logits(base, support, query - query.mean(0))


class JointlyForgets(Means):
    def joint_logits(self, base, support, query):
        return super().joint_logits(base, support, query)[:, :-1]


class JointlyShifts(Means):
    def joint_logits(self, base, support, query):
        base *= 0.5
        return super().joint_logits(base, support, query)


class Adapts(Means):
    """Class means of features, as a method that learns from images."""

    fixed_embedding = False

    def adapt(self, support):
        made = class_means(self.embed(support.flatten(0, 2)).unflatten(0, support.shape[:3]))
        return lambda query: self.logits(made, self.embed(query.flatten(0, 1)).unflatten(0, query.shape[:2]))

    def logits(self, made, query):
        return -torch.cdist(query.float(), made)


class AdaptsToQueries(Adapts):
    def logits(self, made, query):
        return super().logits(made, query - query.mean(1, keepdim=True) + made.mean(1, keepdim=True))


class AdaptsAndShifts(Adapts):
    def adapt(self, support):
        support -= 0.5
        return super().adapt(support)


class AdaptsItself(Adapts):
    def adapt(self, support):
        with torch.no_grad():
            next(self.backbone.parameters()).mul_(1.01)
        return super().adapt(support)


class AdaptsAtRandom(Adapts):
    def adapt(self, support):
        answer, scale = super().adapt(support), torch.rand(support.shape[1])
        return lambda query: scale * answer(query)


class AdaptsInto(Adapts):
    def logits(self, made, query):
        return super().logits(made, query)[:, :, None]


ORDER = r".*declare `order_dependent = True`"
INDUCTIVE = (
    r"gives another answer for a query when other queries are replaced \(.*%.*declare `transductive = True`"
)
WRONG = {
    CentresQueries: f"episode_logits {INDUCTIVE}",
    CentresOverEpisodes: "episode_logits changes its answers for an episode when other episodes are in",
    CountsQueries: "episode_logits gives another answer for a query when other queries are left out",
    KnowsPlaces: "episode_logits gives another answer for a query when other queries are left out",
    OneColumn: r"episode_logits must return shape \[2, 15, 5\] here, but returned \[2, 15, 1\]",
    Squeezes: r"episode_logits must return shape \[2, 15, 5\] here, but returned \[2, 14, 5\]",
    AnswersClasses: "episode_logits must return floating-point numbers, but returned torch.int64",
    AnswersNothing: "episode_logits must return a tensor, but returned NoneType",
    NaN: "episode_logits returned NaN or infinite values",
    ShiftsQueries: "episode_logits changed its input tensors in place",
    ShiftsSupport: "episode_logits changed its input tensors in place",
    Counts: "answered changed during the evaluation",
    ReplacesWeights: "backbone.head changed during the evaluation",
    PrefersTheFirst: f"episode_logits {ORDER}",
    TakesTheFirstShot: f"episode_logits {ORDER}",
    MixesAxes: f"episode_logits {ORDER}",
    Draws: "episode_logits changes its answers for an episode when it is called again",
    NormalisesBatches: "embed gives another answer for an image when other images are replaced",
    Maps: r"embed must return shape \[16, D\] here, but returned \[16, 3, 16, 16\]",
    RanksPairs: "similarity gives another answer for a pair when other pairs are ",
    CentresPairs: "similarity gives another answer for a pair when other pairs are replaced",
    ManyScores: r"similarity must return shape \[30\] here, but returned \[30, 8\]",
    NoSimilarity: "similarity is missing",
    ShiftsPairs: "similarity changed its input tensors in place",
    JointlyCentres: f"joint_logits {INDUCTIVE}",
    JointlyForgets: r"joint_logits must return shape \[15, 13\] here, but returned \[15, 12\]",
    JointlyShifts: "joint_logits changed its input tensors in place",
    AdaptsToQueries: f"adapt {INDUCTIVE}",
    AdaptsAndShifts: "adapt changed its input tensors in place",
    AdaptsItself: r"backbone.* changed during the evaluation",
    AdaptsAtRandom: "adapt changes its answers for an episode when it is called again",
    AdaptsInto: r"the function that adapt returns must return shape \[2, 6, 3\]",
}
RIGHT = (Means, CentresAndSaysSo, PrefersTheFirstAndSaysSo, Adapts)


def found(method, data, split, precision="32-true"):
    return contract.findings(
        method, data, [split.validation_images], Normaliser(data.images, split.train), precision
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
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
