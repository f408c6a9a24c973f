"""Matching networks against easyfsl, and against numpy in double precision."""

import copy

import numpy as np
import pytest
import torch
from easyfsl.methods import MatchingNetworks as Easyfsl
from torch import Tensor, nn

from methods.backbones import build
from methods.batches import EpisodeBatch, Episodes
from methods.matching import MatchingNetworks
from methods.protonet import ProtoNet

EPISODES, WAY, SHOT, QUERIES, DIM = 2, 3, 4, 7, 6


def matching(backbone: nn.Module | None = None, num_classes: int = 8, **changes) -> MatchingNetworks:
    if backbone is None:
        backbone = nn.Identity()
        backbone.dim = DIM
    torch.manual_seed(0)
    return MatchingNetworks(backbone, MatchingNetworks.Hyperparameters(**changes), num_classes)


@pytest.fixture
def episode() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(EPISODES, WAY, 1, DIM, generator=rng)
    support = centres + torch.randn(EPISODES, WAY, SHOT, DIM, generator=rng)
    return support, torch.randn(EPISODES, QUERIES, DIM, generator=rng)


def probabilities(support: np.ndarray, query: np.ndarray, scale: float) -> np.ndarray:
    """Eq. 1 of the paper for one query: support ``[way, shot, D]``, query ``[D]`` -> ``[way]``."""
    kernel = [
        [np.exp(scale * (query @ x) / np.sqrt((query @ query) * (x @ x))) for x in shots] for shots in support
    ]
    return np.array([sum(row) for row in kernel]) / sum(sum(row) for row in kernel)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_equals_the_paper_s_sum_over_the_support_set(episode, scale):
    logits = matching(scale=scale).episode_logits(*episode)
    assert logits.shape == (EPISODES, QUERIES, WAY) and logits.dtype == torch.float32
    support, query = (tensor.double().numpy() for tensor in episode)
    expected = [[probabilities(support[e], q, scale) for q in query[e]] for e in range(EPISODES)]
    np.testing.assert_allclose(logits.exp().numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sum(expected, axis=2), 1)


class Silent(nn.Module):
    """Stands in for easyfsl's LSTMs, and adds nothing."""

    def forward(self, inputs: Tensor, state: object = None) -> tuple[Tensor, Tensor]:
        if state is None:
            return torch.zeros(*inputs.shape[:-1], 2 * inputs.shape[-1]), torch.zeros(0)
        return torch.zeros(len(inputs), DIM), torch.zeros(len(inputs), DIM)


def test_equals_easyfsl_without_context(episode):
    """easyfsl multiplies no scale, but leaves the query's length as it is: that is the scale here."""
    support, query = episode
    scaled = 10 * nn.functional.normalize(query, dim=2)
    theirs = Easyfsl(feature_dimension=DIM, support_encoder=Silent(), query_encoder=Silent())
    logits = matching(scale=10.0).episode_logits(support, query)
    for e in range(EPISODES):
        theirs.process_support_set(support[e].flatten(0, 1), torch.arange(WAY).repeat_interleave(SHOT))
        # theirs adds 1e-6 to every probability
        torch.testing.assert_close(logits[e].exp() + 1e-6, theirs(scaled[e]).exp(), rtol=1e-4, atol=1e-6)


