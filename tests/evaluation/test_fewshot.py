"""N-way K-shot accuracy against a slow loop, and no way to score without looking."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.evaluation import fewshot
from bench.evaluation.embedding import embed_images
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from methods.backbones import build
from methods.method import Method
from methods.protonet import ProtoNet

SIZES = [24, 21, 40, 30, 22, 27, 35]


class Answers(Method):
    """Logits from a function of support and query."""

    def __init__(self, answer) -> None:
        super().__init__(nn.Identity(), self.Hyperparameters(), 2)
        self.answer = answer

    def episode_logits(self, support, query):
        return self.answer(support, query)


@pytest.fixture(scope="module")
def pool() -> ClassPool:
    return ClassPool(np.repeat(np.arange(2, 9), SIZES))


@pytest.fixture(scope="module")
def embeddings() -> torch.Tensor:
    """Seven overlapping clouds in 6 dimensions."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(7, 6)), SIZES, axis=0)
    return torch.from_numpy(centres + rng.normal(size=centres.shape)).float()


@pytest.fixture(scope="module")
def method() -> Method:
    return ProtoNet(nn.Identity(), ProtoNet.Hyperparameters(), 8).eval()


def nearest(embeddings: np.ndarray, support: list[list[int]], image: int) -> int:
    """Position of the class whose mean support embedding is nearest."""
    prototypes = [embeddings[row].mean(axis=0) for row in support]
    return int(np.argmin([((embeddings[image] - prototype) ** 2).sum() for prototype in prototypes]))


def test_equals_a_slow_loop(method, pool, embeddings):
    episodes = draw(pool, "key", Setting(4, 3, 6, 40))
    result = fewshot.evaluate(method, embeddings, pool, episodes)
    vectors = embeddings.double().numpy()
    for e in range(40):
        hits = [0] * 4
        for image, label in zip(episodes.query[e].tolist(), episodes.labels[e].tolist(), strict=True):
            hits[label] += nearest(vectors, episodes.support[e].tolist(), image) == label
        assert result.hits[e].tolist() == hits
        assert result.accuracies[e] == pytest.approx(sum(hits) / 24)
    assert (result.queries == 6).all() and (result.classes == episodes.classes).all()
    assert 0.3 < result.accuracies.mean() < 0.95


@pytest.mark.parametrize("shot", [1, 3])
def test_all_way_equals_a_slow_loop_without_the_support_images(method, pool, embeddings, shot):
    episodes = draw(pool, "key", Setting(0, shot, 0, 12))
    result = fewshot.evaluate(method, embeddings, pool, episodes)
    vectors = embeddings.double().numpy()
    owner = np.repeat(np.arange(7), SIZES).tolist()
    for e in range(12):
        classes, support = episodes.classes[e].tolist(), episodes.support[e].tolist()
        shown = {image for row in support for image in row}
        hits, queries = [0] * 7, [0] * 7
        for image in range(sum(SIZES)):
            if image not in shown:
                place = classes.index(owner[image])
                queries[place] += 1
                hits[place] += nearest(vectors, support, image) == place
        assert result.hits[e].tolist() == hits
        assert result.queries[e].tolist() == queries
        assert result.accuracies[e] == pytest.approx(sum(hits) / (sum(SIZES) - 7 * shot))


@pytest.mark.parametrize("floats", [1, 500, 10_000])
def test_how_much_is_gathered_at_once_changes_nothing(method, pool, embeddings, monkeypatch, floats):
    episodes = draw(pool, "key", Setting(5, 1, 15, 101))
    expected = fewshot.evaluate(method, embeddings, pool, episodes)
    monkeypatch.setattr(fewshot, "FLOATS_AT_ONCE", floats)
    result = fewshot.evaluate(method, embeddings, pool, episodes)
    assert (result.hits == expected.hits).all() and (result.queries == expected.queries).all()


