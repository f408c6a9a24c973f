"""What methods share that learn an embedding on episodes which look like the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from methods.batches import Episodes
from methods.method import Method
from methods.optimizers import configure_as_set


class Episodic(Method):
    """Base of protonet and matching: batches, optimizer and the hyperparameters of both."""

    trains_on: ClassVar[str] = "episodes"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"backbone": "conv4", "steps": 12, "train_way": 5, "train_query": 5},
        "quick": {"backbone": "conv4", "steps": 2731},
        "standard": {"backbone": "resnet12-32"},
    }
    snell: ClassVar[dict[str, Any]] = {
        "backbone": "conv4",
        "train_query": 15,
        "steps": 40000,
        "optimizer": "adam",
        "schedule": "halving",
        "learning_rate": 0.001,
        "weight_decay": 0.0,
    }
    """The training of Snell et al. 2017, for presets of papers."""

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 3413  # training steps
        init: Literal["scratch", "pretrained"] = "scratch"  # pretrained: a classifier of the base classes
        train_way: int = 30  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images per class in a training episode
        train_query: int = 4  # query images per class in a training episode
        episodes: int = 1  # training episodes per step
        optimizer: Literal["sgd", "adam"] = "sgd"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["one_cycle", "halving", "constant"] = "one_cycle"  # halving: every 2000 steps
        learning_rate: float = 0.05  # peak learning rate
        weight_decay: float = 5e-4  # on matrices and filters

    def batches(self) -> Episodes:
        """N-way K-shot episodes of base classes."""
        hp = self.hp
        return Episodes(min(hp.train_way, self.num_classes), hp.train_shot, hp.train_query, hp.episodes)

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say; Snell et al. 2017's is Adam, halved every 2,000 episodes."""
        return configure_as_set(self)
