"""Everything about a run that comes before training, and every check of it."""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench import environment, pretraining
from bench.batches import Normaliser
from bench.config import RunConfig, method_info
from bench.data import sources
from bench.data.images import ImageSet
from bench.data.splits import Split, resolve, thinned, with_labelled_novel
from bench.episodes import ClassPool, Setting
from bench.errors import UserError, one_of
from bench.evaluation import generalized
from bench.evaluation.learned_classes import check_enough
from bench.evaluation.protocol import BESIDE_SETTINGS, can_verify, does_not_fit, standard_settings
from bench.failures import blamed
from bench.files import check_writable
from bench.identity import Identity, identify
from bench.models import PRETRAINING
from bench.progress import shown
from methods import backbones, registry
from methods.base_classifier import BaseClassifier
from methods.method import (
    AnchorTasks,
    Balanced,
    Batches,
    Episodes,
    Method,
    Pairs,
    Pretraining,
    Triplets,
)
from methods.timm_backbone import hub

BRIEF_IMAGES = 25
"""Per class, of those that a run that only tests the plumbing evaluates."""
KNOWS_NOVEL = "learns from labelled images of the novel classes"
"""Why a method with `class_tasks` has no few-shot numbers."""
SOME_CLASSES = 64
"""For a method that is only asked what it wants."""

MethodT = TypeVar("MethodT", bound=Method)