def test_recalls_of_the_classes_add_up(method, pool, embeddings):
    for setting in (Setting(5, 1, 15, 200), Setting(0, 1, 0, 30)):
        episodes = draw(pool, "key", setting)
        result = fewshot.evaluate(method, embeddings, pool, episodes)
        own = result.per_class()
        assert list(own) == list(range(7))
        for c in range(7):
            recalls = [
                result.hits[e, place] / result.queries[e, place]
                for e in range(len(episodes))
                for place in range(episodes.classes.shape[1])
                if episodes.classes[e, place] == c
            ]
            assert own[c].n == len(recalls) and own[c].value == pytest.approx(np.mean(recalls))
    # With as many queries of each class, the accuracy is the mean of the recalls.
    episodes = draw(pool, "key", Setting(7, 1, 15, 50))
    result = fewshot.evaluate(method, embeddings, pool, episodes)
    recalls = [interval.value for interval in result.per_class().values()]
    assert result.interval().value == pytest.approx(np.mean(recalls))
    assert result.interval().n == 50


def test_a_class_that_no_episode_shows_has_no_row(method, pool, embeddings):
    classes = np.array([[0, 3]])
    starts = pool.starts[classes][:, :, None]
    episodes = EpisodeList(classes, starts, starts.reshape(1, 2) + 1, np.array([[0, 1]]))
    result = fewshot.evaluate(method, embeddings, pool, episodes)
    assert list(result.per_class()) == [0, 3]


@pytest.fixture(scope="module")
def even() -> ClassPool:
    return ClassPool(np.repeat(np.arange(8), 40))


@pytest.mark.parametrize("setting", [Setting(5, 1, 15, 50), Setting(5, 5, 15, 50), Setting(0, 1, 0, 50)])
def test_equal_logits_score_one_in_n(even, setting):
    """A learner that cannot decide may not gain from where the right answer stands."""
    constant = Answers(lambda support, query: torch.zeros(*query.shape[:2], support.shape[1]))
    result = fewshot.evaluate(constant, torch.ones(320, 4), even, draw(even, "key", setting))
    way = setting.way or 8
    assert result.accuracies == pytest.approx(1 / way)


def by_place(support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Guesses that queries come sorted by class."""
    episodes, way = support.shape[:2]
    place = torch.arange(query.shape[1]) * way // query.shape[1]
    return nn.functional.one_hot(place, way).float().expand(episodes, -1, -1)


@pytest.mark.parametrize("setting", [Setting(5, 1, 15, 2000), Setting(0, 1, 0, 2000)])
def test_a_query_s_place_is_worth_nothing(even, setting):
    result = fewshot.evaluate(Answers(by_place), torch.ones(320, 4), even, draw(even, "key", setting))
    chance = 1 / (setting.way or 8)
    assert abs(result.interval().value - chance) < 4 * result.accuracies.std() / 2000**0.5
    recalls = [interval.value for interval in result.per_class().values()]
    assert min(recalls) > chance / 2 and max(recalls) < 2 * chance


def test_an_untrained_network_on_random_labels_scores_one_in_n():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1200, 3, 16, 16), dtype=np.uint8)
    labels = rng.permutation(np.repeat(np.arange(12), 100))
    data = ImageSet.build(
        "random", images, labels, np.zeros(1200, dtype=bool), [f"c{c:02d}" for c in range(12)]
    )
    torch.manual_seed(0)
    method = ProtoNet(build("conv4"), ProtoNet.Hyperparameters(), 8).eval()
    everything = torch.arange(1200)
    normalise = Normaliser(data.images, everything)
    pool = ClassPool(data.labels.numpy())
    made = embed_images(method, data.images, everything, normalise, "32-true")
    found = fewshot.evaluate(method, made, pool, draw(pool, "key", Setting(5, 1, 15, 2000))).interval()
    assert found.low < 0.2 < found.high
    assert found.half_width < 0.005
    found = fewshot.evaluate(method, made, pool, draw(pool, "key", Setting(0, 1, 0, 200))).interval()
    assert found.low < 1 / 12 < found.high


def test_gradients_are_not_recorded(pool, embeddings):
    seen = []

    def answer(support, query):
        seen.append(torch.is_grad_enabled())
        return torch.zeros(*query.shape[:2], support.shape[1])

    fewshot.evaluate(Answers(answer), embeddings, pool, draw(pool, "key", Setting(3, 1, 2, 2)))
    assert seen == [False]