def test_full_context_equals_easyfsl_with_the_same_weights(episode):
    """theirs reads as often as there are support images, in the order in which they are given."""
    support, query = episode
    method = matching(full_context=True, reads=WAY * SHOT).eval()
    theirs = Easyfsl(feature_dimension=DIM)
    theirs.support_features_encoder.load_state_dict(method.support_lstm.state_dict())
    theirs.query_features_encoding_cell.load_state_dict(method.query_lstm.state_dict())
    with torch.no_grad():
        logits = method.episode_logits(support, query)
        for e in range(EPISODES):
            images, labels = support[e].flatten(0, 1), torch.arange(WAY).repeat_interleave(SHOT)
            order = images.mean(1).argsort()
            theirs.process_support_set(images[order], labels[order])
            ours = method.support_in_context(images[None])
            torch.testing.assert_close(
                ours[0, order], theirs.contextualized_support_features, rtol=1e-4, atol=1e-5
            )
            refined = theirs.encode_query_features(query[e])
            torch.testing.assert_close(
                method.query_in_context(ours, query[e : e + 1])[0], refined, rtol=1e-4, atol=1e-5
            )
            lengths = refined.norm(dim=1, keepdim=True)
            attention = (
                10 / lengths * refined @ nn.functional.normalize(theirs.contextualized_support_features).T
            ).softmax(1)
            expected = attention @ theirs.one_hot_support_labels
            torch.testing.assert_close(logits[e].exp(), expected, rtol=1e-4, atol=1e-5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(gates: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step from the input, forget, cell and output gates' sums."""
    i, f, g, o = np.split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def in_context(method: MatchingNetworks, support: np.ndarray, query: np.ndarray, reads: int) -> np.ndarray:
    """p(y | x) with full-context embeddings of one query, appendix A of the paper in double precision."""
    weights = {name: value.double().numpy() for name, value in method.state_dict().items()}
    images = support.reshape(-1, DIM)
    g = images.copy()
    for suffix, order in (("", 1), ("_reverse", -1)):
        w_x, w_h, b_x, b_h = (
            weights[f"support_lstm.{name}_l0{suffix}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = cell = np.zeros(DIM)
        for i in np.argsort([image.mean() for image in images])[::order]:
            hidden, cell = lstm(w_x @ images[i] + b_x + w_h @ hidden + b_h, cell)
            g[i] += hidden
    w_x, w_h = weights["query_lstm.weight_ih"][:, :DIM], weights["query_lstm.weight_hh"]
    w_r = weights["query_lstm.weight_ih"][:, DIM:]
    bias = weights["query_lstm.bias_ih"] + weights["query_lstm.bias_hh"]
    hidden, cell = query, np.zeros(DIM)
    for _ in range(reads):
        content = np.array([np.exp(hidden @ x) for x in g])
        read = sum(a * x for a, x in zip(content / content.sum(), g, strict=True))
        output, cell = lstm(w_x @ query + np.hstack([w_h, w_r]) @ np.hstack([hidden, read]) + bias, cell)
        hidden = output + query
    return probabilities(g.reshape(support.shape), hidden, method.hp.scale)


@pytest.mark.parametrize("reads", [1, 3])
def test_full_context_equals_appendix_a(episode, reads):
    method = matching(full_context=True, reads=reads, scale=4.0)
    with torch.no_grad():
        for parameter in method.parameters():  # torch's are small, and would change little
            parameter.mul_(3)
        made = method.episode_logits(*episode).exp().numpy()
        without = matching(scale=4.0).episode_logits(*episode).exp().numpy()
    support, query = (tensor.double().numpy() for tensor in episode)
    expected = np.array(
        [[in_context(method, support[e], q, reads) for q in query[e]] for e in range(EPISODES)]
    )
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    assert abs(made - without).max() > 0.05


def test_full_context_answers_each_query_alone_and_in_any_order_of_the_support_set(episode):
    support, query = episode
    method = matching(full_context=True).eval()
    with torch.no_grad():
        logits = method.episode_logits(support, query)
        alone = [method.episode_logits(support, query[:, i : i + 1]) for i in range(QUERIES)]
        shots = method.episode_logits(support[:, :, [2, 0, 3, 1]], query)
        classes = method.episode_logits(support[:, [2, 0, 1]], query)
    torch.testing.assert_close(torch.cat(alone, dim=1), logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shots, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classes, logits[:, :, [2, 0, 1]], rtol=1e-4, atol=1e-5)


def test_with_one_shot_it_is_a_prototypical_network(episode):
    support, query = episode
    hp = ProtoNet.Hyperparameters(distance="cosine")
    prototypical = ProtoNet(nn.Identity(), hp, 8).episode_logits(support[:, :, :1], query)
    logits = matching(scale=10.0).episode_logits(support[:, :, :1], query)
    torch.testing.assert_close(logits, (10 * prototypical).log_softmax(2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("full_context", [False, True])
@pytest.mark.parametrize("episodes", [1, 2])
def test_the_loss_is_the_mean_negative_log_likelihood(episodes, full_context):
    rng = torch.Generator().manual_seed(3)
    batch = EpisodeBatch(
        torch.randn(episodes, 4, 2, 3, 32, 32, generator=rng),
        torch.randn(episodes, 12, 3, 32, 32, generator=rng),
        torch.stack([torch.randperm(12, generator=rng) % 4 for _ in range(episodes)]),
        torch.arange(4).expand(episodes, 4),
    )
    method = matching(build("conv4"), full_context=full_context)
    backbone = copy.deepcopy(method.backbone)  # whose running statistics the step changes
    loss = method.training_step(batch, 0)
    made = backbone(torch.cat([*(s.flatten(0, 1) for s in batch.support), *batch.query]))
    terms = []
    for e in range(episodes):
        support = made[e * 8 : (e + 1) * 8].view(1, 4, 2, -1)
        query = made[episodes * 8 + e * 12 : episodes * 8 + (e + 1) * 12][None]
        with torch.no_grad():
            p = method.episode_logits(support, query)[0].exp().double()
        terms += [-np.log(p[i, label].item()) for i, label in enumerate(batch.labels[e].tolist())]
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    loss.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("full_context", [False, True])
def test_inside_autocast_all_digits_are_kept(episode, full_context):
    method = matching(full_context=full_context)
    with torch.autocast("cpu", torch.bfloat16):
        inside = method.episode_logits(*episode)
    assert inside.dtype == torch.float32 and torch.equal(inside, method.episode_logits(*episode))


def test_similarity_is_the_cosine(episode):
    a, b = episode[1]
    x, y = a.double().numpy(), b.double().numpy()
    expected = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    assert matching().similarity(a, b).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_scale_of_0_is_refused():
    with pytest.raises(ValueError, match="scale must be above 0"):
        matching(scale=0.0)


def test_training_episodes_are_cut_to_the_base_classes():
    assert matching(num_classes=8).batches() == Episodes(way=8, shot=1, query=4, episodes=1)
    assert matching(num_classes=64).batches() == Episodes(way=30, shot=1, query=4, episodes=1)
    asked = matching(num_classes=64, train_way=20, train_shot=5, train_query=15, episodes=2)
    assert asked.batches() == Episodes(20, 5, 15, 2)
