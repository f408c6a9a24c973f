"""Reptile: first-order meta-learning without queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.optim.lr_scheduler import LambdaLR

from methods.adaptation import (
    MetaLearner,
    Network,
    Weights,
    answer_one,
    answer_together,
    class_of_each,
    support_loss,
    with_gradient,
)
from methods.batches import EpisodeBatch, Episodes
from methods.distances import full_precision
from methods.support_norm import BatchNorm, support_norm

Gradient = Callable[[Network, BatchNorm, Weights, Tensor, Tensor], tuple[Weights, Tensor]]
DECAY, EPSILON = 0.999, 1e-8  # beta2 and epsilon of the inner Adam


class Learner(NamedTuple):
    """Weights on their way through an episode, or many episodes' ``[E, ...]``, and their Adam's state.

    Attributes:
        weights: by name in the `Network`.
        moments: moving mean of each weight's squared gradient.
        updates: inner steps since the training began, for Adam's bias correction.
    """

    weights: Weights
    moments: Weights
    updates: int


class Reptile(MetaLearner):
    """Learn each task by some steps of Adam, then move the weights towards what was learned.

    Inner loop: Adam without momentum on small batches of one task's support set. Outer loop: the weights
    go a share of the way, the meta-step, to the mean of what the tasks of a step have come to (Nichol et
    al. 2018, algorithm 2 and section 7); nothing is differentiated through the inner loop, and no
    query is needed. The inner optimizer's second moments go on from task to task; an episode of the
    evaluation starts with those that training has left, and leaves them as they were. Queries are
    normalised by statistics of the support set; `batch_norm=transductive` normalises them together.

    Use it when MAML's memory or time is too much: it takes a gradient where MAML differentiates through
    all inner steps. It wants many more images of each training class in a task, and more steps at the
    test.

    It costs `episodes` x `inner_steps` small forward and backward passes a training step, one after
    another, and `test_steps` of them for each episode of the evaluation, whose answers cannot be cached.
    On a CPU test episodes are learned one after another, elsewhere at once.
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
        # Mini-ImageNet (appendix A): 100,000 steps of 5 tasks, 8 inner steps, and 50 at the test.
        "paper": {"backbone": "conv4", "head": "learned", "inner_steps": 8, "test_steps": 50},
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
        episodes: int = 5  # tasks a step (meta-batch)
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 15  # images a class in a training episode
        inner_steps: int = 8  # steps on each task in training
        inner_batch: int = 10  # images in such a step
        test_steps: int = 50  # steps on the support set in evaluation
        test_batch: int = 15  # images in such a step; at most those of the support set
        test_batch_1shot: int = 5  # the same with one support image a class
        inner_learning_rate: float = 1e-3  # of the inner Adam
        meta_step: float = 1.0  # share of the way to what the tasks came to, falling linearly to 0
        head: Literal["zero", "learned"] = "zero"  # where the head of an episode starts
        feature_length: float = 0.0  # features get this length before the head; 0 leaves each its own
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

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Mean inner loss, with the gradient theta - mean(theta_i): SGD at rate r goes r of the way."""
        self.move_running_statistics(batch.support)
        network = self.network(batch.support.shape[1])
        generator = torch.Generator().manual_seed(int(self.updates.item()))
        start = learner = self.learner(network)
        losses, learned = [], []
        for support in batch.support:
            learner = start._replace(moments=learner.moments, updates=learner.updates)
            steps = minibatches(
                support.shape[:2].numel(), self.hp.inner_batch, self.hp.inner_steps, generator
            )
            learner, loss = self.learn(network, learner, support, steps, gradient_of_one)
            losses.append(loss)
            learned.append(learner.weights)
        self.updates.fill_(learner.updates)
        for name, moment in learner.moments.items():
            self.moments.get_buffer(name.replace(".", "/")).copy_(moment)
        gradients = [
            w - torch.stack([own[name] for own in learned]).mean(0) for name, w in start.weights.items()
        ]
        loss = torch.stack(losses).mean()
        return self.log_loss(with_gradient(loss, list(network.parameters()), gradients))

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
        self, network: Network, learner: Learner, support: Tensor, steps: Tensor, gradient: Gradient
    ) -> tuple[Learner, Tensor]:
        """Adam on batches of one support set, or of each of E; returns the mean loss too.

        Args:
            network: whose forward it is.
            learner: where to start.
            support: ``[way, shot, 3, H, W]`` or ``[E, way, shot, 3, H, W]``.
            steps: int64 ``[steps, batch]``, which of the ``way * shot`` images each step takes.
            gradient: `gradient_of_one` or `gradients_of_all`.
        """
        images, labels = support.flatten(-5, -4), class_of_each(support)
        steps, losses = steps.to(support.device), []
        for index in steps:
            chosen = images.index_select(-4, index)
            gradients, loss = gradient(network, self.hp.batch_norm, learner.weights, chosen, labels[index])
            learner = adam(learner, gradients, self.hp.inner_learning_rate)
            losses.append(loss.mean())
        return learner, torch.stack(losses).mean()

    def configure_optimizers(self) -> Any:
        """Plain gradient descent, whose learning rate is the meta-step, linear down to 0."""
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = LambdaLR(optimizer, lambda step: self.hp.meta_step * (1 - step / self.training_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """``[E, way, shot, 3, H, W]`` -> answers to ``[E, Q, 3, H, W]``."""
        if support.device.type != "cpu":
            return self.adapt_together(support)
        network = self.network(support.shape[1])
        start, steps, answers = self.learner(network), self.test_batches(support), []
        for own in support:
            learner, _ = self.learn(network, start, own, steps, gradient_of_one)
            forward = partial(functional_call, network, learner.weights)
            answers.append(answer_one(forward, self.hp.batch_norm, own.flatten(0, 1)))
        return lambda query: torch.stack([answer(q) for answer, q in zip(answers, query, strict=True)])

    def adapt_together(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """The same for all episodes at once."""
        network = self.network(support.shape[1])
        weights, moments, updates = self.learner(network)
        copies = len(support)
        start = Learner(
            {name: w.expand(copies, *w.shape) for name, w in weights.items()},
            {name: m.expand(copies, *m.shape) for name, m in moments.items()},
            updates,
        )
        with full_precision(support):
            learner, _ = self.learn(network, start, support, self.test_batches(support), gradients_of_all)
        return answer_together(network, self.hp.batch_norm, learner.weights, support.flatten(1, 2))

    def test_batches(self, support: Tensor) -> Tensor:
        """Which images each step of the evaluation takes; the same in every episode."""
        way, shot = support.shape[1:3]
        size = self.hp.test_batch_1shot if shot == 1 else self.hp.test_batch
        return minibatches(way * shot, size, self.hp.test_steps, torch.Generator().manual_seed(0))


def gradient_of_one(
    network: Network, kind: BatchNorm, weights: Weights, images: Tensor, labels: Tensor
) -> tuple[Weights, Tensor]:
    """Gradient of `support_loss`, and the loss."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    loss = support_loss(network, support_norm(kind), leaves, images, labels)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    torch.clear_autocast_cache()  # it keeps low-precision copies of the weights of every step
    return dict(zip(leaves, gradients, strict=True)), loss.detach()


