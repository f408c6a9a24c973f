"""Methods that learn in every episode: each episode on its own, and as with cached embeddings."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.normalisation import Normaliser
from bench.evaluation import adapted, fewshot
from bench.evaluation.embedding import embed_images
from bench.sampling.episodes import ClassPool, Setting, draw
from methods.method import Method

LISTS = [Setting(3, 2, 4, 7), Setting(0, 1, 0, 2)]


class Pixels(nn.Module):
    """Images as they are, flattened."""

    dim = 3 * 16 * 16

    def forward(self, images):
        return images.flatten(1)


class NearestMean(Method):
    """The nearest mean, once from embeddings and once as if it had to learn."""

    fixed_embedding = False

    def episode_logits(self, support, query):
        return -torch.cdist(query, support.mean(2))

    def adapt(self, support):
        assert torch.is_grad_enabled()
        means = support.flatten(3).mean(2)
        self.calls.append(len(support))

        def answer(query):
            assert not torch.is_grad_enabled()
            self.most = max(self.most, query.shape[1])
            return -torch.cdist(query.flatten(2), means)

        return answer


@pytest.fixture
def case(tiny, tiny_split):
    method = NearestMean(Pixels(), NearestMean.Hyperparameters(), 8).eval()
    method.calls, method.most = [], 0
    index = tiny_split.novel_images
    return (
        method,
        tiny,
        index,
        Normaliser(tiny.images, tiny_split.train),
        ClassPool(tiny.labels[index].numpy()),
    )


@pytest.mark.parametrize("setting", LISTS, ids=lambda s: s.name)
@pytest.mark.parametrize("at_once", [3, 512])
def test_the_same_answers_as_from_embeddings(case, setting, at_once, monkeypatch):
    method, data, index, normalise, pool = case
    monkeypatch.setattr(adapted, "QUERIES_AT_ONCE", at_once)
    episodes = draw(pool, "key", setting)
    embeddings = embed_images(method, data.images, index, normalise, "32-true")
    expected = fewshot.evaluate(method, embeddings, pool, episodes)
    found = adapted.evaluate(method, data.images, index, normalise, "32-true", pool, episodes)
    np.testing.assert_array_equal(found.hits, expected.hits)
    np.testing.assert_array_equal(found.queries, expected.queries)
    assert method.calls == [1] * len(episodes) and method.most <= at_once


def test_several_episodes_at_once_give_the_same(case, monkeypatch):
    method, data, index, normalise, pool = case
    episodes = draw(pool, "key", LISTS[0])
    one = adapted.evaluate(method, data.images, index, normalise, "32-true", pool, episodes)
    monkeypatch.setattr(adapted, "EPISODES_AT_ONCE", {"cpu": 4})
    method.calls.clear()
    several = adapted.evaluate(method, data.images, index, normalise, "32-true", pool, episodes)
    assert method.calls == [4, 3]
    np.testing.assert_array_equal(one.hits, several.hits)


def test_a_transductive_method_sees_all_queries_of_an_episode(case, monkeypatch):
    method, data, index, normalise, pool = case
    monkeypatch.setattr(adapted, "QUERIES_AT_ONCE", 3)
    method.transductive = True
    adapted.evaluate(method, data.images, index, normalise, "32-true", pool, draw(pool, "key", LISTS[0]))
    assert method.most == 12


def test_only_in_evaluation_mode(case):
    method, data, index, normalise, pool = case
    with pytest.raises(ValueError, match="evaluation mode"):
        adapted.evaluate(
            method.train(), data.images, index, normalise, "32-true", pool, draw(pool, "k", LISTS[0])
        )
