"""Meta-transfer learning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR

from methods.abilities import ChoosesClasses
from methods.batches import EpisodeBatch, Episodes
from methods.distances import Cosine, full_precision
from methods.hard_tasks import Rounds, worst_classes
from methods.method import Method
from methods.pretraining import Pretraining
from methods.scale_shift import ScaleShiftConv, scale_and_shift


class MTL(ChoosesClasses, Method):
    """Meta-transfer learning: pretrain a deep network, then meta-learn a small change of it.

    A network that has learned to classify the base classes (the pretraining) keeps its weights and batch-norm
    statistics. Episodes teach it a scale and a shift per filter, together with the first weights of a
    linear classifier: in each episode the classifier takes gradient steps on the support set, and the loss
    on the queries is differentiated, first-order, by its first weights and through the query embeddings by
    scales and shifts. `hard_task_batch` collects the class that each task did worst on, and makes the next
    tasks of those. At test time only the classifier adapts.

    The source's ablation: `init=scratch` trains all weights on episodes, from random ones;
    `scale_shift=false` meta-learns the classifier's first weights on top of the pretrained network;
    `hard_task_batch=false` draws all tasks at random.

    Use it when the network is deep and the tasks are few: episodes teach one number per kernel and filter
    of a pretrained network, too few to overfit.

    It costs the pretraining, and then one forward and backward pass per image of a training episode. The
    classifier's `inner_steps` work on features: at test time each image is embedded once, and only these
    steps are taken in an episode.
    """

    family = "meta-learning"
    paper = "Sun et al. 2019, Meta-Transfer Learning for Few-Shot Learning"
    order_dependent = True  # the classifier starts from weights for each place in an episode
    trains_on = "episodes"
    extends_backbone = True
    fuses = False
    presets = {
        "smoke": {
            "backbone": "conv4",
            "steps": 12,
            "train_query": 5,
            "random_tasks": 4,
            "hard_tasks": 4,
        },
        "quick": {"backbone": "conv4", "steps": 2560, "scale_shift_learning_rate": 0.001},
        "standard": {"backbone": "resnet12-32", "scale_shift_learning_rate": 0.001},
        "paper": {
            "backbone": "resnet12",
            "steps": 40000,
            "episodes": 1,
            "recipe": "paper",
            "head": "kaiming",
        },
    }
    starts = {"scratch": {"scale_shift": False}}

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 3200  # training steps
        init: Literal["scratch", "pretrained"] = "pretrained"  # pretrained: a classifier of the base classes
        recipe: Literal["shared", "paper"] = "shared"  # pretraining recipe; shared: as for all other methods
        head: Literal["zero", "kaiming"] = "zero"  # first weights before any episode; kaiming: the authors'
        scale_shift: bool = True  # learn a scale and shift of the pretrained filters; false: leave them
        hard_task_batch: bool = True  # make tasks of the classes that fail in random ones
        random_tasks: int = 20  # random tasks in a round; the worst class of each is collected
        hard_tasks: int = 20  # tasks of the collected classes, at the end of a round
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images per class in a training episode
        train_query: int = 15  # query images per class in a training episode
        episodes: int = 2  # training episodes per step
        inner_steps: int = 100  # gradient steps of the classifier in an episode
        inner_learning_rate: float = 0.01  # learning rate of the classifier's steps in an episode
        base_learner_learning_rate: float = 0.001  # Adam's, for the classifier's first weights
        scale_shift_learning_rate: float = 0.0001  # Adam's, for scales and shifts
        backbone_learning_rate: float = 0.001  # Adam's, for the other weights; only with init=scratch
        halve_every: int = 1000  # steps on episodes after which Adam's learning rates halve

    def __init__(self, backbone: nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.pretrained = hp.init == "pretrained"
        if hp.scale_shift and not self.pretrained:
            raise ValueError("scale_shift adjusts pretrained filters: with init=scratch it must be false")
        self.extends_backbone = hp.scale_shift  # type: ignore[misc]
        if self.pretrained:
            backbone.requires_grad_(False)
        if self.extends_backbone:
            scale_and_shift(backbone)
        # One row for each place in an episode. Any class may be drawn for it, so rows have nothing to differ
        # in: zeros, unless asked for the authors' random numbers, which cost points until they are unlearned.
        self.base_learner = nn.Linear(backbone.dim, min(hp.train_way, num_classes))  # type: ignore[arg-type]
        for zeros in self.base_learner.parameters():
            nn.init.zeros_(zeros)
        if hp.head == "kaiming":
            nn.init.kaiming_normal_(self.base_learner.weight)
        self.rounds = Rounds(
            at_random=math.ceil(hp.random_tasks / hp.episodes),
            hard=math.ceil(hp.hard_tasks / hp.episodes),
            seed=int(torch.randint(2**31, ())),
        )
        self.train()

    def scales_and_shifts(self) -> list[nn.Parameter]:
        """The parameters that are added to the backbone."""
        convs = [module for module in self.backbone.modules() if isinstance(module, ScaleShiftConv)]
        return [parameter for conv in convs for parameter in (conv.scale, conv.shift)]

    @property
    def pretraining(self) -> Pretraining | None:
        """As for all other methods, or a linear classifier and three times as many steps as on episodes."""
        shared = super().pretraining
        if shared is None or self.hp.recipe == "shared":
            return shared
        return Pretraining(3 * self.training_steps, head="linear", schedule="mtl")

    def batches(self) -> Episodes:
        """Episodes that look like the test."""
        hp = self.hp
        return Episodes(self.base_learner.out_features, hp.train_shot, hp.train_query, hp.episodes)

    def next_classes(self) -> Tensor | None:
        """The classes of the next hard tasks, ``[E, way]``; None where tasks are random."""
        way, classes = self.base_learner.out_features, self.num_classes
        return self.rounds.draw(self.hp.episodes, way, classes) if self.hp.hard_task_batch else None

    def train(self, mode: bool = True) -> MTL:
        """As in any module, except that a pretrained network's batch norm keeps its statistics."""
        super().train(mode)
        if self.pretrained:
            self.backbone.eval()
        return self

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the queries after the classifier has adapted to the support set."""
        logits = self.episode_logits(*self.embed_episodes(batch))
        if self.hp.hard_task_batch:
            self.rounds.collect(worst_classes(logits, batch.labels, batch.classes))
        return self.log_loss(F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the rounds of hard tasks stand, for a training that resumes from here."""
        checkpoint["rounds"] = asdict(self.rounds)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume the rounds."""
        self.rounds = Rounds(**checkpoint["rounds"])

    def configure_optimizers(self) -> Any:
        """Adam, with a learning rate for each kind of weight."""
        hp = self.hp
        groups = [
            {"params": list(self.base_learner.parameters()), "lr": hp.base_learner_learning_rate},
            {"params": self.scales_and_shifts(), "lr": hp.scale_shift_learning_rate},
            {
                "params": [] if self.pretrained else list(self.backbone.parameters()),
                "lr": hp.backbone_learning_rate,
            },
        ]
        optimizer = torch.optim.Adam([group for group in groups if group["params"]])
        scheduler = StepLR(optimizer, hp.halve_every, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits of the classifier after it has adapted to each episode's support set: ``[E, Q, way]``."""
        way, dim = support.shape[1], support.shape[-1]
        weight: Tensor = self.base_learner.weight
        bias: Tensor = self.base_learner.bias
        if way != len(weight):
            # What was learned for each place means nothing here but what all places share, which a softmax
            # does not see: zeros amount to the same.
            weight, bias = weight.new_zeros(way, dim), bias.new_zeros(way)
        with full_precision(query):
            moved, raised = descent(
                support.float(), weight, bias, self.hp.inner_steps, self.hp.inner_learning_rate
            )
            return query.float() @ (weight + moved).mT + (bias + raised)[:, None]

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the cosine."""
        return Cosine().rows(a, b)


@torch.no_grad()
def descent(support: Tensor, weight: Tensor, bias: Tensor, steps: int, rate: float) -> tuple[Tensor, Tensor]:
    """How far gradient descent moves a linear classifier on each episode's support set.

    Its loss is the mean cross-entropy over the support set, whose gradient is (P - Y)'S / n, for n support
    embeddings S, probabilities P and one-hot labels Y. So the movement is a combination C'S of the support
    embeddings, and the logits on S move by SS'C: the descent needs SS' and no embeddings.

    Args:
        support: float ``[E, way, shot, D]``.
        weight: ``[way, D]``, where each episode starts.
        bias: ``[way]``, likewise.
        steps: of gradient descent.
        rate: its learning rate.

    Returns:
        What is added to weights, ``[E, way, D]``, and to biases, ``[E, way]``; no gradient goes through
        it, which makes the outer loop first-order.
    """
    way, shot = support.shape[1:3]
    rows = support.flatten(1, 2)
    labels = torch.eye(way, device=rows.device, dtype=rows.dtype).repeat_interleave(shot, dim=1)
    # Classes before images: a softmax over the last dimension would go through memory five numbers at a time.
    logits = weight @ rows.mT + bias[:, None]
    gram = rows @ rows.mT + 1  # a bias is the weight of a feature that is always 1
    moved = torch.zeros_like(logits)
    for _ in range(steps):
        predicted = torch.baddbmm(logits, moved, gram).softmax(dim=1)
        moved += rate / (way * shot) * (labels - predicted)
    return moved @ rows, moved.sum(dim=2)
