"""Finetuning: a classifier of the base classes whose head, or all of it, is retrained in every episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from methods.base_classifier import prepare_backbone
from methods.distances import Cosine, full_precision
from methods.transfer import Transfer

MOMENTUM = DAMPENING = 0.9  # in episodes, as in the code of Chen et al.


class Finetune(Transfer):
    """Baseline and Baseline++: learn to classify the base classes, then train on each support set.

    In an episode, gradient descent on the cross-entropy of the support set trains a new head on the fixed
    features (section 3.2), or, with `adapt_layers=all`, the backbone too, whose batch norm keeps its
    statistics. `head=linear` is the paper's Baseline, `head=cosine` its Baseline++. The new head begins
    at zero, or where it is a cosine at the class means, so that nothing depends on chance or on the
    order of the classes. An episode's cosine head has a scale of its own, as in the paper's code: with that
    of the base classes the softmax is nearly certain of the support set at once, and little is learned.

    `pretrained=true` starts from timm's own weights, as the flag `--pretrained` does: rows with it have seen
    external data, and are marked.

    Use it when good features already exist, especially with `pretrained=true`, and each new class has more
    than one image; or as a simple baseline that does learn in each episode.

    It costs the pretraining, one forward and backward pass per image, which it shares with the other
    transfer methods, and in each episode `adapt_epochs` passes over the support set: of a head on features
    that are computed once, or with `adapt_layers=all` of the whole network, which is then evaluated on fewer
    episodes.
    """

    family = "transfer"
    paper = "Chen et al. 2019, A Closer Look at Few-shot Classification"
    trains_on = "pretraining"
    test_only = (
        "adapt_layers", "adapt_epochs", "adapt_images", "adapt_learning_rate", "adapt_weight_decay",
    )  # fmt: skip
    marked_when = {"external data": "pretrained=true"}
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32, "adapt_epochs": 10},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32"},
        # Baseline, section 4.2 and its code: 400 epochs of 38,400 images, the base classes of mini-ImageNet.
        "paper": {
            "backbone": "timm:resnet18",
            "steps": 960000,
            "images": 16,
            "head": "linear",
            "optimizer": "adam",
            "schedule": "constant",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "adapt_images": 4,
            "adapt_learning_rate": 0.01,
        },
        # The assignment's ResNet-18 with ImageNet's weights; an episode is learned as in the paper.
        "original": {
            "backbone": "timm:resnet18",
            "pretrained": True,
            "steps": 12000,
            "images": 64,
            "head": "linear",
            "learning_rate": 0.01,
            "adapt_images": 4,
            "adapt_learning_rate": 0.01,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps of the classifier, one batch each
        images: int = 128  # images in a batch
        head: Literal["linear", "cosine"] = "cosine"  # classifier of base and of episode classes
        scale: float = 16.0  # what head=cosine multiplies cosines by, for the base classes
        pretrained: bool = False  # start from timm's own weights; needs a backbone timm:<name>
        small_stem: bool = False  # no downsampling in the stem of timm:<name>, for images of 32 pixels
        adapt_layers: Literal["head", "all"] = "head"  # what is trained in an episode
        adapt_epochs: int = 100  # passes over an episode's support set
        adapt_images: int | None = None  # support images in a batch; none: all of them
        adapt_scale: float = 2.0  # what head=cosine multiplies cosines by in an episode
        adapt_learning_rate: float | None = None  # SGD's; none: 1 for a cosine head alone, else 0.01
        adapt_weight_decay: float = 0.001  # weight decay in an episode, on all trained weights
        optimizer: Literal["sgd", "adam"] = "sgd"  # SGD with Nesterov momentum 0.9, or Adam
        schedule: Literal["one_cycle", "constant"] = "one_cycle"  # schedule of the learning rate
        learning_rate: float = 0.1  # peak learning rate
        weight_decay: float = 5e-4  # on matrices and filters

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        prepare_backbone(backbone, hp.pretrained, hp.small_stem)
        self.external_data = hp.pretrained  # type: ignore[misc]
        self.order_dependent = hp.adapt_images is not None  # which images meet in a batch
        self.fixed_embedding = hp.adapt_layers == "head"  # type: ignore[misc]
        # Validation does not tell 0.1 to 10 apart for a cosine, nor 0.003 to 0.03 for a linear head
        # (benchmarks/tuning/log.csv). adapt_layers=all is not tuned.
        usual = 1.0 if hp.head == "cosine" and hp.adapt_layers == "head" else 0.01
        self.adapt_learning_rate = usual if hp.adapt_learning_rate is None else hp.adapt_learning_rate

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, D]``, the features that the base classes' head reads."""
        return self.backbone(images).float()

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits of a head trained on the features of each support set: ``[E, Q, way]``."""
        # The harness asks in inference mode, where nothing can be trained.
        with torch.inference_mode(False), torch.no_grad(), full_precision(support):
            features = support.clone().float().flatten(1, 2)
            # Descent moves weights by combinations of the n support features, so it may go on in the n
            # coordinates of their span: the same path with less arithmetic.
            basis, coordinates = torch.linalg.qr(features.mT)
            points = coordinates.mT
            head = self.new_head(points, *support.shape[1:3])
            self.descend(head, lambda index: self.head_logits(points[:, index], head), *support.shape[1:3])
            head = [head[0].detach() @ basis.mT, *(bias.detach() for bias in head[1:])]
        with full_precision(query):
            return self.head_logits(query.float(), head)

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """Train copies of the backbone, one for each episode, and new heads on them."""
        episodes, way, shot = support.shape[:3]
        images = support.flatten(1, 2)
        weights = dict(self.backbone.named_parameters())
        if episodes == 1:  # then it is faster without vmap, which makes grouped convolutions
            copies = {name: value.detach().clone() for name, value in weights.items()}
        else:
            copies = {
                name: value.detach().expand(episodes, *value.shape).clone() for name, value in weights.items()
            }

        def features(images: Tensor) -> Tensor:
            if episodes == 1:
                return self._features(copies, images[0])[None]
            return vmap(self._features)(copies, images)

        with torch.no_grad():
            head = self.new_head(features(images), way, shot)
        trained = [*copies.values(), *head]
        self.descend(trained, lambda index: self.head_logits(features(images[:, index]), head), way, shot)
        return lambda query: self.head_logits(features(query), head)

    def _features(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(self.backbone, weights, (images,)).float()

    def new_head(self, features: Tensor, way: int, shot: int) -> list[Tensor]:
        """Weights ``[E, way, D]``, and with `head=linear` biases ``[E, 1, way]``.

        Args:
            features: of the support images by class, ``[E, way * shot, D]``.
            way: number of classes.
            shot: images of each.
        """
        episodes, _, dim = features.shape
        if self.hp.head == "linear":
            return [features.new_zeros(episodes, way, dim), features.new_zeros(episodes, 1, way)]
        means = F.normalize(features, dim=2).unflatten(1, (way, shot)).mean(2)
        return [F.normalize(means, dim=2)]

    def head_logits(self, features: Tensor, head: list[Tensor]) -> Tensor:
        """``[E, N, D]`` and the episodes' heads -> ``[E, N, way]``."""
        with full_precision(features):
            if self.hp.head == "linear":
                return features @ head[0].mT + head[1]
            return self.hp.adapt_scale * Cosine().matrix(features, head[0])

    def descend(self, weights: list[Tensor], logits: Callable[[Tensor], Tensor], way: int, shot: int) -> None:
        """Train weights on the support sets of E episodes at once, each on its own.

        Args:
            weights: ``[E, ...]`` each.
            logits: of those support images, ``[m] -> [E, m, way]``; images are in the order of classes.
            way: number of classes.
            shot: images of each.
        """
        hp = self.hp
        for tensor in weights:
            tensor.requires_grad_()
        optimizer = torch.optim.SGD(
            weights, self.adapt_learning_rate, MOMENTUM, DAMPENING, hp.adapt_weight_decay
        )
        labels = torch.arange(way, device=weights[0].device).repeat_interleave(shot)
        with torch.enable_grad():
            for index in self._batches_of(len(labels), labels.device):
                found = logits(index)
                wanted = labels[index].expand(len(found), -1)
                # The mean over images, summed over episodes, whose weights have nothing in common.
                loss = F.cross_entropy(found.flatten(0, 1), wanted.flatten(), reduction="sum")
                optimizer.zero_grad()
                (loss / len(index)).backward()
                optimizer.step()
                torch.clear_autocast_cache()  # the harness's context still holds the old weights, rounded

    def _batches_of(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """Support images in random order, the same in every episode; or all of them each time."""
        size = self.hp.adapt_images or count
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.hp.adapt_epochs):
            order = torch.arange(count) if size >= count else torch.randperm(count, generator=generator)
            yield from order.to(device).split(size)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the cosine."""
        return Cosine().rows(a, b)
