"""The pretraining: a classifier of the base classes, which methods answer with or start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.batches import LabelledBatch, Shuffled
from methods.classification import classifier, configure_classifier
from methods.distances import Cosine
from methods.method import Method, class_means
from methods.pretraining import Pretraining
from methods.timm_backbone import TimmBackbone

MOMENTUM = 0.1  # of the mean feature, as of batch norm's statistics


class BaseClassifier(Method):
    """Backbone and head that classify the base classes, trained with cross-entropy.

    Which of its weights are kept is decided as for every method, by validation: it answers episodes by the
    cosine to the class means of its features.

    Attributes:
        head: features ``[N, D]`` -> logits ``[N, B]``.
        mean: ``[D]``, mean feature of the training images, over the last 10 batches or so; they are cropped
            and flipped, which puts it a tenth of its length from that of untouched ones.
    """

    trains_on = "shuffled"
    Hyperparameters = Pretraining  # type: ignore[assignment]
    mean: Tensor

    def __init__(self, backbone: Any, hp: Pretraining, num_classes: int) -> None:
        super().__init__(backbone, hp, num_classes)
        prepare_backbone(backbone, hp.pretrained, hp.small_stem)
        self.external_data = hp.pretrained  # type: ignore[misc]
        self.head = classifier(hp.head, backbone.dim, num_classes, hp.scale)
        self.register_buffer("mean", torch.zeros(backbone.dim))

    def batches(self) -> Shuffled:
        """Images in random order."""
        return Shuffled(self.hp.images)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy over the base classes."""
        features = self.embed(batch.images)
        self.mean.lerp_(features.detach().mean(0), MOMENTUM)
        return self.log_loss(F.cross_entropy(self.head(features), batch.labels))

    def configure_optimizers(self) -> Any:
        """As the hyperparameters say."""
        return configure_classifier(self.parameters(), self.hp)

    def embed(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, D]``, float32: the features that the head reads."""
        return self.backbone(images).float()

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Cosine of each query and each class's mean direction: ``[E, Q, way]``."""
        return Cosine().matrix(query, class_means(F.normalize(support.float(), dim=-1)))


def prepare_backbone(backbone: nn.Module, pretrained: bool, small_stem: bool) -> None:
    """Change a new backbone of timm as asked.

    Args:
        backbone: as built, with its starting weights.
        pretrained: it starts from timm's own weights.
        small_stem: no downsampling in its stem, for images of 32 pixels.

    Raises:
        ValueError: it is not a model of timm.
    """
    if isinstance(backbone, TimmBackbone):
        if small_stem:
            backbone.shrink_stem()
    elif pretrained:
        raise ValueError("pretrained=true needs a backbone of timm, e.g. --backbone timm:resnet18")
    elif small_stem:
        raise ValueError("small_stem changes backbones of timm, e.g. --backbone timm:resnet18")
