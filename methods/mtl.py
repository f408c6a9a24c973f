"""Meta-transfer learning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR

from methods.classification import LinearHead
from methods.distances import Cosine, full_precision
from methods.hard_tasks import Rounds, worst_classes
from methods.method import (
    BatchSpec,
    EpisodeBatch,
    Episodes,
    LabelledBatch,
    Method,
    Shuffled,
    Stages,
    flatten_images,
)
from methods.optimizers import Schedule, configure
from methods.scale_shift import ScaleShiftConv, scale_and_shift


class MTL(Method):
    """Meta-transfer learning: pretrain a deep network, then meta-learn how little of it to change.

    First the network learns to classify the base classes. Then its weights and batch-norm statistics stay
    as they are, and episodes teach it a scale and a shift for each filter, together with the first weights
    of a linear classifier: in each episode the classifier takes gradient steps on the support set, and the
    loss on the queries goes back, first-order, to its first weights and through the query embeddings to
    scales and shifts. `hard_task_batch` collects the class that each task did worst on, and makes the next
    tasks of those. At test only the classifier adapts.

    The source's ablation: `pretrain=false scale_shift=false` trains all weights on episodes, from random
    ones; `scale_shift=false` meta-learns the classifier's first weights on top of the pretrained network;
    `hard_task_batch=false` draws all tasks at random.

    Use it when the network is deep and the tasks are few: what episodes teach is one number for each kernel
    and filter of a pretrained network, too little to overfit by.

    It costs a classifier's pretraining, and then for each image of a training episode one forward and
    backward pass. The classifier's `inner_steps` work on features: at the test each image is embedded
    once, and only these steps are taken in an episode.
    """

    family = "meta-learning"
    paper = "Sun et al. 2019, Meta-Transfer Learning for Few-Shot Learning"
    order_dependent = True  # the classifier starts from weights for each place in an episode
    trains_on = "episodes"
    extends_backbone = True
    presets = {
        "smoke": {
            "backbone": "conv4",
            "steps": 12,
            "pretrain_share": 0.5,
            "images": 32,
            "train_query": 5,
            "random_tasks": 4,
            "hard_tasks": 4,
        },
        "quick": {"backbone": "conv4", "steps": 3000, "scale_shift_learning_rate": 0.001},
        "standard": {"backbone": "resnet12-32", "scale_shift_learning_rate": 0.001},
        "paper": {
            "backbone": "resnet12",
            "steps": 40000,
            "pretrain_share": 0.75,
            "pretrain_schedule": "decay",
            "episodes": 1,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 3900  # training steps, those of pretraining included
        pretrain: bool = True  # classify the base classes first; false: episodes train all weights
        pretrain_share: float = 0.8  # share of the steps that are pretraining
        images: int = 128  # images in a batch of pretraining
        pretrain_schedule: Literal["one_cycle", "decay"] = "one_cycle"  # decay: to a fifth, repeatedly
        pretrain_decay_every: int = 9000  # steps from one decay to the next: 30 epochs of 64 x 600 images
        pretrain_learning_rate: float = 0.1  # peak learning rate of pretraining, SGD with momentum 0.9
        weight_decay: float = 5e-4  # of pretraining, on matrices and filters
        scale_shift: bool = True  # learn a scale and shift of the pretrained filters; false: leave them
        hard_task_batch: bool = True  # make tasks of the classes that fail in random ones
        random_tasks: int = 20  # random tasks in a round; the worst class of each is collected
        hard_tasks: int = 20  # tasks of the collected classes, at the end of a round
        train_way: int = 5  # classes in a training episode; at most the split's base classes
        train_shot: int = 1  # support images a class in a training episode
        train_query: int = 15  # query images a class in a training episode
        episodes: int = 2  # training episodes a step
        inner_steps: int = 100  # gradient steps of the classifier in an episode
        inner_learning_rate: float = 0.01  # of these steps
        base_learner_learning_rate: float = 0.001  # Adam's, for the classifier's first weights
        scale_shift_learning_rate: float = 0.0001  # Adam's, for scales and shifts
        backbone_learning_rate: float = 0.001  # Adam's, for the other weights; only where pretrain=false
        halve_every: int = 1000  # steps on episodes after which Adam's learning rates halve

    def __init__(self, backbone: nn.Module, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        self.fuses = hp.pretrain  # type: ignore[misc]
        if hp.scale_shift and not hp.pretrain:
            raise ValueError("scale_shift adjusts pretrained filters: with pretrain=false it must be false")
        if not 0 < hp.pretrain_share < 1:
            raise ValueError("pretrain_share must be between 0 and 1: each stage needs steps")
        self.automatic_optimization = False  # the two stages have an optimizer each
        self.transferring = False
        if hp.pretrain:
            self.classifier = LinearHead(backbone.dim, num_classes)  # type: ignore[arg-type]
        if hp.scale_shift:
            scale_and_shift(backbone)
            for own in self.scales_and_shifts():
                own.requires_grad_(False)  # until the second stage
        # One row for each place in an episode. Any class may be drawn for it, so rows have nothing to differ
        # in: zeros, where the authors' code has random numbers, which cost points until they are unlearned.
        self.base_learner = nn.Linear(backbone.dim, min(hp.train_way, num_classes))  # type: ignore[arg-type]
        for zeros in self.base_learner.parameters():
            nn.init.zeros_(zeros)
        self.rounds = Rounds(
            at_random=math.ceil(hp.random_tasks / hp.episodes),
            hard=math.ceil(hp.hard_tasks / hp.episodes),
            seed=int(torch.randint(2**31, ())),
        )

    @property
    def pretrain_steps(self) -> int:
        """Steps of the first stage; however few there are, the second has one."""
        return min(round(self.hp.pretrain_share * self.hp.steps), self.hp.steps - 1)

    def scales_and_shifts(self) -> list[nn.Parameter]:
        """The parameters that the second stage adds to the backbone."""
        convs = [module for module in self.backbone.modules() if isinstance(module, ScaleShiftConv)]
        return [parameter for conv in convs for parameter in (conv.scale, conv.shift)]

    def batches(self) -> BatchSpec:
        """Images in random order, then episodes."""
        hp = self.hp
        way = self.base_learner.out_features
        episodes = Episodes(way, hp.train_shot, hp.train_query, hp.episodes)
        return Stages(Shuffled(hp.images), self.pretrain_steps, episodes) if hp.pretrain else episodes

    def next_classes(self) -> Tensor | None:
        """The classes of the next hard tasks, ``[E, way]``; None where tasks are random."""
        way, classes = self.base_learner.out_features, self.num_classes
        return self.rounds.draw(self.hp.episodes, way, classes) if self.hp.hard_task_batch else None

    def training_step(self, batch: LabelledBatch | EpisodeBatch, batch_idx: int) -> Tensor:
        """Cross-entropy over the base classes, later over the queries of episodes."""
        if isinstance(batch, LabelledBatch):
            stage, loss = 0, F.cross_entropy(self.classifier(self.embed(batch.images)), batch.labels)
        else:
            self.begin_transfer()
            stage, loss = 1, self.episode_loss(batch)
        if self._trainer is not None:
            self.optimize(loss, stage)
        return self.log_loss(loss)

    def begin_transfer(self) -> None:
        """What was pretrained stays as it is from here on, but for scales and shifts."""
        if self.transferring or not self.hp.pretrain:
            return
        self.transferring = True
        self.requires_grad_(False)
        for own in (*self.scales_and_shifts(), *self.base_learner.parameters()):
            own.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> MTL:
        """As in any module, except that a pretrained network's batch norm keeps its statistics."""
        super().train(mode)
        if self.transferring:
            self.backbone.eval()
        return self

    def episode_loss(self, batch: EpisodeBatch) -> Tensor:
        """Cross-entropy of the queries after the classifier has adapted to the support set."""
        episodes, way, shot = batch.support.shape[:3]
        embeddings = self.embed(flatten_images(batch.support, batch.query))
        support, query = embeddings.split([episodes * way * shot, len(embeddings) - episodes * way * shot])
        logits = self.episode_logits(
            support.unflatten(0, (episodes, way, shot)), query.unflatten(0, (episodes, -1))
        )
        if self.hp.hard_task_batch:
            self.rounds.collect(worst_classes(logits, batch.labels, batch.classes))
        return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())

    def optimize(self, loss: Tensor, stage: int) -> None:
        """One step of the stage's optimizer and schedule."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        if self.hp.pretrain:
            optimizer, schedule = optimizer[stage], schedule[stage]
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave where the rounds of hard tasks stand to a training that goes on from here."""
        checkpoint["rounds"] = asdict(self.rounds)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the rounds up again."""
        self.rounds = Rounds(**checkpoint["rounds"])

    def configure_optimizers(self) -> Any:
        """SGD for pretraining; Adam for episodes, with a learning rate for each kind of weight."""
        hp = self.hp
        groups = [
            {"params": list(self.base_learner.parameters()), "lr": hp.base_learner_learning_rate},
            {"params": self.scales_and_shifts(), "lr": hp.scale_shift_learning_rate},
            {
                "params": [] if hp.pretrain else list(self.backbone.parameters()),
                "lr": hp.backbone_learning_rate,
            },
        ]
        outer = torch.optim.Adam([group for group in groups if group["params"]])
        stages = [{"optimizer": outer, "lr_scheduler": StepLR(outer, hp.halve_every, gamma=0.5)}]
        if hp.pretrain:
            pretrained = [*self.backbone.parameters(), *self.classifier.parameters()]
            schedule: Schedule = "one_cycle" if hp.pretrain_schedule == "one_cycle" else "constant"
            rates = hp.pretrain_learning_rate, hp.weight_decay
            first = configure(pretrained, self.pretrain_steps, "sgd", schedule, *rates)
            if schedule == "constant":
                first["lr_scheduler"] = StepLR(first["optimizer"], hp.pretrain_decay_every, gamma=0.2)
            stages.insert(0, first)
        return stages

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
