"""Prepares a run and makes all checks before training."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from bench.common import clock, environment
from bench.common.clock import NOTHING
from bench.common.errors import UserError
from bench.common.files import check_output, check_writable
from bench.config.run_config import RunConfig, as_trained, method_info
from bench.data.images import ImageSet
from bench.data.names import DEFAULT_IMAGE_SIZE, data_set
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation.learned_classes import check_enough
from bench.evaluation.measurements import Measurements
from bench.evaluation.settings import can_choose
from bench.run import pretraining
from bench.run.devices import check_devices
from bench.run.failures import method_errors
from bench.run.materials import Materials, need_normaliser, split_of
from bench.run.measurable import measured
from bench.run.models import PRETRAINING
from bench.run.plan import Options, Prepared
from bench.run.run_id import identify
from bench.run.weights import digest, starting_weights
from bench.sampling.episodes import ClassPool
from bench.training.batches import check_fit
from methods import backbones, registry
from methods.abilities import class_tasks
from methods.base_classifier import BaseClassifier
from methods.method import Method
from methods.method_info import MethodInfo
from methods.timm_backbone import hub
from methods.weight_files import load_weights

SOME_CLASSES = 64
"""Number of classes for a method that is built only to read its attributes."""

MethodT = TypeVar("MethodT", bound=Method)


def prepare(
    config: RunConfig,
    options: Options,
    materials: Materials | None = None,
    normalise: Normaliser | None = None,
) -> Prepared:
    """Make all checks that are possible before training; writes only timm's weights, at their first use.

    Args:
        config, options: of the run.
        materials: of the grid that contains the run.
        normalise: of weights from elsewhere, where it is known; by default that of the base training images.

    Raises:
        UserError: a check failed; names the flag.
    """
    before = clock.now()
    check_writable(options.results, "--results")
    check_writable(options.runs, "--runs")
    device = environment.pick_device(options.device)
    precision = environment.pick_precision(config.precision, device)
    weights_sha256 = digest(config.weights)
    info = method_info(config.method)
    method_class = registry.load(info)

    config = _at_own_size(config, method_class, options)
    started = time.perf_counter()
    materials = materials or Materials(options)
    data = materials.images(config)
    split, of_base = materials.parts(config)
    data_s = time.perf_counter() - started
    if config.pretrained:  # only now, because it may download them
        weights_sha256 = digest(starting_weights(config, options))

    torch.manual_seed(config.seed)
    backbone = _backbone(config, options, data.images.shape[-1])
    _check_takes(backbone, data, config)
    with method_errors(config.method):
        hp = method_class.Hyperparameters(**config.hyperparameters)
        method = _built(method_class, hp, config.method, backbone, len(split.base), options.offline)
        small = ""
        try:
            if config.train and method.training_steps:
                small = check_fit(method.batches(), _pool(data, split.train))
            if tasks := class_tasks(method):
                split = split_of(config, data, labelled_novel=True)
                check_enough(tasks, data, split)
        except ValueError as error:
            raise UserError("--method", config.method, str(error)) from None
    said = [small] if small else []
    learns = config.train and (method.training_steps or method.pretraining)
    if learns and not can_choose(_pool(data, split.validation_images)):
        said.append("choice of the training step (too few validation images: the last step is kept)")
    if wanted := getattr(backbone, "normalisation", None):
        normalise = Normaliser.of_weights(*wanted)
    normalise = need_normaliser(normalise or of_base, "--split", config.split, "timm's weights")
    method.to(memory_format=torch.channels_last)
    prepared = assembled(
        config, data, split, method, normalise, device, precision, weights_sha256, data_s, said
    )
    for ending in ("npz", "json"):
        check_output(options.results / f"{prepared.run_id}.{ending}", "--results")
    check_writable(options.runs / prepared.run_id, "--runs")
    base = as_trained(config)
    if config.train and method.training_steps and base.hyperparameters != config.hyperparameters:
        prepared = _started(prepared, info, _same_training(prepared, base, info, method_class, options))
    else:
        prepared = _from_classifier(prepared, info, options)
    check_devices(prepared, options.device, options.devices)
    return replace(prepared, spent=clock.now() - before)


def assembled(
    config: RunConfig,
    data: ImageSet,
    split: Split,
    method: Method,
    normalise: Normaliser,
    device: torch.device,
    precision: str,
    weights_sha256: str | None,
    data_s: float,
    said: Sequence[str] = (),
) -> Prepared:
    """A run of these parts, with what it measures and its name; `said`: what else is left out."""
    plan, left_out = measured(config, split, data, method)
    return Prepared(
        config=config,
        identity=identify(config, method_info(config.method), data, split, weights_sha256),
        data=data,
        split=split,
        method=method,
        normalise=normalise,
        plan=plan,
        left_out=[*left_out, *said],
        device=device,
        precision=precision,
        data_s=data_s,
        spent=NOTHING,
        weights_sha256=weights_sha256,
        start=None,
        git=environment.git_state(),  # now, because the checkout may change while the run trains
    )


def _from_classifier(run: Prepared, info: MethodInfo, options: Options) -> Prepared:
    """The run with its pretraining, the classifier of the base classes, if it starts from one."""
    if not (run.config.train and (wanted := run.method.pretraining)):
        return run
    config = pretraining.configured(run.config, wanted)
    return _started(run, info, _stage(run, config, PRETRAINING, BaseClassifier, wanted, options))


def _same_training(
    run: Prepared, config: RunConfig, info: MethodInfo, method_class: type[Method], options: Options
) -> Prepared:
    """The run of `config`, which differs from `run` only in test-only hyperparameters."""
    with method_errors(run.config.method):
        hp = method_class.Hyperparameters(**config.hyperparameters)
        stage = _stage(run, config, info, method_class, hp, options)
    own, shared = ({k: v.shape for k, v in one.method.state_dict().items()} for one in (run, stage))
    if own != shared:
        problem = f"its weights depend on test_only hyperparameters: {', '.join(info.test_only)}"
        raise UserError("--method", run.config.method, problem)
    return _from_classifier(stage, info, options)


def _started(run: Prepared, info: MethodInfo, start: Prepared) -> Prepared:
    identity = identify(run.config, info, run.data, run.split, run.weights_sha256, start.identity)
    return replace(run, start=start, identity=identity)


def _stage(
    run: Prepared, config: RunConfig, info: MethodInfo, method_class: type[Method], hp: Any, options: Options
) -> Prepared:
    """A shared training, prepared like a run but not evaluated."""
    torch.manual_seed(config.seed)
    backbone = _backbone(config, options, run.data.images.shape[-1])
    method = _built(method_class, hp, run.config.method, backbone, len(run.split.base), options.offline)
    method.to(memory_format=torch.channels_last)
    identity = identify(config, info, run.data, run.split, run.weights_sha256)
    nothing = Measurements({}, [], [], [])
    return replace(
        run, config=config, identity=identity, method=method, start=None, plan=nothing, left_out=[]
    )


def _at_own_size(config: RunConfig, method_class: type[Method], options: Options) -> RunConfig:
    """The configuration with the backbone's image size, unless the user has chosen one.

    The method can change its backbone (timm's weights, another stem) and so this size, so both are built here
    to read it. They are built again when the number of base classes is known.
    """
    largest = data_set(config.dataset).largest_size
    if config.image_size is not None or largest is None or not config.backbone.startswith("timm:"):
        return config
    backbone = _backbone(config, options)
    with method_errors(config.method):
        hp = method_class.Hyperparameters(**config.hyperparameters)
        _built(method_class, hp, config.method, backbone, SOME_CLASSES, options.offline)
    if not (size := getattr(backbone, "size", None)):
        return config
    return config.model_copy(update={"image_size": min(max(size), largest)})


def _built(
    method_class: type[MethodT], hp: Any, name: str, backbone: torch.nn.Module, classes: int, offline: bool
) -> MethodT:
    try:
        with hub(offline):
            return method_class(backbone, hp, classes)
    except ValueError as error:
        raise UserError("--method", name, str(error)) from None


def _backbone(config: RunConfig, options: Options, image_size: int = DEFAULT_IMAGE_SIZE) -> torch.nn.Module:
    """Build the backbone and load its weights."""
    try:
        backbone = backbones.build(config.backbone, image_size)
    except (ValueError, RuntimeError) as error:
        raise UserError("--backbone", config.backbone, str(error)) from None
    if (weights := starting_weights(config, options)) is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about files that are then refused
                load_weights(backbone, weights)
        except ValueError as error:
            raise UserError("--weights", weights, f"{error} ({config.backbone})") from None
    return backbone


def _check_takes(backbone: torch.nn.Module, data: ImageSet, config: RunConfig) -> None:
    """Refuse a backbone that cannot process the data set's images; leaves it in training mode."""
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, *data.images.shape[1:]))
    except (RuntimeError, AssertionError) as error:
        size = "x".join(map(str, data.images.shape[2:]))
        raise UserError("--backbone", config.backbone, f"cannot process images of {size}: {error}") from None
    backbone.train()


def _pool(data: ImageSet, index: torch.Tensor) -> ClassPool:
    return ClassPool(data.labels[index].numpy())
