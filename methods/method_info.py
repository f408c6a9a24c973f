"""What a method's class says of itself, and a copy of it that saves importing the method.

Importing a method imports torch, which takes seconds; commands that only read records need no more than this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: its name, annotation and default as written, and its trailing comment."""

    name: str
    annotation: str
    default: Any
    help: str


@dataclass(frozen=True)
class MethodInfo:
    """What a method's class says of itself.

    Attributes:
        name: as in ``--method``.
        source: module name, or path of the file.
        class_name: the `Method` subclass.
        plugin: name and version of the package that it is a plug-in of; the empty string for others.
        description: its docstring.
        marked_when: mark of its rows -> the hyperparameter that brings it.
        parameters: hyperparameters by name.
        presets: preset -> changed hyperparameters, and `backbone`; a method that names none has
            ``standard``, its defaults.
        starts: value of the hyperparameter `init` -> hyperparameters that change with it.
        test_only: hyperparameters that training does not depend on.
        problem: why it cannot be used; the empty string if it can.
    """

    name: str
    source: str
    class_name: str = ""
    plugin: str = ""
    description: str = ""
    family: str = ""
    paper: str = ""
    trains_on: str = ""
    transductive: bool = False
    external_data: bool = False
    fixed_embedding: bool = True
    extends_backbone: bool = False
    marked_when: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    presets: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    starts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    test_only: tuple[str, ...] = ()
    problem: str = ""

    def has_mark(self, mark: str, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether rows with these hyperparameters have a mark, e.g. ``external data``."""
        name, _, value = self.marked_when.get(mark, "").partition("=")
        by_setting = name in hyperparameters and str(hyperparameters[name]).lower() == value
        return by_setting or getattr(self, mark.replace(" ", "_"), False)


def remembered(name: str) -> MethodInfo | None:
    """What `remember` kept of a method of this package; None if nothing, or if a file of it has changed."""
    code = _code()  # before a method is imported: `remember` must not keep old classes under newer code
    try:
        kept = json.loads(_file(name).read_text("utf-8"))
        if kept.pop("code") != code:
            return None
        kept["parameters"] = {key: Parameter(**own) for key, own in kept["parameters"].items()}
        return MethodInfo(**kept | {"test_only": tuple(kept["test_only"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(info: MethodInfo) -> None:
    """Keep it beside Python's own compiled files, if those are kept and JSON can say it."""
    if sys.dont_write_bytecode:
        return
    path = _file(info.name)
    draft = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError, TypeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(dataclasses.asdict(info) | {"code": _code()}), "utf-8")
        draft.replace(path)


def _file(name: str) -> Path:
    return Path(importlib.util.cache_from_source(__file__)).with_name(f"{name}.json")


@cache
def _code() -> str:
    """SHA-256 of this package's files."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256("\0".join(path.read_text("utf-8") for path in files).encode()).hexdigest()
