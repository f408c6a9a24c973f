"""`rank`: which runs tell what suits the classes of a folder, and their records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.common import environment
from bench.common.errors import UserError, one_line
from bench.common.progress import shown
from bench.config.run_config import RunConfig, resolve
from bench.data import inspect, sources
from bench.data.images import ImageSet
from bench.data.names import GIVEN, NO_BASE
from bench.data.normalisation import Normaliser
from bench.data.photos import LEAST, listed
from bench.data.splits import resolve as split_as
from bench.records import store
from bench.records.schema import MODEL_FILE, Record
from bench.run import models, runner, weights
from bench.run.materials import Materials
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from bench.run.rehearsal import rehearse
from bench.sampling.episodes import Setting
from methods.registry import FIRST_CHOICES, OF_FEATURES

SHIPPED = "embedding of characters (frozen)"
FEWEST_CLASSES = 5  # base classes to train on, and novel classes to test on
FEWEST_IMAGES = 10  # per class, on average, to train on


@dataclass(frozen=True)
class Plan:
    """The runs of a ranking, checked; nothing is trained yet.

    Attributes:
        about: a paragraph about the folder and the candidates.
        runs: name of a candidate -> its run.
        left_out: candidates that cannot run, and why, one line each.
        to_train: candidates that will be trained now.
    """

    about: str
    runs: dict[str, Prepared]
    left_out: list[str]
    to_train: list[str]


def plan(
    folder: str,
    methods: Sequence[str],
    backbones: Sequence[str] | None,
    shipped: Path,
    options: Options,
    preset: str = "quick",
    seed: int = 0,
    weights_file: str | None = None,
) -> Plan:
    """Look at the folder, and prepare a run of each candidate.

    Args:
        folder: of images, as in ``--dataset folder:PATH``.
        methods: to train; empty for `FIRST_CHOICES`.
        backbones: of timm, with its weights: their names, ``timm:NAME``; None for those whose weights are
            among the runs.
        shipped: folder of the model that the package ships.
        options: of the runs.
        preset, seed: as in ``run``.
        weights_file: weights of the one backbone, instead of timm's.

    Raises:
        UserError: a value is wrong, or the folder has too few images for any candidate.
    """
    data, files = _images(folder, options)
    split = _split_for(data)
    if methods and split == NO_BASE:
        raise UserError("--method", ",".join(methods), f"cannot be trained: {_needed(data)}")
    common: dict[str, Any] = {"dataset": f"folder:{folder}", "preset": preset, "seed": seed, "split": split}
    names = () if split == NO_BASE else methods or FIRST_CHOICES
    trained = {name: resolve(common | {"method": name}, {}, {}) for name in names}
    materials = Materials(options)
    runs: dict[str, Prepared] = {}
    problems: dict[str, UserError] = {}
    frozen_ones = []
    for name in weights.at_hand(options.runs) if backbones is None else backbones:
        try:
            if weights_file is None:
                weights.of_timm(name, options)
            frozen_ones.append(name)
        except ValueError as error:
            problems[name] = UserError("--backbone", name, str(error))

    def add(name: str, config: RunConfig, normalise: Normaliser | None = None) -> None:
        try:
            made = prepare(config, options, materials, normalise)
            if not made.plan.settings:
                raise UserError(
                    "--method", name, f"has no few-shot episodes here: {'; '.join(made.left_out)}"
                )
            if runner.is_rehearsed(made, options):
                rehearse(made)
            runs[name] = made
        except UserError as error:
            if name in methods or error.flag in ("--results", "--runs", "--device", "--weights"):
                raise
            problems[name] = error

    frozen = common | {"method": OF_FEATURES, "train": False}
    card = models.read_card(shipped)
    own = Normaliser.of_pixels(card.pixel_mean, card.pixel_std)
    # Without images of base classes there is nothing else to normalise with.
    config = resolve(frozen | {"backbone": "conv4", "weights": str(shipped / MODEL_FILE)}, {}, {})
    add(SHIPPED, config, own if split == NO_BASE else None)
    for name, config in trained.items():
        add(name, config)
    for name in frozen_ones:
        own_file = {"weights": weights_file} if weights_file else {}
        add(f"{name} (frozen)", resolve(frozen | {"backbone": name} | own_file, {}, {}))
    if not runs:
        raise UserError("FOLDER", folder, next(iter(problems.values())).allowed)
    left_out = [f"{name}: left out: {one_line(error.allowed)}" for name, error in problems.items()]
    about = f"{_about(folder, data, files, next(iter(runs.values())))}\nCandidates: {', '.join(runs)}."
    recorded = {name for name, one in runs.items() if store.find(options.results, one.run_id)}
    new = [name for name in trained if name in runs and (options.overwrite or name not in recorded)]
    return Plan(about, runs, left_out, new)


def carry_out(made: Plan, options: Options) -> Iterator[tuple[str, Record, Path]]:
    """Make the runs that are not recorded: name, record and its path of each, as they finish."""
    environment.keep_freed_memory()
    names = {one.run_id: name for name, one in made.runs.items()}
    for path, record in runner.run_prepared(made.runs.values(), options, datetime.now(UTC)):
        yield names[record.run_id], store.read(path), path  # as written: it names its file of answers


def _images(folder: str, options: Options) -> tuple[ImageSet, Sequence[Path]]:
    try:
        with shown() as progress:
            source = sources.locate(f"folder:{folder}", offline=options.offline, progress=progress)
            data = sources.open_source(source, f"folder:{folder}")
    except UserError as error:
        flag = "FOLDER" if error.flag == "--dataset" else error.flag
        raise UserError(flag, folder, error.allowed) from None
    if (enough := len(data.labels[split_as(data, NO_BASE).novel_images].unique())) < 2:
        needed = "at least 2 classes with two different images each, one to learn from and one to classify"
        raise UserError("FOLDER", folder, f"needs {needed}; it has {enough}")
    return data, source.files


def _split_for(data: ImageSet) -> str:
    """The folder's parts, or the most base classes that leave enough novel ones; `NO_BASE` if too few."""
    if any(data.part):
        return GIVEN
    total = len(data.class_names)
    if len(data) < FEWEST_IMAGES * total:
        return NO_BASE
    for percent in range(90, 0, -10):
        base = round(total * percent / 100)
        # More novel classes than an episode has ways, so that episodes of other classes can be compared.
        if base >= FEWEST_CLASSES and total - base > FEWEST_CLASSES:
            return f"{percent}-{100 - percent}"
    return NO_BASE


