"""What a method is: the contract between an algorithm and the harness.

A method is one `LightningModule` in one file. It sees only the tensors it is handed; where they come
from, on which device and in which precision, is decided by the harness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from methods.batches import Batches, EpisodeBatch
from methods.pretraining import PRETRAINED_SHARE, PretrainedClassifier, Pretraining


class Method(pl.LightningModule):
    """Base class of every method. What only some can do is in `methods.abilities`.

    A subclass sets the attributes below, declares a frozen dataclass `Hyperparameters` whose trailing
    comments become the help, and writes `batches`, `training_step`, `configure_optimizers` and the answers
    it can give; all of it is inherited. One batch is one training step and one optimizer step. Answers are
    finite before training too.

    Where training starts is decided by `pretraining`. A method that offers the choice has a hyperparameter
    ``init: Literal["scratch", "pretrained"]``; with `pretrained`, `PRETRAINED_SHARE` of its training images
    go into the classifier, and the rest into its own steps, so that both starts cost as many images.

    Args:
        backbone: maps images ``[N, 3, H, W]`` to features ``[N, backbone.dim]``.
        hp: the method's `Hyperparameters`.
        num_classes: number of base classes B.
    """

    family: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    trains_on: ClassVar[str] = ""  # of `batches`, in a word
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # hyperparameters and `backbone` by preset
    starts: ClassVar[dict[str, dict[str, Any]]] = {}  # hyperparameters that change with `init`
    test_only: ClassVar[tuple[str, ...]] = ()  # hyperparameters that neither steps nor weights depend on
    marked_when: ClassVar[dict[str, str]] = {}  # mark of a row, like "transductive" -> its hyperparameter
    extends_backbone: ClassVar[bool] = False  # it adds parameters to the backbone itself
    fuses: ClassVar[bool] = True  # plain gradients: the backbone may be compiled or split over devices

    # These may depend on hyperparameters and be set on the instance.
    transductive: ClassVar[bool] = False  # answers depend on the episode's other queries
    external_data: ClassVar[bool] = False  # its weights have seen other images
    fixed_embedding: ClassVar[bool] = True  # no episode changes embeddings; else it answers with `adapt`
    order_dependent: bool = False  # answers may depend on the order of an episode's classes and shots
    joins_with: Literal["means", "classifier", "training"] = "means"
    """What new classes join: means of the base classes, a classifier of its own, or a network's training."""

    @dataclass(frozen=True)
    class Hyperparameters:
        """Replaced by each method."""

        steps: int = 1000  # training steps

    def __init__(self, backbone: nn.Module, hp: Any, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.hp = hp
        self.num_classes = num_classes

    def batches(self) -> Batches:
        """What its own training steps are made from."""
        raise NotImplementedError

    @property
    def training_steps(self) -> int:
        """Steps of its own training, after the pretraining if there is one; 0 for none."""
        if getattr(self.hp, "init", None) != "pretrained":
            return self.hp.steps
        return max(1, round((1 - PRETRAINED_SHARE) * self.hp.steps))

    @property
    def pretraining(self) -> Pretraining | None:
        """The classifier of the base classes that it starts from; None: its backbone starts as it is built.

        Steps are rounded to three digits, so that methods with batches of different sizes share one.
        """
        if getattr(self.hp, "init", None) != "pretrained":
            return None
        images = (self.hp.steps - self.training_steps) * self.batches().size
        return Pretraining(max(1, round(float(f"{images / Pretraining.images:.3g}"))))

    @property
    def starts_trained(self) -> bool:
        """Whether the weights that its own training starts from are an answer already."""
        return self.pretraining is not None

    def start_from(self, pretrained: PretrainedClassifier) -> None:
        """Take over what `pretraining` asked for; called before training, and before it resumes."""
        self.backbone.load_state_dict(pretrained.backbone.state_dict(), strict=not self.extends_backbone)

    def embed(self, images: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]`` to the embeddings ``[N, D]`` that every other answer works on."""
        return self.backbone(images)

    def embed_episodes(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of the support ``[E, way, shot, D]`` and the queries ``[E, Q, D]``, in one forward."""
        embeddings = self.embed(torch.cat([batch.support.flatten(0, 2), batch.query.flatten(0, 1)]))
        support, query = embeddings.tensor_split([batch.support.shape[:3].numel()])
        return support.unflatten(0, batch.support.shape[:3]), query.unflatten(0, batch.query.shape[:2])

    def episode_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Score queries against the classes of their episode.

        Args:
            support: ``[E, way, shot, D]`` embeddings.
            query: ``[E, Q, D]``.

        Returns:
            ``[E, Q, way]``; the largest is the answer. Each query's row must depend on the support
            set and that query alone unless the method says it is `transductive`.
        """
        raise NotImplementedError

    def adapt(self, support: Tensor) -> Callable[[Tensor], Tensor]:
        """Learn each episode's classes: the answer of a method without `fixed_embedding`.

        The harness calls it in evaluation mode, with gradients enabled. It leaves the method as it was,
        and draws its random numbers from a generator of its own, seeded the same in every episode.

        Args:
            support: ``[E, way, shot, 3, H, W]`` images.

        Returns:
            A function from query images ``[E, Q, 3, H, W]`` to logits ``[E, Q, way]``, called once for
            each part of the queries. It is as inductive as `episode_logits`.
        """
        raise NotImplementedError

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Score queries ``[Q, D]`` against all base classes and some new ones jointly: ``[Q, B + new]``.

        Args:
            base: ``[B, D]``, mean embedding of each base class's training images; ``[0, D]`` for a method
                that `joins_with` a ``classifier`` of its own.
            support: ``[new, shot, D]`` embeddings of the new classes; `new` may be 0.
            query: see above.
        """
        raise NotImplementedError

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Score pairs of embeddings ``[N, D]``, ``[N, D]`` -> ``[N]``; larger means more alike."""
        raise NotImplementedError

    def log_loss(self, loss: Tensor) -> Tensor:
        """Log the training loss under its common name, and return it."""
        if self._trainer is not None:
            self.log("train/loss", loss.detach(), prog_bar=True)
        return loss


def class_means(support: Tensor) -> Tensor:
    """Prototypes, Snell et al. 2017, eq. 1: mean over shots, ``[E, way, shot, D]`` -> ``[E, way, D]``."""
    return support.float().mean(dim=2)


def mirror_averaged(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of the features of each image and of its mirror image, ``[N, 3, H, W] -> [N, D]``, float32."""
    return (features(images).float() + features(images.flip(-1)).float()) / 2