@dataclass(frozen=True)
class Options:
    """Where things are and go; none of it changes a number.

    Attributes:
        results: folder of records. runs: folder of checkpoints, logs and resolved configurations.
        data_root: where data sets lie. device: as ``--device`` names it.
        overwrite: run again what is recorded. offline: no download.
        command: recorded as the command that made the run.
    """

    results: Path
    runs: Path
    command: str
    data_root: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that has passed every check that needs no training.

    Attributes:
        pretraining: what it starts from, if that is a classifier of the base classes.
    """

    config: RunConfig
    identity: Identity
    data: ImageSet
    split: Split
    method: Method
    normalise: Normaliser
    settings: list[Setting]
    measured: list[str]
    left_out: list[str]
    device: torch.device
    precision: str
    data_s: float
    weights_sha256: str | None
    pretraining: Prepared | None
    git: tuple[str | None, bool | None]

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.identity.run_id


def prepare(config: RunConfig, options: Options) -> Prepared:
    """Everything that can go wrong before training goes wrong here, and nothing is written.

    Raises:
        UserError: naming the flag.
    """
    check_writable(options.results, "--results")
    check_writable(options.runs, "--runs")
    device = environment.pick_device(options.device)
    precision = environment.pick_precision(config.precision, device)
    weights_sha256 = _weights_sha256(config.weights)
    info = method_info(config.method)
    try:
        method_class = registry.load(info)
    except ValueError as error:
        raise UserError("--method", config.method, str(error)) from None

    config = _at_own_size(config, method_class, options.offline)
    started = time.perf_counter()
    with shown() as progress:
        data = sources.load(
            config.dataset,
            options.data_root,
            image_size=config.image_size,
            interpolation=backbones.interpolation(config.backbone, config.image_size),
            offline=options.offline,
            progress=progress,
        )
    split = split_of(config, data)
    normalise = Normaliser(data.images, split.train)
    data_s = time.perf_counter() - started

    torch.manual_seed(config.seed)
    backbone = _backbone(config, data.images.shape[-1])
    _check_takes(backbone, data, config)
    with blamed(config.method):
        hp = method_class.Hyperparameters(**config.hyperparameters)
        method = _built(method_class, hp, config.method, backbone, len(split.base), options.offline)
        try:
            if config.train and method.training_steps:
                _check_batches(method.batches(), ClassPool(data.labels[split.train].numpy()))
            if method.class_tasks:
                split = split_of(config, data, labelled_novel=True)
                check_enough(method.class_tasks, data, split)
        except ValueError as error:
            raise UserError("--method", config.method, str(error)) from None
    if wanted := getattr(backbone, "normalisation", None):
        normalise = Normaliser.of_weights(*wanted)
    settings, measured, left_out = _measured(config, split, data, method)
    method.to(memory_format=torch.channels_last)
    prepared = Prepared(
        config=config,
        identity=identify(config, info, data, split, weights_sha256),
        data=data,
        split=split,
        method=method,
        normalise=normalise,
        settings=settings,
        measured=measured,
        left_out=left_out,
        device=device,
        precision=precision,
        data_s=data_s,
        weights_sha256=weights_sha256,
        pretraining=None,
        git=environment.git_state(),  # now, because the checkout may change while the run trains
    )
    if not (config.train and method.pretraining):
        return prepared
    stage = _pretraining(prepared, method.pretraining, options.offline)
    identity = identify(config, info, data, split, weights_sha256, stage.identity)
    return replace(prepared, pretraining=stage, identity=identity)


def _pretraining(run: Prepared, wanted: Pretraining, offline: bool) -> Prepared:
    """What the run starts from, to be trained like a run; nothing is measured of it."""
    config, data, split = pretraining.configured(run.config, wanted), run.data, run.split
    torch.manual_seed(config.seed)
    backbone = _backbone(config, data.images.shape[-1])
    classifier = _built(BaseClassifier, wanted, run.config.method, backbone, len(split.base), offline)
    classifier.to(memory_format=torch.channels_last)
    identity = identify(config, PRETRAINING, data, split, run.weights_sha256)
    return replace(
        run, config=config, identity=identity, method=classifier, settings=[], measured=[], left_out=[]
    )


def split_of(config: RunConfig, data: ImageSet, labelled_novel: bool = False) -> Split:
    """The classes and images of each part, as the run uses them.

    Args:
        config, data: of the run.
        labelled_novel: for a method with `class_tasks`: some images of novel classes are there to learn from.

    Raises:
        UserError: the split does not fit the data set.
        ValueError: there are no such images.
    """
    split = resolve(data, config.split)
    if labelled_novel:
        split = with_labelled_novel(data, split)
    if not len(split.train):
        raise UserError("--split", config.split, "leaves no image of a base class to train on")
    if not config.brief:
        return split
    # Embedding every image of 90 novel classes would take most of the time.
    return thinned(data, split, max(BRIEF_IMAGES, (config.shot or 0) + (config.query or 0)))


def _at_own_size(config: RunConfig, method_class: type[Method], offline: bool) -> RunConfig:
    """The configuration with the image size that the backbone wants, where the user has chosen none.

    What the method makes of its backbone (timm's own weights, another stem) decides that size, so both are
    built to be asked; the run's own follow when the number of base classes is known.
    """
    largest = sources.RESIZED.get(config.dataset.partition(":")[0])
    if config.image_size is not None or largest is None or not config.backbone.startswith("timm:"):
        return config
    backbone = _backbone(config)
    with blamed(config.method):
        hp = method_class.Hyperparameters(**config.hyperparameters)
        _built(method_class, hp, config.method, backbone, SOME_CLASSES, offline)
    if not (size := getattr(backbone, "size", None)):
        return config
    return config.model_copy(update={"image_size": min(max(size), largest)})


def _built(
    method_class: type[MethodT], hp: Any, name: str, backbone: torch.nn.Module, classes: int, offline: bool
) -> MethodT:
    try:
        with hub(offline=True) if offline else nullcontext():
            return method_class(backbone, hp, classes)
    except ValueError as error:
        raise UserError("--method", name, str(error)) from None


def _backbone(config: RunConfig, image_size: int = sources.DEFAULT_IMAGE_SIZE) -> torch.nn.Module:
    """Build it and load its weights."""
    try:
        backbone = backbones.build(config.backbone, image_size)
    except (ValueError, RuntimeError) as error:
        raise UserError("--backbone", config.backbone, str(error)) from None
    if config.weights is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's remarks on files that are then refused
                backbones.load_weights(backbone, config.weights)
        except ValueError as error:
            raise UserError("--weights", config.weights, f"{error} ({config.backbone})") from None
    return backbone


def _check_takes(backbone: torch.nn.Module, data: ImageSet, config: RunConfig) -> None:
    """Refuse a backbone that cannot take the data set's images; leaves it in training mode."""
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, *data.images.shape[1:]))
    except (RuntimeError, AssertionError) as error:
        size = "x".join(map(str, data.images.shape[2:]))
        raise UserError("--backbone", config.backbone, f"takes no images of {size}: {error}") from None
    backbone.train()


