"""Imprinted weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.abilities import JoinsAsNetwork
from methods.batches import LabelledBatch, Shuffled
from methods.classification import CosineHead
from methods.distances import Cosine, full_precision
from methods.method import Method
from methods.optimizers import configure

EMBEDDED_AT_ONCE = 256


class Embedding(nn.Linear):
    """A linear layer without bias onto the unit sphere, in float32: ``[N, dim]`` -> ``[N, embedding]``."""

    def __init__(self, dim: int, embedding: int) -> None:
        super().__init__(dim, embedding, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Of length 1."""
        with full_precision(features):
            return F.normalize(super().forward(features.float()), dim=1)


class Imprinted(JoinsAsNetwork, Method):
    """Imprinted weights: the classifier's weights of a new class are its mean support embedding.

    A classifier of the base classes without bias, trained with cross-entropy: scale x cosine between the
    embedding, normalised to length 1, and each class's normalised weights (Qi et al. 2018, eq. 5-6). A
    class's weights are then a template like any embedding of its images. So new classes join without
    training: their weights are the mean of their support embeddings, normalised again (eq. 7).

    `finetune` continues training when classes join, as the original project does: SGD with momentum 0.9
    on the support images (at most `finetune_images`) and on `finetune_images` base training images, the loss
    weighted by the share of new and base classes, all weights renormalised after each step, and those of the
    base classes frozen in every second step. Batch norm keeps its statistics. Episodes of new classes alone
    use imprinted weights as they are.

    The embedding layer is linear: all features after a ReLU have the same sign, and a new class imprinted
    from them takes most images of the base classes.

    Use it when a deployed classifier must learn new classes at once and still recognise the old ones: new
    and base classes are rows of one classifier.

    It costs a classifier's training, one forward and backward pass per image; a new class costs a forward
    pass of its images. With `finetune`, each join costs gradient steps on the new images and on base
    training images, which have to be kept for that.
    """

    family = "transfer"
    paper = "Qi et al. 2018, Low-Shot Learning with Imprinted Weights"
    trains_on = "shuffled"
    test_only = (
        "finetune", "finetune_steps", "finetune_images", "finetune_rate", "finetune_share",
    )  # fmt: skip
    presets = {
        "smoke": {"backbone": "conv4", "steps": 12, "images": 32, "finetune_steps": 2},
        "quick": {"backbone": "conv4", "steps": 3200},
        "standard": {"backbone": "resnet12-32"},
        # A student project: 15 epochs of 40 classes x 400 images; finetuned for 2, new images weighing 1,600
        # times as much as base images, of which there are 40 times as many. It begins with weights from
        # ImageNet, at 224 pixels: `--weights`.
        "original": {
            "backbone": "timm:resnet18",
            "steps": 12000,
            "images": 20,
            "schedule": "constant",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "finetune_steps": 1640,
            "finetune_images": 20,
            "finetune_rate": 1e-3,
            "finetune_share": 0.976,
        },
    }

    @dataclass(frozen=True)
    class Hyperparameters:
        """Defaults; the presets change some."""

        steps: int = 4000  # training steps, one batch each
        images: int = 128  # images in a batch
        embedding: int = 256  # dimensions of the embedding
        scale: float = 10.0  # what cosines are multiplied by at the start; learned
        schedule: Literal["one_cycle", "halving", "constant"] = "one_cycle"  # halving: every 2000 steps
        learning_rate: float = 0.1  # peak learning rate
        weight_decay: float = 5e-4  # on matrices and filters
        finetune: bool = False  # continue training when classes join base classes
        finetune_steps: int = 20  # finetuning steps, each time that classes join
        finetune_images: int = 32  # base images per finetuning step, and the most support images
        finetune_rate: float = 1e-4  # learning rate of finetuning
        finetune_share: float = 0.5  # share of the new classes in the finetuning loss; between 0 and 1

    def __init__(self, backbone: Any, hp: Hyperparameters, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        if not 0 < hp.finetune_share < 1:
            raise ValueError("finetune_share must lie between 0 and 1: new and base classes both count")
        self.embedding = Embedding(backbone.dim, hp.embedding)
        self.head = CosineHead(hp.embedding, num_classes, hp.scale, learn_scale=True)
        self.cosine = Cosine()
        self.joins_with = "training" if hp.finetune else "classifier"

    def batches(self) -> Shuffled:
        """Images in random order."""
        return Shuffled(self.hp.images)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy over the base classes."""
        return self.log_loss(F.cross_entropy(self.head(self.embed(batch.images)), batch.labels))

    def configure_optimizers(self) -> Any:
        """SGD, as the hyperparameters say."""
        hp = self.hp
        return configure(self.parameters(), hp.steps, "sgd", hp.schedule, hp.learning_rate, hp.weight_decay)

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, embedding]``, of length 1."""
        return self.embedding(self.backbone(images))

    def imprint(self, support: Tensor) -> Tensor:
        """Classifier weights of new classes, eq. 7: ``[..., shot, D]`` -> ``[..., D]``, of length 1."""
        return F.normalize(F.normalize(support.float(), dim=-1).mean(dim=-2), dim=-1)

    def joint_weights(self, support: Tensor) -> Tensor:
        """Weights of all classes, of length 1: new ones from embeddings ``[new, shot, D]``, last."""
        return torch.cat([F.normalize(self.head.weight, dim=1), self.imprint(support)])

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Scaled cosine of each query and each class's imprinted weights: ``[E, Q, way]``."""
        return self.head.scale * self.cosine.matrix(query, self.imprint(support))

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Scaled cosine of each query and the weights of base and new classes."""
        return self.head.scale * self.cosine.matrix(query, self.joint_weights(support))

    def join(self, support: Tensor, base: Callable[[int], LabelledBatch]) -> nn.Module:
        """The classifier grown by imprinted weights, and trained further with `finetune`."""
        with torch.no_grad():
            made = [self.embed(part) for part in support.flatten(0, 1).split(EMBEDDED_AT_ONCE) if len(part)]
            shape = (*support.shape[:2], self.hp.embedding)
            weights = self.joint_weights(torch.cat(made).view(shape) if made else support.new_empty(shape))
        head, backbone, embedding = copy.deepcopy(self.head), self.backbone, self.embedding
        head.weight = nn.Parameter(weights)
        if self.hp.finetune:
            backbone, embedding = copy.deepcopy((backbone, embedding))
        network = nn.Sequential(OrderedDict(backbone=backbone, embedding=embedding, head=head)).eval()
        if self.hp.finetune and made:
            self._finetune(network, head, support, base)
        return network

    def _finetune(
        self, network: nn.Module, head: CosineHead, support: Tensor, base: Callable[[int], LabelledBatch]
    ) -> None:
        hp, (new, shot) = self.hp, support.shape[:2]
        images, classes = support.flatten(0, 1), self.num_classes
        labels = torch.arange(classes, classes + new, device=images.device).repeat_interleave(shot)
        taken = min(len(images), hp.finetune_images)
        weights = torch.full((classes + new,), (1 - hp.finetune_share) / hp.finetune_images)
        weights[classes:] = hp.finetune_share / taken
        weights = weights.to(images.device)
        optimizer = torch.optim.SGD(network.parameters(), hp.finetune_rate, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        for step in range(hp.finetune_steps):
            chosen = torch.randperm(len(images), generator=generator)[:taken].to(images.device)
            batch = base(hp.finetune_images)
            logits = network(torch.cat([images[chosen], batch.images]))
            loss = F.cross_entropy(logits, torch.cat([labels[chosen], batch.labels]), weights)
            frozen = head.weight[:classes].detach().clone()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if step % 2 == 0:
                    head.weight[:classes] = frozen
                head.weight.copy_(F.normalize(head.weight, dim=1))
            # Autocast keeps copies of the weights as they were.
            torch.clear_autocast_cache()

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """``[N, D], [N, D] -> [N]``: the cosine."""
        return self.cosine.rows(a, b)
