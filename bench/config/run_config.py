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
from bench.config.hyperparameters import checked, what_is_allowed
from bench.data.names import canonical, check_dataset, check_split
from methods import registry
from methods.backbone_names import BACKBONES
from methods.registry import MethodInfo

PRESETS = {
    "smoke": "seconds; for tests, never on the leaderboard",
    "quick": "conv4; median 9 minutes (5 to 19) at 1 thread",
    "standard": "ResNet-12 of width 32; median 34 minutes (30 to 45) at 1 thread; the default",
    "paper": "the paper's own backbone and hyperparameters; for a GPU",
    "original": "those of the student project that the method is from, where the paper has others; for a GPU",
}
BRIEF = "smoke"
BACKBONE = re.compile(r"conv4|resnet12(-[1-9]\d{0,3})?|resnet(20|32|56)|timm:[\w.-]+")
METHOD_FILE = re.compile(r"(?P<path>.+\.py)(:(?P<class_name>\w+))?")
QUERY, EPISODES = 15, 10_000  # of a setting whose flags leave them out
EXTERNAL = "external data"  # the mark of rows whose weights have seen other images
MEASURES = ("5w1s", "5w5s", "5w10s", "allw1s", "pairs", "triplets", "generalized")
SETTING_NAME = re.compile(r"[1-9]\d*w[1-9]\d*s([1-9]\d*q)?")  # of the user's own

Positive = Annotated[int, Field(ge=1)]


