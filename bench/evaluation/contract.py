"""Tests on a few real episodes whether a method keeps the contract of `methods.method.Method`.

Also tested before training, on images of base classes, so that a wrong method is found in seconds. Besides
shapes and finite numbers, the evaluation requires:

- *inductive*, unless the method is `transductive`: an answer does not depend on other queries. A score must
  not depend on other pairs, nor an embedding on other images, for any method;
- *independent episodes*: an answer does not depend on other episodes of the batch, because the harness
  chooses the batch size;
- *relabelling*, unless the method is `order_dependent`: if the classes of an episode are permuted, so are its
  logits, and the order of a class's shots does not matter. This finds confused axes. Some methods depend on
  the order by design: a head with separate weights per position, and steps on minibatches. They gain nothing
  from it, because classes come in random order;
- *deterministic*: the same episode always gets the same answer;
- inputs, weights and buffers do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.evaluation.answers import ContractError, checked, inputs_unchanged, weights_unchanged
from bench.evaluation.embedding import autocast, embed_images
from bench.evaluation.invariance import Answer, Reference, Rows, centred, check_independent, perturbed
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from methods.method import Method

EPISODE = 5, 3, 3  # classes, support and query images per class; different, so that confused axes fail
ADAPTED = 3, 2, 2  # for methods that adapt to images, which takes longer
BATCH = 8  # images embedded together with others
ROUNDING = 1e-6  # of embeddings, relative
IMAGE_ROUNDING = {"32-true": 1e-6, "bf16-mixed": 2.0**-9, "16-mixed": 2.0**-11}
TF32 = 2.0**-11  # rounding of NVIDIA's convolutions in float32

INDUCTIVE = "declare `transductive = True` if it uses the other queries on purpose"
RELABELLED = "changes its answers when the order of the classes, or of the shots of a class, changes"
ORDER = "declare `order_dependent = True` if that is by design"


def check(
    method: Method, data: ImageSet, parts: Sequence[Tensor], normalise: Normaliser, precision: str
) -> None:
    """Raise the first of the `findings`, if any.

    Raises:
        ContractError: the method does not keep the contract.
    """
    if found := findings(method, data, parts, normalise, precision):
        raise ContractError(found[0])


def findings(
    method: Method, data: ImageSet, parts: Sequence[Tensor], normalise: Normaliser, precision: str
) -> list[str]:
    """All violations of the contract, one sentence each.

    The method's mode and torch's random state are restored.

    Args:
        method: trained or untrained.
        data: the image set.
        parts: int64 indices into `data`, ascending by label; the first part large enough for pairs is used.
        normalise: the one that training uses.
        precision: as Lightning names it.

    Raises:
        Exception: any exception of the method.
    """
    pools = ((index, ClassPool(data.labels[index].numpy())) for index in parts)
    chosen = [(index, pool) for index, pool in pools if len(pool.classes) > 1 and pool.smallest > 1]
    if not chosen:
        return []
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    found = []
    try:
        with torch.random.fork_rng([method.device] if method.device.type == "cuda" else []):
            probe = _Probe(method, data.images, *chosen[0], normalise, precision)
            for part in (probe.embed, probe.episodes, probe.joint_logits, probe.similarity):
                try:
                    with weights_unchanged(method):
                        part()
                except ContractError as broken:
                    found.append(str(broken))
                    if part == probe.embed:  # the other checks need embeddings
                        break
    finally:
        for module, mode in modes:
            module.training = mode
    return found


def check_joined(network: nn.Module, images: Tensor, precision: str) -> None:
    """Check that a network returned by `join` classifies each image independently.

    Args:
        network: in evaluation mode.
        images: normalised, ``[2N, 3, H, W]``; the second half replaces other queries.
        precision: as Lightning names it.

    Raises:
        ContractError: the answer to an image depends on other images.
    """
    name = "the network that join returns"

    @torch.inference_mode()
    def answer(batch: Tensor) -> Tensor:
        with autocast(images.device, precision), inputs_unchanged(name, batch):
            logits = network(batch)
        return centred(checked(logits, name, (len(batch), -1)))

    own, others = images.tensor_split(2)
    rows = Rows(name, "a query", "queries", INDUCTIVE)
    check_independent(answer, own, others, image_rounding(images.device, precision), rows)


def image_rounding(device: torch.device, precision: str) -> float:
    """Relative change of an image for measuring the effect of rounding."""
    tf32 = precision == "32-true" and device.type == "cuda"
    return TF32 if tf32 else IMAGE_ROUNDING[precision]


class _Probe:
    def __init__(
        self,
        method: Method,
        images: Tensor,
        index: Tensor,
        pool: ClassPool,
        normalise: Normaliser,
        precision: str,
    ) -> None:
        self.method, self.images, self.index, self.pool = method, images, index, pool
        self.normalise, self.precision = normalise, precision
        self.seed = 0
        self.image_rounding = image_rounding(method.device, precision)

    def embed(self) -> None:
        """Embeddings are one finite vector per image and do not depend on other images."""
        count = min(BATCH, len(self.index) // 3)
        spread_out = np.linspace(0, len(self.index) - 1, 3 * count).astype(np.int64)
        own, beside, instead = self._images(spread_out).split(count)

        @torch.inference_mode()
        def answer(images: Tensor) -> Tensor:
            with autocast(self.method.device, self.precision):
                made = self._ask("embed", self.method.embed, images)
            return checked(made, "embed", (len(images), -1)).float()

        rows = Rows("embed", "an image", "images", "an embedding must depend only on its own image")
        check_independent(
            answer, torch.cat([own, beside]), torch.cat([own, instead]), self.image_rounding, rows
        )

    def episodes(self) -> None:
        """Logits of episodes, from embeddings or from images."""
        method = self.method
        name = "episode_logits" if method.fixed_embedding else "adapt"
        if getattr(type(method), name) is getattr(Method, name):
            raise ContractError(f"{name} is missing; episodes need it")
        if method.fixed_embedding:
            (support, query), learn, rounding = self._embedded, self._by_logits, ROUNDING
            learn(support[:, :, :1])(query)  # a dimension of length 1 often causes errors
        else:
            drawn = self._draw(*ADAPTED)
            support, query = self._images(drawn.support), self._images(drawn.query)
            learn, rounding = self._by_adapting, self.image_rounding
        answer = learn(support)
        if not method.transductive:
            rows = Rows(name, "a query", "queries", INDUCTIVE, axis=1)
            check_independent(answer, query, query.flip(0), rounding, rows)
        together, support, query = answer(query)[:1], support[:1], query[:1]
        differently = f"{name} changes its answers for an episode when"
        given = Reference.of(
            learn(support)(query), learn(perturbed(support, rounding))(perturbed(query, rounding))
        )
        given.compare(together, f"{differently} other episodes are in the batch")
        self.seed = 1
        generator = "its random numbers must come from a generator with the same seed in every episode"
        given.compare(learn(support)(query), f"{differently} it is called again", generator)
        self.seed = 0
        if not method.order_dependent:
            order = torch.arange(support.shape[1], device=support.device).roll(1)
            reordered = learn(support[:, order].flip(2))(query)
            given.of_classes(order).compare(reordered, f"{name} {RELABELLED}", ORDER)

    def joint_logits(self) -> None:
        """Logits over base and new classes, if they come from embeddings."""
        method = self.method
        if method.joins_with == "training" or type(method).joint_logits is Method.joint_logits:
            return
        (support, _), (query, others) = self._embedded
        made = torch.cat([support.flatten(0, 1), query])
        base = made[:0]
        if method.joins_with == "means":  # any embeddings will do
            base = made[torch.arange(method.num_classes) % len(made)]

        def learn(support: Tensor) -> Answer:
            @torch.inference_mode()
            def answer(query: Tensor) -> Tensor:
                logits = self._ask("joint_logits", method.joint_logits, base, support, query)
                shape = (len(query), method.num_classes + len(support))
                return centred(checked(logits, "joint_logits", shape))

            return answer

        answer = learn(support)
        if not method.transductive:
            rows = Rows("joint_logits", "a query", "queries", INDUCTIVE)
            check_independent(answer, query, others, ROUNDING, rows)
        if not method.order_dependent:
            given = Reference.of(
                answer(query), learn(perturbed(support, ROUNDING))(perturbed(query, ROUNDING))
            )
            order = torch.arange(len(support), device=support.device).roll(1)
            columns = torch.cat([torch.arange(method.num_classes).to(order), method.num_classes + order])
            reordered = learn(support[order].flip(1))(query)
            what = f"joint_logits {RELABELLED}"
            given.of_classes(columns).compare(reordered, what, ORDER)

    def similarity(self) -> None:
        """A score per pair, which does not depend on other pairs."""
        if type(self.method).similarity is Method.similarity:
            raise ContractError("similarity is missing; pairs need it")
        support, query = self._embedded
        made = torch.cat([support.flatten(0, 2), query.flatten(0, 1)])
        a, b = made[: len(made) // 2], made[-(len(made) // 2) :]

        @torch.inference_mode()
        def answer(pairs: Tensor) -> Tensor:
            left, right = (own.contiguous() for own in pairs.unbind(1))
            scores = self._ask("similarity", self.method.similarity, left, right)
            return checked(scores, "similarity", (len(pairs),)).float()[:, None]

        pairs, others = torch.stack([a, b], dim=1), torch.stack([b, a.roll(1, 0)], dim=1)
        rows = Rows("similarity", "a pair", "pairs", "a score must depend only on its own pair")
        check_independent(answer, pairs, others, ROUNDING, rows)

    def _by_logits(self, support: Tensor) -> Answer:
        @torch.inference_mode()
        def answer(query: Tensor) -> Tensor:
            logits = self._ask("episode_logits", self.method.episode_logits, support, query)
            return centred(checked(logits, "episode_logits", (*query.shape[:2], support.shape[1])))

        return answer

    def _by_adapting(self, support: Tensor) -> Answer:
        with autocast(self.method.device, self.precision), torch.enable_grad():
            learned = self._ask("adapt", self.method.adapt, support)
        what = "the function that adapt returns"

        def answer(query: Tensor) -> Tensor:
            with autocast(self.method.device, self.precision), torch.no_grad():
                logits = self._ask(what, learned, query)
            return centred(checked(logits, what, (*query.shape[:2], support.shape[1])))

        return answer

    def _ask(self, what: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
        if self.method.device.type == "cpu":
            # `torch.manual_seed` would format the stack for each kind of device, too slow for so many calls.
            torch.default_generator.manual_seed(self.seed)
        else:
            torch.manual_seed(self.seed)
        with inputs_unchanged(what, *tensors):
            return function(*tensors)

    def _draw(self, way: int, shot: int, query: int) -> EpisodeList:
        """Two episodes, with fewer classes or images if the pool is too small."""
        shot = min(shot, self.pool.smallest - 1)
        query = min(query, self.pool.smallest - shot)
        setting = Setting(min(way, len(self.pool.classes)), shot, query, count=2)
        return draw(self.pool, "contract", setting)

    def _images(self, chosen: np.ndarray) -> Tensor:
        flat = self.index[torch.from_numpy(chosen.reshape(-1))]
        return self.normalise(self.images[flat].to(self.method.device)).unflatten(0, chosen.shape)

    @cached_property
    def _embedded(self) -> tuple[Tensor, Tensor]:
        drawn = self._draw(*EPISODE)
        chosen = np.concatenate([drawn.support.reshape(-1), drawn.query.reshape(-1)])
        index = self.index[torch.from_numpy(chosen)]
        made = embed_images(self.method, self.images, index, self.normalise, self.precision)
        support, query = made.split([drawn.support.size, drawn.query.size])
        return support.unflatten(0, drawn.support.shape), query.unflatten(0, drawn.query.shape)
