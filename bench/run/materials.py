"""Images, splits and normalisers of runs; the runs of a grid share them."""

from __future__ import annotations

from collections.abc import Callable

from bench.common.errors import UserError
from bench.common.progress import shown
from bench.config.run_config import RunConfig
from bench.data import sources
from bench.data.images import ImageSet
from bench.data.names import NO_BASE
from bench.data.normalisation import Normaliser
from bench.data.splits import Split, resolve, subsampled, with_labelled_novel
from bench.run.plan import Options
from methods import backbones

BRIEF_IMAGES = 20
"""Images per class that a smoke run evaluates."""


def split_of(config: RunConfig, data: ImageSet, labelled_novel: bool = False) -> Split:
    """The classes and images of each part, as the run uses them.

    Args:
        config, data: of the run.
        labelled_novel: for a method with `class_tasks`: set aside images of novel classes to learn from.

    Raises:
        UserError: the split does not fit the data set.
        ValueError: there are no images for `labelled_novel`.
    """
    split = resolve(data, config.split, train_on=config.train_on)
    if labelled_novel:
        split = with_labelled_novel(data, split)
    if not len(split.train) and (config.train or split.name != NO_BASE):
        raise UserError("--split", config.split, "leaves no training images of base classes")
    if not config.brief:
        return split
    # Embedding all images of 90 novel classes would take most of the time.
    return subsampled(data, split, max(BRIEF_IMAGES, (config.shot or 0) + (config.query or 0)))


def need_normaliser(found: Normaliser | None, flag: str, split: str, otherwise: str) -> Normaliser:
    """Refuse a split without images to normalise with.

    Args:
        found: the normaliser, if there is one.
        flag, split: for the message. otherwise: what else would give one.

    Raises:
        UserError: there is none.
    """
    if found is None:
        problem = "leaves no training images of base classes to normalise with; allowed with"
        raise UserError(flag, split, f"{problem} {otherwise}")
    return found


class Materials:
    """Opens each data set once, and divides it once for each split.

    Args:
        options: where data sets lie.
        divide: gives the classes and images of each part.
    """

    def __init__(self, options: Options, divide: Callable[[RunConfig, ImageSet], Split] = split_of) -> None:
        self.options, self.divide = options, divide
        self._images: dict[tuple, ImageSet | UserError] = {}
        self._splits: dict[tuple, tuple[Split, Normaliser | None]] = {}

    def images(self, config: RunConfig) -> ImageSet:
        """The data set of a run.

        Raises:
            UserError: it cannot be loaded.
        """
        interpolation = backbones.interpolation(config.backbone, config.image_size)
        key = (config.dataset, config.image_size, interpolation)
        if key not in self._images:
            try:
                with shown() as progress:
                    self._images[key] = sources.load(
                        config.dataset,
                        self.options.data_root,
                        image_size=config.image_size,
                        interpolation=interpolation,
                        offline=self.options.offline,
                        progress=progress,
                    )
            except UserError as error:
                self._images[key] = error
        found = self._images[key]
        if isinstance(found, UserError):
            raise found
        return found

    def parts(self, config: RunConfig) -> tuple[Split, Normaliser | None]:
        """The split of a run, and the normaliser of its base training images; None if it has none.

        Raises:
            UserError: the split does not fit the data set.
        """
        data = self.images(config)
        brief = (config.shot, config.query) if config.brief else None
        key = (data.fingerprint, config.split, config.train_on, config.train, brief)
        if key not in self._splits:
            split = self.divide(config, data)
            self._splits[key] = split, Normaliser(data.images, split.train) if len(split.train) else None
        return self._splits[key]
