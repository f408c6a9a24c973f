"""Methods that break the contract, one way each, with what is said of them; and a few that keep it."""

import torch
from torch import nn

from methods.backbones import Conv4
from methods.method import Method, class_means
from methods.protonet import ProtoNet

BASE = 8


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


class OnlyEmbeds(Means):
    episode_logits = Method.episode_logits


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
    OnlyEmbeds: "episode_logits is missing; episodes need it",
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
"""What is said first of each: the beginning, as a regular expression."""
RIGHT = (Means, CentresAndSaysSo, PrefersTheFirstAndSaysSo, Adapts)
