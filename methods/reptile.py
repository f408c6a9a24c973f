"""Reptile: first-order meta-learning without queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad_and_value

from methods.adaptation import MetaLearner, Network, Weights, adapted, class_of_each
from methods.batches import EpisodeBatch, Episodes
from methods.optimizers import scheduled
from methods.outer_loop import OuterLoop, TowardsLearned
from methods.support_norm import support_norm

DECAY, EPSILON = 0.999, 1e-8  # beta2 and epsilon of the inner Adam


class Learner(NamedTuple):
    """Weights on their way through an episode, and their Adam's state.

    Attributes:
        weights: by name in the `Network`.
        moments: moving mean of each weight's squared gradient.
        updates: inner steps since the training began, for Adam's bias correction.
    """

    weights: Weights
    moments: Weights
    updates: int


class Reptile(OuterLoop, MetaLearner):
    """Learn each task by some steps of Adam, then move the weights towards what was learned.

    Inner loop: Adam without momentum on small batches of one task's support set. Outer loop: the weights
    move a share of the way, the meta-step, to the mean of the weights that the tasks of a step reached
    (Nichol et al. 2018, algorithm 2 and section 7); nothing is differentiated through the inner loop, and
    no query is needed. The inner optimizer's second moments continue from task to task; an episode of the
    evaluation starts with those that training has left, and leaves them as they were. Queries are
    normalised by statistics of the support set; `batch_norm=transductive` normalises them together.

    Use it when MAML needs too much memory or time: it takes a gradient where MAML differentiates through
    all inner steps. It needs many more images of each training class in a task, and more steps at test
    time.

    It costs `episodes` x `inner_steps` small forward and backward passes per training step, one after
    another, and `test_steps` of them per episode of the evaluation, which cannot be cached. A CPU learns
    test episodes one after another, other devices at once.
    """

    family = "meta-learning"
    paper = "Nichol et al. 2018, On First-Order Meta-Learning Algorithms"
    trains_on = "episodes"
    test_only = ("test_steps", "test_batch", "test_batch_1shot")
    fixed_embedding = False
    fuses = False
    order_dependent = True  # which images meet in a minibatch
    marked_when = {"transductive": "batch_norm=transductive"}
    presets = {
        "smoke": {
            "backbone": "conv4",
            "steps": 12,
            "episodes": 2,
            "train_shot": 4,
            "inner_steps": 2,
            "test_steps": 2,
        },
        "quick": {"backbone": "conv4", "steps": 1092},
        "standard": {"backbone": "resnet12-32", "steps": 1365},
        # Mini-ImageNet (appendix A): 100,000 steps of 5 tasks, 8 inner steps, and 50 at test time.
        "paper": {"backbone": "conv4-32", "head": "learned", "inner_steps": 8, "test_steps": 50},
    }
    starts = {
        "pretrained": {
            "batch_norm": "running",
            "feature_length": 10.0,
            "inner_learning_rate": 1e-4,
            "meta_step": 0.5,
            "test_steps": 8,
        }
    }

    updates: Tensor
    moments: nn.Module

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 100000  # training steps
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        episodes: int = 5  # tasks per step (meta-batch)
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 15  # images per class in a training episode
        inner_steps: int = 8  # steps on each task in training
        inner_batch: int = 10  # images per inner step
        test_steps: int = 50  # steps on the support set in evaluation
        test_batch: int = 15  # images per step in evaluation; at most the support set
        test_batch_1shot: int = 5  # the same with one support image per class
        inner_learning_rate: float = 1e-3  # learning rate of the inner Adam
        meta_step: float = 1.0  # share of the way to the mean of the tasks, falling linearly to 0
        head: Literal["zero", "learned"] = "zero"  # where the head of an episode starts
        feature_length: float = 0.0  # length to which features are scaled before the head; 0: not scaled
        batch_norm: Literal["support", "running", "transductive"] = "support"  # whose statistics normalise

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.transductive = hp.batch_norm == "transductive"  # type: ignore[misc]
        # Buffers, so that a checkpoint keeps the state that belongs to its weights.
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.moments = nn.Module()
        for name, weight in self.network(self.train_way).named_parameters():
            self.moments.register_buffer(name.replace(".", "/"), torch.zeros_like(weight))

    def batches(self) -> Episodes:
        """Support sets without queries."""
        hp = self.hp
        return Episodes(self.train_way, hp.train_shot, 0, hp.episodes)

    def outer_step(self, batch: EpisodeBatch, optimizer: Any) -> Tensor:
        """Move towards what the tasks make of the weights; Adam's state continues from task to task."""
        self.move_running_statistics(batch.support)
        network = self.network(batch.support.shape[1])
        generator = torch.Generator().manual_seed(int(self.updates.item()))
        start = learner = self.learner(network)
        learned, losses = [], []
        for support in batch.support:
            learner = start._replace(moments=learner.moments, updates=learner.updates)
            images = support.shape[:2].numel()
            steps = minibatches(images, self.hp.inner_batch, self.hp.inner_steps, generator)
            learner, loss = self.learn(network, learner, support, steps)
            learned.append({phi: learner.weights[name] for name, phi in network.named_parameters()})
            losses.append(loss)
        optimizer.step(learned=learned)
        self.updates.fill_(learner.updates)
        for name, moment in learner.moments.items():
            self.moments.get_buffer(name.replace(".", "/")).copy_(moment)
        return torch.stack(losses).mean()

    def learner(self, network: Network) -> Learner:
        """The network's weights before an episode, with the Adam state that training has left.

        A head of another number of classes takes the mean state of the trained one's classes.
        """
        weights = {name: w.detach() for name, w in network.named_parameters()}
        moments = {}
        for name, w in weights.items():
            moment = self.moments.get_buffer(name.replace(".", "/"))
            moments[name] = moment if moment.shape == w.shape else moment.mean(0).expand_as(w)
        return Learner(weights, moments, int(self.updates.item()))

    def learn(
        self, network: Network, learner: Learner, support: Tensor, steps: Tensor
    ) -> tuple[Learner, Tensor]:
        """Adam on batches of one support set; returns the mean loss too.

        Args:
            network: whose forward it is.
            learner: where to start.
            support: ``[way, shot, 3, H, W]``.
            steps: int64 ``[steps, batch]``, which of the ``way * shot`` images each step takes.
        """
        images, labels, losses = support.flatten(0, 1), class_of_each(support), []
        norm = support_norm(self.hp.batch_norm)
        for index in steps.to(support.device):
            chosen = images.index_select(0, index), labels[index]
            gradient, loss = grad_and_value(network.loss)(learner.weights, *chosen, norm)
            torch.clear_autocast_cache()  # it keeps low-precision copies of the weights of every step
            learner = adam(learner, gradient, self.hp.inner_learning_rate)
            losses.append(loss.detach())
        return learner, torch.stack(losses).mean()

    def configure_optimizers(self) -> Any:
        """The meta-step, linear down to 0."""
        optimizer = TowardsLearned(self.parameters(), self.hp.meta_step)
        return scheduled(optimizer, "linear", self.training_steps)

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """``[E, way, shot, 3, H, W]`` -> answers to ``[E, Q, 3, H, W]``."""
        network = self.network(support.shape[1])
        start, steps = self.learner(network), self.test_batches(support)

        def inner_loop(support: Tensor) -> Weights:
            return self.learn(network, start, support, steps)[0].weights

        return adapted(network, self.hp.batch_norm, inner_loop, support)

    def test_batches(self, support: Tensor) -> Tensor:
        """Which images each step of the evaluation takes; the same in every episode."""
        way, shot = support.shape[1:3]
        size = self.hp.test_batch_1shot if shot == 1 else self.hp.test_batch
        return minibatches(way * shot, size, self.hp.test_steps, torch.Generator().manual_seed(0))


def minibatches(images: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Indices ``[steps, batch]``: all images in random order, again and again, cut into batches.

    A batch holds at most all images, each once unless an order ends within it.
    """
    batch = min(batch, images)
    orders = -(-steps * batch // images)
    drawn = torch.cat([torch.randperm(images, generator=generator) for _ in range(orders)])
    return drawn[: steps * batch].view(steps, batch)


@torch.no_grad()
def adam(learner: Learner, gradients: Weights, rate: float) -> Learner:
    """One step of Adam with beta1 = 0 (Kingma and Ba 2015, algorithm 1)."""
    updates = learner.updates + 1
    moments = {k: DECAY * m + (1 - DECAY) * gradients[k] ** 2 for k, m in learner.moments.items()}
    correction = 1 - DECAY**updates
    weights = {
        k: w - rate * gradients[k] / ((moments[k] / correction).sqrt() + EPSILON)
        for k, w in learner.weights.items()
    }
    return Learner(weights, moments, updates)
