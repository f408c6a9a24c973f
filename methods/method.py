"""What a method is: the contract between an algorithm and the harness.

A method is one `LightningModule` in one file. It sees only the tensors it is handed; where they come
from, on which device and in which precision, is the harness's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from methods.starts import PRETRAINED_SHARE

if TYPE_CHECKING:
    from methods.base_classifier import BaseClassifier


@dataclass(frozen=True)
class Shuffled:
    """Ask for batches of `images` base training images drawn without replacement, epoch by epoch."""

    images: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.images


@dataclass(frozen=True)
class Balanced:
    """Ask for batches of `classes` x `images` base training images, grouped by class."""

    classes: int
    images: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.classes * self.images


@dataclass(frozen=True)
class Pairs:
    """Ask for `pairs` image pairs, half of one class and half of two."""

    pairs: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return 2 * self.pairs


@dataclass(frozen=True)
class Triplets:
    """Ask for `triplets` random (anchor, positive, negative) triples."""

    triplets: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return 3 * self.triplets


@dataclass(frozen=True)
class Episodes:
    """Ask for `episodes` N-way K-shot episodes per step, drawn from the base classes."""

    way: int
    shot: int
    query: int
    episodes: int = 1

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.episodes * self.way * (self.shot + self.query)


@dataclass(frozen=True)
class AnchorTasks:
    """Ask for `tasks` tasks per step, each one anchor class against the rest.

    A task comes as `batches` batches to learn it from, each of `triplets` triples of two images of the
    anchor class and one of another class; no image of the anchor class is in a batch twice.
    """

    tasks: int
    batches: int
    triplets: int

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.tasks * self.batches * 3 * self.triplets


@dataclass(frozen=True)
class ClassTasks:
    """Ask to learn each tested class first, from all of its labelled training images, novel or not.

    The task is like one of `AnchorTasks`: two images of the class and one of another base class. It comes as
    `batches` batches of `triplets` triples.

    Attributes:
        threshold: similarity from which two images are called the same; validation knows of no network that
            has learned a class.
    """

    batches: int
    triplets: int
    threshold: float


Batches = Shuffled | Balanced | Pairs | Triplets | Episodes | AnchorTasks

PretrainingSchedule = Literal["one_cycle", "simpleshot", "rfs", "mtl", "constant"]


@dataclass(frozen=True)
class Pretraining:
    """Ask to start from a classifier of the base classes (`methods.base_classifier`).

    The harness trains it once for all runs that ask for the same on the same data, split and image size, with
    the same seed, backbone, starting weights and precision.

    Attributes:
        steps: of its training, one batch each. images: in a batch.
        head, scale: of the classifier; `scale` multiplies the cosines of a cosine head.
        schedule: of the learning rate, whose peak is `learning_rate` (see `configure_classifier`).
        weight_decay: of matrices and filters.
        pretrained, small_stem: see `base_classifier.prepare_backbone`.
    """

    steps: int
    images: int = 128
    head: Literal["linear", "cosine"] = "cosine"
    scale: float = 16.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: PretrainingSchedule = "one_cycle"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    pretrained: bool = False
    small_stem: bool = False


class LabelledBatch(NamedTuple):
    """A batch of `Shuffled` or `Balanced` images.

    Attributes:
        images: float ``[N, 3, H, W]``, augmented and normalised.
        labels: int64 ``[N]``, base class indices ``0..B-1``.
    """

    images: Tensor
    labels: Tensor


class PairBatch(NamedTuple):
    """A batch of `Pairs`: images ``a`` and ``b`` ``[N, 3, H, W]``; ``same`` float ``[N]`` of 0 and 1."""

    a: Tensor
    b: Tensor
    same: Tensor


class TripletBatch(NamedTuple):
    """A batch of `Triplets` or `ClassTasks`: three float ``[N, 3, H, W]`` tensors."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class EpisodeBatch(NamedTuple):
    """A batch of `Episodes`.

    Attributes:
        support: float ``[E, way, shot, 3, H, W]``.
        query: float ``[E, Q, 3, H, W]`` in random class order.
        labels: int64 ``[E, Q]`` in ``0..way-1``.
        classes: int64 ``[E, way]``, base class indices ``0..B-1`` in the episode's order.
    """

    support: Tensor
    query: Tensor
    labels: Tensor
    classes: Tensor


class TaskBatch(NamedTuple):
    """A batch of `AnchorTasks`: three float ``[tasks, batches, triplets, 3, H, W]`` tensors."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


class Method(pl.LightningModule):
    """Base class of every method.

    A subclass sets the class attributes below as literals (the harness reads them without importing
    the file), declares a frozen dataclass `Hyperparameters` whose trailing comments become the help,
    and writes `batches`, `training_step`, `configure_optimizers` and the answers it can give. A batch is
    one training step, and takes one optimizer step. What depends on hyperparameters (`fixed_embedding`,
    `transductive`, `external_data`, `order_dependent`, `joins_with`) may be set on the instance;
    `marked_when` says which one brings ``transductive``, ``external data`` or ``labelled novel images``.

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

    `named_by` says which hyperparameters the name of a row always shows, since the paper leaves them open.

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
    named_by: ClassVar[tuple[str, ...]] = ()

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

    def start_from(self, pretrained: BaseClassifier) -> None:
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


def flatten_images(support: Tensor, query: Tensor) -> Tensor:
    """All images of a batch of episodes in one ``[E * (way * shot + Q), 3, H, W]`` tensor."""
    return torch.cat([support.flatten(0, 2), query.flatten(0, 1)])


def mirror_averaged(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of the features of each image and of its mirror image, ``[N, 3, H, W] -> [N, D]``, float32."""
    return (features(images).float() + features(images.flip(-1)).float()) / 2