class RunConfig(BaseModel):
    """Everything that decides a run's numbers, resolved: running it again gives the same numbers.

    Attributes:
        method: a name, or ``path/to/file.py:Class``.
        hyperparameters: all of them, after preset, YAML and flags.
        overrides: what differs from the preset: hyperparameters, the backbone, and `measure`.
        weights: file of starting weights; train: False to evaluate them as they are.
        way, shot, query, episodes: one setting more, of the user's own; all None for none.
        image_size: of images that are resized when they are loaded.
        measure: names of what is measured, in alphabetical order; None for all that the preset measures. A
            setting of the user's own is measured in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str
    preset: str = "standard"
    dataset: Annotated[str, AfterValidator(canonical)] = "cifar100"
    split: str = "90-10"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    backbone: str = ""
    weights: str | None = None
    train: bool = True
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    way: Annotated[int, Field(ge=2)] | None = None
    shot: Positive | None = None
    query: Positive | None = None
    episodes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    measure: Annotated[list[str], Field(min_length=1)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def brief(self) -> bool:
        """Whether the run only tests the plumbing: it answers few episodes and joins nothing."""
        return self.preset == BRIEF

    def to_yaml(self) -> str:
        """As `--config` reads it."""
        from bench.config.yaml_files import dumped

        return dumped(self.model_dump(exclude={"overrides"}, exclude_none=True))


KEYS = tuple(key for key in RunConfig.model_fields if key != "overrides")
"""What may be set of a run."""

FILE_KEYS = (*KEYS, "runs")
"""What a YAML file may hold."""


@cache
def method_info(name: str, flag: str = "--method") -> MethodInfo:
    """The method called `name`: one of the registry's, or ``path/to/file.py[:Class]``; imports it.

    Raises:
        UserError: there is none, or it cannot be imported.
    """
    try:
        if file := METHOD_FILE.fullmatch(name):
            path = Path(file["path"])
            if not is_file(path):
                raise UserError(flag, name, "no such file; path/to/file.py:Class")
            return registry.describe(path.stem, str(path), file["class_name"] or "")
        if name in registry.places():
            return registry.find(name)
    except ValueError as error:
        raise UserError(flag, name, str(error)) from None
    raise UserError(flag, name, f"{one_of(name, registry.places())}, or path/to/file.py:Class")


def resolve(given: Mapping[str, Any], sources: Mapping[str, str], sets: Mapping[str, str]) -> RunConfig:
    """Merge what was given with the method's preset and defaults, and check every value.

    Args:
        given: values of `RunConfig` fields; None means not given.
        sources: field name -> how an error message calls where it came from; ``hyperparameters.<name>``
            for a hyperparameter of the file that did not come from where the others did.
        sets: hyperparameters from ``--set`` (and ``--steps``), as text.

    Raises:
        UserError: an unknown key or a value that is not allowed.
    """
    given = {key: value for key, value in given.items() if value is not None}

    def flag(key: str) -> str:
        return sources.get(key, f"--{key.replace('_', '-')}")

    check_keys(given, KEYS, flag)
    if "method" not in given:
        problem = f"is missing; {one_of('', registry.places())}, or path/to/file.py:Class"
        raise UserError(flag("method"), "", problem)
    if not isinstance(given["method"], str):
        raise UserError(flag("method"), given["method"], "must be the name of one method")
    # Mistakes that need no import of torch come first.
    for key, check in (("dataset", check_dataset), ("split", check_split)):
        if isinstance(given.get(key), str):
            check(given[key], flag(key))
    info = method_info(given["method"], flag("method"))

    preset = given.get("preset", "standard")
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
    if not (isinstance(values["backbone"], str) and BACKBONE.fullmatch(values["backbone"])):
        raise UserError(flag("backbone"), values["backbone"], one_of(values["backbone"], BACKBONES))
    extra = _own_setting(values, flag)
    if "measure" in values:
        extra["measure"] = _measure(flag("measure"), values["measure"])
    overrides = {key: value for key, value in hyperparameters.items() if value != from_preset[key]}
    if values["backbone"] != backbone:
        overrides["backbone"] = values["backbone"]
    if "measure" in extra:
        overrides["measure"] = ",".join(extra["measure"])
    if values.get("train") is False and not values.get("weights") and not _pretrained(info, hyperparameters):
        setting = info.marked_when.get(EXTERNAL)
        ways = "--weights FILE" + (f" or --set {setting}" if setting else "")
        raise UserError(flag("train"), "", f"needs trained weights: {ways}")
    try:
        return RunConfig(**(values | extra), overrides=overrides)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(flag(str(first["loc"][0])), first["input"], what_is_allowed(first)) from None


def as_trained(config: RunConfig) -> RunConfig:
    """The same with the preset's values of the hyperparameters that matter at the test alone.

    Runs with equal ones share a training, which is that of the run that this configures.
    """
    test_only = method_info(config.method).test_only
    given = config.model_dump(exclude={"overrides"}, exclude_none=True)
    kept = {name: value for name, value in config.hyperparameters.items() if name not in test_only}
    return resolve(given | {"hyperparameters": kept}, {}, {})


def _pretrained(info: MethodInfo, hyperparameters: Mapping[str, Any]) -> bool:
    """Whether the method comes with weights of a training elsewhere, as its marks say."""
    name, _, value = info.marked_when.get(EXTERNAL, "").partition("=")
    return info.external_data or (name in hyperparameters and str(hyperparameters[name]).lower() == value)


def check_keys(given: Iterable[str], allowed: Iterable[str], flag: Callable[[str], str]) -> None:
    """Refuse keys that are not known.

    Raises:
        UserError: naming what `flag` makes of the first such key.
    """
    allowed = tuple(allowed)
    for key in given:
        if key not in allowed:
            hint = "hyperparameters go under `hyperparameters:`"
            raise UserError(flag(key), "", f"no such key; {one_of(key, allowed)}; {hint}")


def _hyperparameters(
    info: MethodInfo, given: Mapping[str, Any], sources: Mapping[str, str], sets: Mapping[str, str]
) -> dict[str, Any]:
    """Those of the YAML file, and over them those of the flags."""
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
    """The parts of a few-shot setting of the user's own that were left to us."""
    if not any(key in values for key in ("way", "shot", "query", "episodes")):
        return {}
    for key in ("way", "shot"):
        if key not in values:
            raise UserError(flag(key), "", "is missing; a setting of your own needs --way and --shot")
    return {"query": values.get("query", QUERY), "episodes": values.get("episodes", EPISODES)}


def _measure(flag: str, value: Any) -> list[str]:
    """Names without repetitions and in one order: the same for the same run, however it was asked for."""
    names = value.split(",") if isinstance(value, str) else value
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(flag, value, "must be a list of names, e.g. 5w1s,pairs")
    names = sorted({name.strip() for name in names})
    for name in names:
        if name not in MEASURES and not SETTING_NAME.fullmatch(name):
            raise UserError(flag, name, one_of(name, MEASURES))
    return names


def read_sets(texts: list[str]) -> dict[str, str]:
    """``--set key=value`` texts as a map.

    Raises:
        UserError: one is not of that form.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise UserError("--set", text, "must be key=value, e.g. --set learning_rate=0.05")
        found[key.strip()] = value.strip()
    return found