def gradients_of_all(
    network: Network, kind: BatchNorm, weights: Weights, images: Tensor, labels: Tensor
) -> tuple[Weights, Tensor]:
    """The same for weights ``[E, ...]`` and images ``[E, N, 3, H, W]`` of E tasks: losses are ``[E]``."""
    loss = partial(support_loss, network, support_norm(kind))
    return vmap(grad_and_value(loss), in_dims=(0, 0, None))(weights, images, labels)


def minibatches(images: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Indices ``[steps, batch]``: all images in a new order, again and again, cut into batches.

    A batch holds at most all images, each once unless an order ends within it.
    """
    batch = min(batch, images)
    orders = -(-steps * batch // images)
    drawn = torch.cat([torch.randperm(images, generator=generator) for _ in range(orders)])
    return drawn[: steps * batch].view(steps, batch)


@torch.no_grad()
def adam(learner: Learner, gradients: Weights, rate: float) -> Learner:
    """One step of Adam with beta1 = 0 (Kingma and Ba 2015, algorithm 1); elementwise, so for all episodes."""
    updates = learner.updates + 1
    moments = {k: DECAY * m + (1 - DECAY) * gradients[k] ** 2 for k, m in learner.moments.items()}
    correction = 1 - DECAY**updates
    weights = {
        k: w - rate * gradients[k] / ((moments[k] / correction).sqrt() + EPSILON)
        for k, w in learner.weights.items()
    }
    return Learner(weights, moments, updates)
