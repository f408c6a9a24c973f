"""Typed run configuration: defaults < preset < YAML < flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.common.errors import UserError, one_of
from bench.common.files import is_file
from bench.config.backbone import full_backbone
from bench.config.hyperparameters import allowed_text, checked
from bench.config.lists import NONE, OTHER_MEASUREMENTS, augmentations, measurements
from bench.config.pretrained import EXTERNAL, PRETRAINED, settle_pretrained
from bench.data.names import (
    ARROW,
    BASE,
    BASE_AND_VALIDATION,
    DEFAULT_SPLIT,
    IMAGE_SIZES,
    NO_BASE,
    canonical,
    check_dataset,
    check_split,
)
from methods import registry
from methods.method_info import MethodInfo

PRESETS = {
    "smoke": "seconds; for tests, never on the leaderboard",
    "quick": "conv4, 409,600 images; median 17 minutes (9 to 20) on one core",
    "standard": "default; ResNet-12 of width 32, 512,000 images; "
    "30 to 36 minutes in bfloat16, 82 to 83 in 32 bits, on one core",
    "paper": "the paper's hyperparameters and backbone, or the nearest one here; for a GPU",
    "original": "those of the method's student project, where they differ from the paper's; for a GPU",
}
BRIEF = "smoke"
METHOD_FILE = re.compile(r"(?P<path>.+\.py)(:(?P<class_name>\w+))?")
OWN_SETTING = ("way", "shot", "query", "episodes")
QUERY, EPISODES = 15, 10_000  # defaults of --query and --episodes

Positive = Annotated[int, Field(ge=1)]


class RunConfig(BaseModel):
    """Everything that determines a run's numbers, resolved: running it again gives the same numbers.

    Attributes:
        method: a name, or ``path/to/file.py:Class``.
        hyperparameters: all, after preset, YAML and flags.
        overrides: what differs from the preset: hyperparameters, the backbone, and other settings that change
            its numbers or what is measured.
        weights: file of starting weights. pretrained: True to start from timm's own weights instead.
        train: False to evaluate the starting weights without training.
        way, shot, query, episodes: an additional setting; all None for none.
        image_size: side in pixels of images that are resized when loaded.
        augment: names of augmentations of training images, in alphabetical order; None for the usual ones of
            the data set.
        train_on: `BASE_AND_VALIDATION` to train on the validation classes too; None for base classes only.
        measure: names of what is measured, in alphabetical order; None for everything that the preset
            measures. An additional setting is always measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str
    preset: str = "standard"
    dataset: Annotated[str, AfterValidator(canonical)] = "cifar100"
    split: str = DEFAULT_SPLIT
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    backbone: str = ""
    weights: str | None = None
    pretrained: bool = False
    train: bool = True
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)
    image_size: Annotated[int, Field(ge=IMAGE_SIZES.start, le=IMAGE_SIZES[-1])] | None = None
    way: Annotated[int, Field(ge=2)] | None = None
    shot: Positive | None = None
    query: Positive | None = None
    episodes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    augment: list[str] | None = None
    train_on: Literal["base+val"] | None = None
    measure: Annotated[list[str], Field(min_length=1)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def brief(self) -> bool:
        """Whether this is a smoke run: few episodes, no generalized accuracy."""
        return self.preset == BRIEF

    def to_yaml(self) -> str:
        """The configuration as a ``--config`` file."""
        from bench.config.yaml_files import dumped

        return dumped(self.model_dump(exclude={"overrides"}, exclude_none=True))


KEYS = (*(key for key in RunConfig.model_fields if key != "overrides"), "novel_dataset")
"""Keys of a run; `novel_dataset` becomes part of `dataset`."""

FILE_KEYS = (*KEYS, "runs")
"""Keys of a YAML file."""


@cache
def method_info(name: str, flag: str = "--method") -> MethodInfo:
    """Import the method called `name`: from the registry, or ``path/to/file.py[:Class]``.

    Raises:
        UserError: it does not exist or cannot be imported.
    """
    try:
        if file := METHOD_FILE.fullmatch(name):
            path = Path(file["path"])
            if not is_file(path):
                raise UserError(flag, name, "no such file; must be path/to/file.py:Class")
            return registry.describe(path.stem, str(path), file["class_name"] or "")
        if name in registry.places():
            return registry.find(name)
    except ValueError as error:
        raise UserError(flag, name, str(error)) from None
    raise UserError(flag, name, f"{one_of(name, registry.places())}, or path/to/file.py:Class")


def resolve(given: Mapping[str, Any], sources: Mapping[str, str], sets: Mapping[str, str]) -> RunConfig:
    """Merge the given values with the method's preset and defaults, and check every value.

    Args:
        given: values of `RunConfig` fields; None means not given.
        sources: field name -> source of the value for error messages; ``hyperparameters.<name>`` for a
            hyperparameter of the file with another source than the others.
        sets: hyperparameters from ``--set`` (and ``--steps``), as text.

    Raises:
        UserError: a key is unknown or a value is not allowed.
    """
    given = {key: value for key, value in given.items() if value is not None}

    def flag(key: str) -> str:
        return sources.get(key, f"--{key.replace('_', '-')}")

    check_keys(given, KEYS, flag)
    if (novel := given.pop("novel_dataset", None)) is not None:
        check_dataset(str(novel), flag("novel_dataset"))
        given["dataset"] = f"{given.get('dataset', RunConfig.model_fields['dataset'].default)}{ARROW}{novel}"
    if "method" not in given:
        problem = f"is missing; {one_of('', registry.places())}, or path/to/file.py:Class"
        raise UserError(flag("method"), "", problem)
    if not isinstance(given["method"], str):
        raise UserError(flag("method"), given["method"], "must be the name of one method")
    # Checks that do not import torch come first.
    for key, check in (("dataset", check_dataset), ("split", check_split)):
        if isinstance(given.get(key), str):
            check(given[key], flag(key))
    info = method_info(given["method"], flag("method"))

    preset = given.get("preset", RunConfig.model_fields["preset"].default)
    if not isinstance(preset, str) or preset not in info.presets:
        raise UserError(flag("preset"), preset, f"{one_of(preset, info.presets)} (of {info.name})")
    changed = dict(info.presets[preset])
    backbone = changed.pop("backbone", "conv4")
    defaults = {name: parameter.default for name, parameter in info.parameters.items()}
    from_preset = defaults | checked(info, changed, lambda *_: (flag("preset"), preset), strict=True)
    own = _hyperparameters(info, given, sources, sets)
    start = info.starts.get((from_preset | own).get("init", ""), {})
    from_preset |= checked(info, start, lambda name, value: (f"starts of {info.name}", value), strict=True)
    hyperparameters = from_preset | own

    values = {"backbone": backbone} | given | {"preset": preset, "hyperparameters": hyperparameters}
    values["backbone"] = full_backbone(values["backbone"], flag("backbone"))
    if "split" not in values:
        frozen = values.get("train") is False and values["backbone"].startswith("timm:")
        values["split"] = default_split(values.get("dataset", ""), values.get("measure"), frozen)
    if isinstance(values.get(PRETRAINED, False), bool):
        settle_pretrained(info, values, own, sets, flag)
    extra = _own_setting(values, flag)
    if "measure" in values:
        extra["measure"] = measurements(flag("measure"), values["measure"])
    if values.get("train_on") == BASE:
        values["train_on"] = None
    if "augment" in values:
        extra["augment"] = augmentations(flag("augment"), values["augment"], str(values.get("dataset", "")))
    overrides = {key: value for key, value in hyperparameters.items() if value != from_preset[key]}
    if values["backbone"] != backbone:
        overrides["backbone"] = values["backbone"]
    if extra.get("augment") is not None:
        overrides["augment"] = ",".join(extra["augment"]) or NONE
    if values.get("train_on"):
        overrides["train_on"] = values["train_on"]
    if "measure" in extra:
        overrides["measure"] = ",".join(extra["measure"])
    if values.get("precision", usual := RunConfig.model_fields["precision"].default) != usual:
        overrides["precision"] = values["precision"]
    has_weights = values.get("weights") or values[PRETRAINED] or info.has_mark(EXTERNAL, hyperparameters)
    if values.get("train") is False and not has_weights:
        setting = info.marked_when.get(EXTERNAL)
        ways = "--weights FILE" + (f" or --set {setting}" if setting else "")
        raise UserError(flag("train"), "", f"needs trained weights: {ways}")
    if values.get("train_on") not in (None, BASE_AND_VALIDATION):
        allowed = one_of(values["train_on"], (BASE, BASE_AND_VALIDATION))
        raise UserError(flag("train_on"), values["train_on"], allowed)
    try:
        return RunConfig(**(values | extra), overrides=overrides)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(flag(str(first["loc"][0])), first["input"], allowed_text(first)) from None


def default_split(dataset: object, measure: object, frozen: bool) -> str:
    """The split of a run that names none.

    Args:
        dataset, measure: as given, checked or not.
        frozen: nothing is trained, and the encoder brings its normalisation.
    """
    if not str(dataset).startswith("folder:"):
        return DEFAULT_SPLIT
    from bench.data import listing  # needs numpy, which `--help` does not

    found = listing.default_split(str(dataset))
    own_images = found == DEFAULT_SPLIT and ARROW not in str(dataset)
    few_shot = not any(name in str(measure) for name in OTHER_MEASUREMENTS)
    # Nothing is trained, so every class can be tested.
    return NO_BASE if own_images and few_shot and frozen else found


def as_trained(config: RunConfig) -> RunConfig:
    """The configuration with the preset's values of the test-only hyperparameters.

    Runs for which this is equal share the training of the run with this configuration.
    """
    test_only = method_info(config.method).test_only
    given = config.model_dump(exclude={"overrides"}, exclude_none=True)
    kept = {name: value for name, value in config.hyperparameters.items() if name not in test_only}
    return resolve(given | {"hyperparameters": kept}, {}, {})


def check_keys(given: Iterable[str], allowed: Iterable[str], flag: Callable[[str], str]) -> None:
    """Refuse unknown keys.

    Raises:
        UserError: names ``flag(key)`` of the first unknown key.
    """
    allowed = tuple(allowed)
    for key in given:
        if key not in allowed:
            hint = "hyperparameters go under `hyperparameters:`"
            raise UserError(flag(key), "", f"no such key; {one_of(key, allowed)}; {hint}")


def _hyperparameters(
    info: MethodInfo, given: Mapping[str, Any], sources: Mapping[str, str], sets: Mapping[str, str]
) -> dict[str, Any]:
    """Hyperparameters of the YAML file, overridden by those of the flags."""
    where = sources.get("hyperparameters", "hyperparameters")
    from_file = given.get("hyperparameters", {})
    if not isinstance(from_file, dict):
        raise UserError(where, from_file, "must be a map from name to value")

    def in_file(name: str, value: Any) -> tuple[str, str]:
        return sources.get(f"hyperparameters.{name}", f"{where}.{name}"), value

    def in_flags(name: str, value: Any) -> tuple[str, str]:
        by_steps = name == "steps" and "steps" in sources
        return (sources["steps"], value) if by_steps else ("--set", f"{name}={value}")

    return checked(info, from_file, in_file, strict=True) | checked(info, sets, in_flags, strict=False)


def _own_setting(values: Mapping[str, Any], flag: Any) -> dict[str, Any]:
    """Default values of an additional few-shot setting that were not given."""
    if not any(key in values for key in OWN_SETTING):
        return {}
    for key in ("way", "shot"):
        if key not in values:
            raise UserError(flag(key), "", "is missing; an additional setting needs --way and --shot")
    return {"query": values.get("query", QUERY), "episodes": values.get("episodes", EPISODES)}
