"""Name -> method, read from the source without importing it.

What a method says of itself (class attributes, hyperparameters, presets) is taken from its syntax tree,
so that listing methods costs milliseconds and a mistyped name costs no import of torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

ENTRY_POINT_GROUP = "fewshot_bench.methods"
NOT_METHODS = {"__init__", "method", "registry", "backbones", "backbone_names", "distances", "optimizers"}


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: its name, annotation and default as written, and its trailing comment."""

    name: str
    annotation: str
    default: Any
    help: str


@dataclass(frozen=True)
class MethodInfo:
    """What a method's source says of it.

    Attributes:
        name: as in ``--method``.
        source: module name, or path of the file.
        class_name: the `Method` subclass.
        summary: first line of its docstring; `description` is all of it.
        parameters: hyperparameters by name.
        presets: preset -> changed hyperparameters, and `backbone`.
    """

    name: str
    source: str
    class_name: str
    summary: str = ""
    description: str = ""
    family: str = ""
    paper: str = ""
    trains_on: str = ""
    transductive: bool = False
    external_data: bool = False
    fixed_embedding: bool = True
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    presets: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@cache
def available() -> dict[str, MethodInfo]:
    """Every method by name: the files of this package, then the plug-ins of installed packages."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NOT_METHODS:
            found[path.stem] = read_source(path, name=path.stem, source=f"methods.{path.stem}")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(entry.name, _from_entry_point(entry))
    return found


def read_source(path: Path, name: str, source: str, class_name: str | None = None) -> MethodInfo:
    """Read one method's description from a file.

    Args:
        path: a Python file.
        name: the method's name.
        source: how `load` will import it.
        class_name: which class; by default the only one with `Hyperparameters` inside.

    Raises:
        ValueError: the file is not Python, or has no such class.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"is not valid Python: {error}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name is None:
        with_parameters = [n for n, node in classes.items() if _hyperparameters(node)]
        if len(with_parameters) != 1:
            raise ValueError(f"has {len(with_parameters)} classes with Hyperparameters; name one after a colon")
        class_name = with_parameters[0]
    if class_name not in classes:
        raise ValueError(f"has no class {class_name}; it has {', '.join(classes) or 'none'}")
    node = classes[class_name]
    described = ast.get_docstring(node) or ""
    return MethodInfo(
        name=name,
        source=source,
        class_name=class_name,
        summary=described.partition("\n")[0],
        description=described,
        parameters=_parameters(node, text),
        **_literals(node),
    )


def load(info: MethodInfo) -> type:
    """Import the method's class. Foreign files run their code here, and nowhere else."""
    if info.source.endswith(".py"):
        spec = importlib.util.spec_from_file_location(f"fewshot_method_{info.name}", info.source)
        if spec is None or spec.loader is None:
            raise ValueError(f"{info.source} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(info.source)
    return getattr(module, info.class_name)


def _from_entry_point(entry: EntryPoint) -> MethodInfo:
    found = importlib.util.find_spec(entry.module)
    if found is None or found.origin is None:
        return MethodInfo(entry.name, entry.module, entry.attr, summary="(plug-in that cannot be found)")
    return read_source(Path(found.origin), entry.name, entry.module, entry.attr)


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    wanted = {"family", "paper", "trains_on", "transductive", "external_data", "fixed_embedding", "presets"}
    found = {}
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in wanted:
                found[name] = ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in wanted:
                found[name] = ast.literal_eval(value)
    return found


def _hyperparameters(node: ast.ClassDef) -> ast.ClassDef | None:
    inner = (n for n in node.body if isinstance(n, ast.ClassDef) and n.name == "Hyperparameters")
    return next(inner, None)


def _parameters(node: ast.ClassDef, text: str) -> dict[str, Parameter]:
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    inner = _hyperparameters(node)
    found = {}
    for statement in inner.body if inner else ():
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default = ast.literal_eval(statement.value) if statement.value else None
            name, help_text = statement.target.id, comments.get(statement.end_lineno or 0, "")
            found[name] = Parameter(name, ast.unparse(statement.annotation), default, help_text)
    return found
