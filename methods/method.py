"""What a method is: the contract between an algorithm and the harness.

A method is one `LightningModule` in one file. It sees only the tensors it is handed; where they come
from, on which device and in which precision, is the harness's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from methods.batches import Batches, ClassTasks, EpisodeBatch, LabelledBatch, TripletBatch
from methods.pretraining import PRETRAINED_SHARE, PretrainedClassifier, Pretraining


class Method(pl.LightningModule):
    """Base class of every method.

    A subclass sets the class attributes below, declares a frozen dataclass `Hyperparameters` whose trailing
    comments become the help, and writes `batches`, `training_step`, `configure_optimizers` and the answers it
    can give; all of it is inherited. A batch is one training step, and takes one optimizer step. What depends
    on hyperparameters (`fixed_embedding`, `transductive`, `external_data`, `order_dependent`, `joins_with`)
    may be set on the instance; `marked_when` says which one brings ``transductive``, ``external data`` or
    ``labelled novel images``.

    `order_dependent` says that answers may depend on the order of an episode's classes and shots, as after
    steps on minibatches; for all others the harness checks that they do not. Answers are finite before
    training too.
    `extends_backbone` is for a method that adds parameters to the backbone itself.

    `joins_with` says what new classes join, where base and new classes are told apart jointly: the
    ``means`` of the base classes or a ``classifier`` of the method's own, which `joint_logits` answers
    with; or a network that goes on with its ``training`` in `join` whenever classes join it.

    Where a method starts is decided by `pretraining`. A method that offers the choice has a hyperparameter
    ``init: Literal["scratch", "pretrained"]``; with `pretrained`, `PRETRAINED_SHARE` of the images of its
    whole training go into the classifier, and the rest into its own steps, so that both starts cost as many
    images. `starts` says which hyperparameters change with it.

    `test_only` names hyperparameters that matter only when the method answers: training steps and the shapes
    of weights and buffers do not depend on them. A run that changes no others answers with the weights of
    the run that has the preset's values, which validation chose with those.

    `fuses` says whether a long training may run the backbone on compiled operations. A method that takes
    gradients of gradients says False, for they are right there but slow, and so does one whose backbone is in
    evaluation mode or trains in many small batches.

    Args:
        backbone: maps images ``[N, 3, H, W]`` to features ``[N, backbone.dim]``.
        hp: the method's `Hyperparameters`.
        num_classes: number of base classes B.
    """

    family: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    transductive: ClassVar[bool] = False
    external_data: ClassVar[bool] = False
    order_dependent: bool = False
    trains_on: ClassVar[str] = ""
    fixed_embedding: ClassVar[bool] = True
    fuses: ClassVar[bool] = True
    marked_when: ClassVar[dict[str, str]] = {}
    extends_backbone: ClassVar[bool] = False
    joins_with: Literal["means", "classifier", "training"] = "means"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    starts: ClassVar[dict[str, dict[str, Any]]] = {}
    test_only: ClassVar[tuple[str, ...]] = ()

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

    @property
    def class_tasks(self) -> ClassTasks | None:
        """What it learns each tested class from; None, as of every few-shot method, for nothing.

        With it a row has pairs and triplets only, and is marked ``labelled novel images``.
        """
        return None

    def start_from(self, pretrained: PretrainedClassifier) -> None:
        """Take over what `pretraining` asked for; called before training, and before it resumes."""
        self.backbone.load_state_dict(pretrained.backbone.state_dict(), strict=not self.extends_backbone)

    def next_classes(self) -> Tensor | None:
        """Base classes ``[E, way]`` that coming training episodes should have; None lets chance decide.

        Asked for each step's `Episodes` just before they are handed over.
        """
        return None

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

    def learn_class(self, batches: Iterable[TripletBatch]) -> Callable[[Tensor], Tensor]:
        """Learn one class, which `class_tasks` asked for.

        The harness calls it in evaluation mode, with gradients enabled. It leaves the method as it was.

        Args:
            batches: anchors and positives are of the class, negatives of other base classes.

        Returns:
            A function from images ``[N, 3, H, W]`` to embeddings ``[N, D]``, which `similarity` compares
            where the first image is of the class.
        """
        raise NotImplementedError

    def joint_logits(self, base: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Score queries against all base classes and some new ones jointly.

        Args:
            base: ``[B, D]``, mean embedding of each base class's training images; ``[0, D]`` for a method
                that `joins_with` a classifier of its own.
            support: ``[new, shot, D]`` embeddings of the new classes; `new` may be 0.
            query: ``[Q, D]``.

        Returns:
            ``[Q, B + new]``.
        """
        raise NotImplementedError

    def join(self, support: Tensor, base: Callable[[int], LabelledBatch]) -> nn.Module:
        """A network that tells all base classes and some new ones apart; the method stays as it was.

        The harness calls it in evaluation mode, with gradients enabled, and saves those weights of the
        network that are not the method's own.

        Args:
            support: ``[new, shot, 3, H, W]`` images of the new classes; `new` may be 0.
            base: hands over so many base training images, drawn at random, and prepared like `support`:
                not cropped, not flipped.

        Returns:
            A network in evaluation mode from images ``[Q, 3, H, W]`` to logits ``[Q, B + new]``.
        """
        raise NotImplementedError

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Score pairs of embeddings ``[N, D]``, ``[N, D]`` -> ``[N]``; larger means more alike."""
        raise NotImplementedError

    def log_loss(self, loss: Tensor) -> Tensor:
        """Log the training loss under its common name, and hand it back."""
        if self._trainer is not None:
            self.log("train/loss", loss.detach(), prog_bar=True)
        return loss


def class_means(support: Tensor) -> Tensor:
    """Prototypes, Snell et al. 2017, eq. 1: mean over shots, ``[E, way, shot, D]`` -> ``[E, way, D]``."""
    return support.float().mean(dim=2)


def mirror_averaged(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of the features of each image and of its mirror image, ``[N, 3, H, W] -> [N, D]``, float32."""
    return (features(images).float() + features(images.flip(-1)).float()) / 2
