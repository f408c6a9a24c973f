"""Hyperparameters from text and YAML, checked against the types that the method declares."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from bench.common.errors import UserError, one_of
from methods import registry
from methods.method_info import MethodInfo

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TYPES = "int, float, bool, str, Literal[...], int | Literal[0], or one of them | None"


def checked(
    info: MethodInfo, values: Mapping[str, Any], label: Callable[[str, Any], tuple[str, str]], *, strict: bool
) -> dict[str, Any]:
    """Converts values of hyperparameters to their declared types.

    Whole numbers must be at least 1, or 0 for ``int | Literal[0]``; floats at least 0. Methods may check more
    when they are built.

    Args:
        info: the method.
        values: name -> value.
        label: name, value -> the flag and value to name in an error message.
        strict: False for text, which is parsed; True if values already have types.

    Raises:
        UserError: unknown hyperparameter, or a value that is not allowed.
    """
    for name, value in values.items():
        if name not in info.parameters:
            problem = f"{info.name} has no such hyperparameter; {one_of(name, info.parameters)}"
            raise UserError(*label(name, value), problem)
    annotations = tuple((name, parameter.annotation) for name, parameter in info.parameters.items())
    model = _model(registry.load(info).Hyperparameters, info.name, annotations)
    try:
        return model.model_validate(dict(values), strict=strict).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise UserError(*label(name, values[name]), allowed_text(first)) from None


def allowed_text(problem: ErrorDetails) -> str:
    """Pydantic's error as a sentence fragment that says what is accepted."""
    context = problem.get("ctx", {})
    match problem["type"]:
        case "int_type" | "int_parsing" | "int_parsing_size" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "string_type":
            return "must be text"
        case "literal_error":
            return one_of(
                problem["input"], re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
            )
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case _:
            return problem["msg"].replace("Input should be", "must be")


@cache
def _model(declared: type, method: str, annotations: tuple[tuple[str, str], ...]) -> type[BaseModel]:
    typed: dict[str, Any] = {}
    hints = typing.get_type_hints(declared)
    for name, annotation in annotations:
        try:
            typed[name] = (_type(hints[name]), None)
        except ValueError:
            problem = f"the hyperparameter {name} has type {annotation}; allowed: {TYPES}"
            raise UserError("--method", method, problem) from None
    return create_model("Hyperparameters", __config__=ConfigDict(allow_inf_nan=False), **typed)


def _type(hint: Any) -> Any:
    """The type that pydantic checks for an annotation."""
    kind, choices = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union) and choices[-1] is types.NoneType:
        nothing = BeforeValidator(lambda value: None if value == "none" else value)
        return Annotated[_type(typing.Union[choices[:-1]]) | None, nothing]  # noqa: UP007
    if choices == (int, Literal[0]):
        return Annotated[int, Field(ge=0)]
    if kind is Literal:
        by_text = {str(one): one for one in choices}
        chosen = BeforeValidator(lambda value: by_text.get(value, value) if isinstance(value, str) else value)
        return Annotated[hint, chosen]
    if hint in (bool, str):
        return hint
    if hint is int:
        return Annotated[int, Field(ge=1)]
    if hint is float:
        return Annotated[float, Field(ge=0)]
    raise ValueError(hint)