def _needed(data: ImageSet) -> str:
    takes = f"at least {2 * FEWEST_CLASSES + 2} classes with {FEWEST_IMAGES} images each on average"
    return f"training needs {takes}; there are {len(data.class_names)} classes and {len(data):,} images"


def _about(folder: str, data: ImageSet, files: Sequence[Path], run: Prepared) -> str:
    """What the folder has, how it is used, and which ways and shots are possible."""
    counts = torch.bincount(data.labels, minlength=len(data.class_names))
    smallest = one_line(data.class_names[int(counts.argmin())])
    found = [f"{data.left_out:,} unreadable"] if data.left_out else []
    found += [remarks] if (remarks := inspect.remarks(data)) else []
    if small := data.left_out_classes:
        what = f"classes with fewer than {LEAST} readable images ({len(small):,} left out)"
        found.append(listed(what, [one_line(name) for name in small]))
    split = run.split
    used = f"Split {split.name}: {len(split.base)} classes are trained on, {len(split.novel)} tested."
    if not split.base:
        used = f"No class is trained on ({_needed(data)}): frozen embeddings only, tested on all classes."
    side = data.images.shape[-1]
    sizes = inspect.sizes_of(files)
    not_possible = ["Not possible:", *(f"  {line}" for line in run.left_out)] if run.left_out else []
    return "\n".join(
        [
            f"{one_line(folder)}: {len(data.class_names)} classes, {len(data):,} images;"
            f" the smallest class, {smallest}, has {int(counts.min())}."
            f" {'; '.join(found) or 'No unreadable or duplicate images'}.",
            f"Images of {sizes} pixels are resized to {side}x{side}; models of timm take their own size.",
            used,
            f"To be measured: {', '.join(run.plan.names)}.",
            *(f"  {_in_words(setting)}" for setting in run.plan.settings),
            *not_possible,
        ]
    )


def _in_words(setting: Setting) -> str:
    """``5w1s: 5 classes at a time; per class, 1 labelled image and 15 others to classify``."""
    classes = f"{setting.way} classes at a time" if setting.way else "all classes at once"
    labelled = f"{setting.shot} labelled image{'s' * (setting.shot > 1)}"
    others = f"{setting.query} other{'s' * (setting.query > 1)}" if setting.query else "all others"
    return f"{setting.name}: {classes}; per class, {labelled} and {others} to classify"
