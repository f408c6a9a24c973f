"""Matching networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.batches import EpisodeBatch
from methods.distances import Cosine, full_precision
from methods.episodic import Episodic


class MatchingNetworks(Episodic):
    """Matching networks: a query gets the labels of the support images that it attends to.

    Attention is a softmax over the cosines to all support images, p(y | x) = sum_i a(x, x_i) y_i
    (Vinyals et al. 2016, eq. 1), and training is on episodes that look like the test. The paper's softmax
    is of the bare cosines; `scale` multiplies them, for within [-1, 1] no attention is sharp. With one shot
    this is a prototypical network that compares by the cosine.

    With `full_context` the support set changes how each image is embedded: a bidirectional LSTM runs over the
    support embeddings, and an LSTM that reads from them `reads` times makes the query's (section 2.1.2 and
    appendix A). A set has no order, so the LSTM meets the support images in that of their mean feature.

    Use it when images of one class look so different that their mean resembles none of them: a query has
    to resemble one support image, not all.

    It costs one forward and backward pass for each image of a training episode. At test time each image is
    embedded once, and a query is compared with every support image; `full_context` runs its LSTMs over
    the support set and each query again in every episode.
    """

    family = "metric learning"
    paper = "Vinyals et al. 2016, Matching Networks for One Shot Learning"
    presets = {
        **Episodic.presets,
        # The length of training, the optimizer and the reads are not in the paper.
        "paper": {**Episodic.snell, "full_context": True, "scale": 1.0, "train_way": 5},
    }

    @dataclass(frozen=True)
    class Hyperparameters(Episodic.Hyperparameters):
        """Defaults; the presets change some."""

        scale: float = 10.0  # what cosines are multiplied by before the softmax: its inverse temperature
        full_context: bool = False  # full-context embeddings: LSTMs over the support set
        reads: int = 5  # K, how often the query's LSTM reads from the support set

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if not hp.scale:
            raise ValueError("scale must be above 0: at 0 every image is attended to alike")
        self.cosine = Cosine()
        if hp.full_context:
            self.support_lstm = nn.LSTM(backbone.dim, backbone.dim, batch_first=True, bidirectional=True)
            self.query_lstm = nn.LSTMCell(2 * backbone.dim, backbone.dim)

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Negative log-likelihood of the queries' classes; one forward for support and query."""
        logits = self.episode_logits(*self.embed_episodes(batch))
        return self.log_loss(F.nll_loss(logits.flatten(0, 1), batch.labels.flatten()))

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Log p(y | x), eq. 1, of each query and class: ``[E, Q, way]``."""
        way, shot = support.shape[1:3]
        support, query = support.float().flatten(1, 2), query.float()
        if self.hp.full_context:
            with full_precision(query):
                support = self.support_in_context(support)
                query = self.query_in_context(support, query)
        attention = (self.hp.scale * self.cosine.matrix(query, support)).log_softmax(dim=2)
        return attention.unflatten(2, (way, shot)).logsumexp(dim=3)

    def support_in_context(self, support: Tensor) -> Tensor:
        """g(x_i, S) of appendix A.2: the image's embedding plus both directions' output at its place.

        Args:
            support: float32 ``[E, N, D]`` of the N support images, in any order.

        Returns:
            ``[E, N, D]``.
        """
        order = support.mean(dim=2).argsort(dim=1, stable=True)[..., None].expand_as(support)
        outputs, _ = self.support_lstm(support.gather(1, order))
        forward, backward = outputs.chunk(2, dim=2)
        return support.scatter_add(1, order, forward + backward)

    def query_in_context(self, support: Tensor, query: Tensor) -> Tensor:
        """f(x, S) = attLSTM(f'(x), g(S), K) of appendix A.1, from h_0 = f'(x) and c_0 = 0.

        The paper appends what is read, r, to the LSTM's hidden state; appended to its input f'(x), it meets
        weights of its own just as well. What they make of f'(x) and of each g(x_i) is the same in all reads.

        Args:
            support: float32 ``[E, N, D]``, g(x_i, S).
            query: ``[E, Q, D]``, f'(x).

        Returns:
            ``[E, Q, D]``.
        """
        lstm = self.query_lstm
        of_query, of_read = lstm.weight_ih.chunk(2, dim=1)
        from_query = query @ of_query.T + (lstm.bias_ih + lstm.bias_hh)
        from_support = support @ of_read.T
        hidden, cell = query, torch.zeros_like(query)
        for _ in range(self.hp.reads):
            attention = (hidden @ support.mT).softmax(dim=2)
            gates = from_query + attention @ from_support + hidden @ lstm.weight_hh.T
            enter, keep, candidate, leave = gates.chunk(4, dim=2)
            cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
            hidden = leave.sigmoid() * cell.tanh() + query
        return hidden

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the cosine of two embeddings, without the context of a support set."""
        return self.cosine.rows(a, b)