def _measured(
    config: RunConfig, split: Split, data: ImageSet, method: Method
) -> tuple[list[Setting], list[str], list[str]]:
    """The few-shot settings that will run, all that will be measured, and what cannot be and why.

    Raises:
        UserError: the user's own setting does not fit, or nothing is left to measure.
    """
    pools = {
        part: ClassPool(data.labels[index].numpy())
        for part, index in (
            ("validation", split.validation_images),
            ("base", split.base_test),
            ("novel", split.novel_images),
        )
    }
    settings, left_out = [], []
    few_shot = method.class_tasks is None
    standard = standard_settings(split.name, method.fixed_embedding, method.transductive, config.brief)
    own = _own_setting(config)
    wanted = _wanted(config, [setting.name for setting in (*standard, *own)])
    for setting in standard if split.novel else ():
        if setting.name not in wanted:
            continue
        if not few_shot:
            left_out.append(f"{setting.name} ({KNOWS_NOVEL})")
        elif problem := does_not_fit(setting, pools["novel"]):
            left_out.append(f"{setting.name} ({problem})")
        else:
            settings.append(setting)
    for setting in own:
        if not few_shot:
            raise UserError("--way", setting.way, f"no few-shot setting: {config.method} {KNOWS_NOVEL}")
        if problem := does_not_fit(setting, pools["novel"]):
            given, _, allowed = problem.partition(": ")
            raise UserError(re.sub(r"\b(?=way|shot|query)", "--", given), "", allowed)
        settings = [*(other for other in settings if other.name != setting.name), setting]
    measured = [setting.name for setting in settings]
    verified = [name for name in ("pairs", "triplets") if name in wanted]
    if verified and few_shot and not can_verify(pools["validation"]):
        left_out.append(f"{' and '.join(verified)} (too few validation images to find a threshold on)")
    elif can_verify(pools["base"]) or can_verify(pools["novel"]):
        measured = [*verified, *measured]
    if split.novel and "generalized" in wanted and not few_shot:
        left_out.append(f"generalized accuracy ({KNOWS_NOVEL})")
    elif split.novel and "generalized" in wanted:
        shots, missing = generalized.plan(method, pools["base"], pools["novel"])
        measured += ["generalized"] if shots else []
        left_out += missing
    if not measured:
        if not left_out:  # there are no novel classes, and nothing else was asked for
            allowed = "has no novel classes; allowed: pairs, triplets"
            raise UserError("--measure", ",".join(wanted), f"{config.split} {allowed}")
        raise UserError("--split", config.split, f"leaves nothing to measure: no {'; no '.join(left_out)}")
    return settings, measured, left_out


def _own_setting(config: RunConfig) -> list[Setting]:
    if config.way and config.shot and config.query and config.episodes:
        return [Setting(config.way, config.shot, config.query, config.episodes)]
    return []


def _wanted(config: RunConfig, settings: list[str]) -> list[str]:
    """Names of what is to be measured, if the classes allow it."""
    known = [*settings, *BESIDE_SETTINGS]
    if config.measure is None:
        return [name for name in known if name != "generalized" or not config.brief]
    for name in config.measure:
        if name not in known:
            raise UserError("--measure", name, one_of(name, known))
    return config.measure


def _check_batches(spec: Batches, pool: ClassPool) -> None:
    """Refuse training batches that the base classes cannot fill."""
    match spec:
        case Balanced(classes, images):
            way, needed = classes, images + 1
        case Episodes(classes, shot, query):
            way, needed = classes, shot + query
        case AnchorTasks(_, _, triplets):
            way, needed = 2, 2 * triplets
        case Pairs() | Triplets():
            way, needed = 2, 2
        case _:
            way, needed = 1, 1
    if way > len(pool.classes):
        raise ValueError(f"trains on {way} classes at a time; there are {len(pool.classes)} base classes")
    if needed > pool.smallest:
        raise ValueError(
            f"needs {needed} training images a class; the smallest base class has {pool.smallest}"
        )


def _weights_sha256(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: no file has a name with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise UserError("--weights", path, f"cannot be read: {reason}") from None
