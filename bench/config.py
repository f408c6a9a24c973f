"""Typed run configuration: defaults < preset < YAML < flags."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from bench import PROTOCOL_VERSION
from bench.errors import UserError, one_of
from methods import registry
from methods.registry import MethodInfo

PRESETS = {
    "smoke": "seconds; for tests, never on the leaderboard",
    "quick": "conv4, about 2 minutes on 2 CPU cores",
    "standard": "ResNet-12 of width 32, at most 15 minutes on 2 CPU cores (the default)",
    "paper": "the source's own backbone and hyperparameters; for a GPU",
}
BACKBONE = re.compile(r"conv4|resnet12(-[1-9]\d{0,3})?|resnet(20|32|56)|timm:[\w.-]+")

Positive = Annotated[int, Field(ge=1)]


class RunConfig(BaseModel):
    """Everything that decides a run's numbers, resolved: running it again gives the same numbers.

    Attributes:
        method: a name, or ``path/to/file.py:Class``.
        hyperparameters: all of them, after preset, YAML and flags.
        overrides: those (and `backbone`) that differ from the preset.
        weights: file of starting weights; train: False to evaluate them as they are.
        way, shot, query, episodes: one setting more, of the user's own; all None for none.
        image_size: for image folders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str
    preset: Literal["smoke", "quick", "standard", "paper"] = "standard"
    dataset: str = "cifar100"
    split: str = "90-10"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
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
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def run_id(self, weights_sha256: str | None) -> str:
        """A readable name that is the same for the same configuration and different for another."""
        content = self.model_dump(exclude={"weights", "overrides"}) | {
            "weights": weights_sha256,
            "protocol": PROTOCOL_VERSION,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        words = [method_info(self.method).name, self.dataset, self.split, self.preset, f"s{self.seed}", digest]
        return "_".join(_slug(word) for word in words)

    def to_yaml(self) -> str:
        """As `--config` reads it."""
        import yaml

        return yaml.safe_dump(self.model_dump(exclude={"overrides"}, exclude_none=True), sort_keys=False)


def _slug(text: str) -> str:
    """A word that is safe in file names; long ones are cut in front, where paths begin."""
    return re.sub(r"[^A-Za-z0-9.@+-]+", "-", text).strip("-.")[-48:]


@cache
def method_info(name: str, flag: str = "--method") -> MethodInfo:
    """The method called `name`: one of the registry's, or ``path/to/file.py[:Class]``.

    Raises:
        UserError: there is none.
    """
    path, _, class_name = name.partition(":")
    if path.endswith(".py"):
        if not Path(path).is_file():
            raise UserError(flag, name, "no such file; path/to/file.py:Class")
        try:
            info = registry.read_source(Path(path), Path(path).stem, str(Path(path)), class_name or None)
        except ValueError as error:
            raise UserError(flag, name, str(error)) from None
        return info
    known = registry.available()
    if name not in known:
        raise UserError(flag, name, f"{one_of(name, known)}, or path/to/file.py:Class")
    return known[name]


def resolve(given: Mapping[str, Any], sources: Mapping[str, str], sets: Mapping[str, str]) -> RunConfig:
    """Merge what was given with the method's preset and defaults, and check every value.

    Args:
        given: values of `RunConfig` fields; None means not given.
        sources: field name -> how an error message calls where it came from.
        sets: hyperparameters from ``--set``, as text. Whole numbers are at least 1, others at least 0;
            a method that wants less or more says so when it is built.

    Raises:
        UserError: an unknown key or a value that is not allowed.
    """
    given = {key: value for key, value in given.items() if value is not None}

    def flag(key: str) -> str:
        return sources.get(key, f"--{key.replace('_', '-')}")

    for key in given:
        if key not in RunConfig.model_fields or key == "overrides":
            raise UserError(flag(key), "", one_of(key, [k for k in RunConfig.model_fields if k != "overrides"]))
    if "method" not in given:
        raise UserError("--method", "", f"is missing; {one_of('', registry.available())}")
    if not isinstance(given["method"], str):
        raise UserError(flag("method"), given["method"], "a method's name")
    info = method_info(given["method"], flag("method"))
    preset = given.get("preset", "standard")
    if preset not in PRESETS:
        raise UserError(flag("preset"), preset, one_of(preset, PRESETS))
    if preset not in info.presets:
        raise UserError(flag("preset"), preset, f"{info.name} has the presets {', '.join(info.presets)}")
    from_preset = {name: parameter.default for name, parameter in info.parameters.items()} | info.presets[preset]
    backbone = from_preset.pop("backbone", "conv4")

    chosen = given.get("hyperparameters", {})
    if not isinstance(chosen, dict):
        raise UserError(flag("hyperparameters"), chosen, "a map from name to value")
    where = flag("hyperparameters")
    hyperparameters = from_preset | _checked(info, chosen, lambda name: f"{where}.{name}", strict=True)
    hyperparameters |= _checked(info, sets, lambda name: f"{sources.get(name, '--set')} {name} =", strict=False)

    values = {**given, "preset": preset, "hyperparameters": hyperparameters}
    values.setdefault("backbone", backbone)
    if not isinstance(values["backbone"], str) or not BACKBONE.fullmatch(values["backbone"]):
        from methods.backbone_names import BACKBONES

        raise UserError(flag("backbone"), values["backbone"], one_of(values["backbone"], BACKBONES))
    overrides = {k: v for k, v in hyperparameters.items() if v != from_preset.get(k)}
    if values["backbone"] != backbone:
        overrides["backbone"] = values["backbone"]
    try:
        config = RunConfig(**values, overrides=overrides)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        raise UserError(flag(key), first["input"], _sentence(first["msg"])) from None
    _check_setting(config, flag)
    if not config.train and config.weights is None and config.hyperparameters != from_preset:
        raise UserError("--no-train", "", "hyperparameters change nothing without training")
    return config


def _check_setting(config: RunConfig, flag: Any) -> None:
    own = {key: getattr(config, key) for key in ("way", "shot", "query", "episodes")}
    if any(value is not None for value in own.values()):
        for key in ("way", "shot"):
            if own[key] is None:
                raise UserError(flag(key), "", "is missing; a setting of your own needs --way and --shot")


def _checked(
    info: MethodInfo, values: Mapping[str, Any], flag: Callable[[str], str], *, strict: bool
) -> dict[str, Any]:
    for name, value in values.items():
        if name not in info.parameters:
            problem = f"{info.name} has no such hyperparameter; {one_of(name, info.parameters)}"
            raise UserError(flag(name), value, problem)
    try:
        # A YAML file has types already; a flag is text, and pydantic reads the type from it.
        return _model(info).model_validate(dict(values), strict=strict).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(flag(str(first["loc"][0])), first["input"], _sentence(first["msg"])) from None


def _model(info: MethodInfo) -> type[BaseModel]:
    typed: dict[str, Any] = {}
    for name, parameter in info.parameters.items():
        try:
            typed[name] = (_type(ast.parse(parameter.annotation, mode="eval").body), None)
        except ValueError:
            known = "int, float, bool, str, Literal[...], or one of them | None"
            raise UserError("--method", info.name, f"{name}: {parameter.annotation} is not {known}") from None
    return create_model("Hyperparameters", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **typed)


def _type(node: ast.expr) -> Any:
    """The type that an annotation means, without running the code of the method's file."""
    match node:
        case ast.Name(id="int"):
            return Positive
        case ast.Name(id="float"):
            return Annotated[float, Field(ge=0)]
        case ast.Name(id="bool" | "str" as name):
            return {"bool": bool, "str": str}[name]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=choices)):
            return Literal[tuple(ast.literal_eval(choice) for choice in choices)]  # type: ignore[misc]
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _type(left) | None
    raise ValueError(ast.unparse(node))


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a ``--config`` file.

    Raises:
        UserError: it cannot be read or is no map.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError("--config", path, reason) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}" if where else "somewhere"
        raise UserError("--config", path, f"is not YAML at {line}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError("--config", path, "must be a map from names to values, e.g. `method: protonet`")
    return content


def read_sets(texts: list[str]) -> dict[str, str]:
    """``--set key=value`` texts as a map.

    Raises:
        UserError: one is not of that form.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise UserError("--set", text, "key=value, e.g. --set learning_rate=0.05")
        found[key.strip()] = value.strip()
    return found
