"""Name -> method, read from the source without importing it.

What a method says of itself (class attributes, hyperparameters, presets) is taken from its syntax tree,
so that listing methods costs milliseconds and a mistyped name costs no import of torch.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import io
import sys
import tokenize
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.method import Method

ENTRY_POINT_GROUP = "fewshot_bench.methods"
CONTRACT = Path(__file__).with_name("method.py")
LITERALS = {
    "family": str,
    "paper": str,
    "trains_on": str,
    "transductive": bool,
    "external_data": bool,
    "fixed_embedding": bool,
    "extends_backbone": bool,
    "marked_when": dict,
    "presets": dict,
    "starts": dict,
    "named_by": tuple,
    "test_only": tuple,
}


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
        plugin: name and version of the package that it is a plug-in of; the empty string for others.
        description: its docstring.
        marked_when: mark of its rows -> the hyperparameter that brings it.
        parameters: hyperparameters by name.
        presets: preset -> changed hyperparameters, and `backbone`; a method that names none has
            ``standard``, its defaults.
        starts: value of the hyperparameter `init` -> hyperparameters that change with it.
        named_by: hyperparameters that a row's name always says.
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
    named_by: tuple[str, ...] = ()
    test_only: tuple[str, ...] = ()
    problem: str = ""


@cache
def available() -> dict[str, MethodInfo]:
    """Every method by name: the files of this package, then the plug-ins of installed packages.

    One that cannot be read is there too, with its `problem`, so that it spoils no other.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path not in (Path(__file__), CONTRACT) and "class Hyperparameters" in path.read_text("utf-8"):
            found[path.stem] = _described(path.stem, f"methods.{path.stem}", path)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name not in found:
            info = _described(entry.name, entry.module, _file_of(entry.module), entry.attr)
            plugin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
            found[entry.name] = dataclasses.replace(info, plugin=plugin)
    return found


def _described(name: str, source: str, path: Path | None, class_name: str = "") -> MethodInfo:
    if path is None:
        return MethodInfo(name, source, class_name, problem=f"no module {source} is installed")
    try:
        return read_source(path, name, source, class_name or None)
    except ValueError as error:
        return MethodInfo(name, source, class_name, problem=f"{path} {error}")


def _file_of(module: str) -> Path | None:
    """The source file of a module, found without running the packages around it."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in inner:
            places = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", places) if spec and places else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def read_source(path: Path, name: str, source: str, class_name: str | None = None) -> MethodInfo:
    """Read one method's description from a file.

    Args:
        path: a Python file.
        name: the method's name.
        source: how `load` will import it.
        class_name: which class; by default the only one with `Hyperparameters` inside.

    Raises:
        ValueError: the file is not Python, has no such class, or the class says of itself what is no
            literal; the message continues a sentence that begins with the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""  # there is none for a NUL
        raise ValueError(f"is not valid Python: {line}{error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"is not valid Python: {error}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name is None:
        chosen = [own for own, node in classes.items() if _hyperparameters(node)]
        if len(chosen) != 1:
            choice = f"it has {', '.join(classes)}" if classes else "it has none"
            raise ValueError(
                f"has {len(chosen)} classes with Hyperparameters; name a class after a colon; {choice}"
            )
        class_name = chosen[0]
    if class_name not in classes:
        raise ValueError(f"has no class {class_name}; it has {', '.join(classes) or 'none'}")
    node = classes[class_name]
    said = _attributes(node)
    presets = said.pop("presets", None) or {"standard": {}}
    if not all(isinstance(preset, dict) for preset in presets.values()):
        raise ValueError("has presets that are not a map from preset to hyperparameters")
    parameters = _parameters(node, text)
    if unknown := [name for name in said.get("test_only", ()) if name not in parameters]:
        raise ValueError(f"names in test_only what is no hyperparameter: {', '.join(map(str, unknown))}")
    return MethodInfo(
        name=name,
        source=source,
        class_name=class_name,
        description=ast.get_docstring(node) or "",
        parameters=parameters,
        presets=presets,
        **said,
    )


def load(info: MethodInfo) -> type[Method]:
    """Import the method's class. Foreign files run their code here, and nowhere else.

    Raises:
        ValueError: that fails, or what it gives is no `Method`.
    """
    from methods.method import Method

    try:
        found = getattr(_module(info), info.class_name)
    except (Exception, SystemExit) as error:  # whatever a foreign file does when it is run
        raise ValueError(f"cannot be imported: {described(error, info)[0]}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{info.class_name} is not a subclass of methods.method.Method")
    if not dataclasses.is_dataclass(found.Hyperparameters):
        raise ValueError(f"{info.class_name}.Hyperparameters is not a dataclass")
    return found


def described(error: BaseException, info: MethodInfo) -> tuple[str, bool]:
    """What a method raised, with its file and line, and whether it came from the method's own source.

    Args:
        error: as caught, with its traceback.
        info: whose source is looked for in it; else the line that raised is named.
    """
    module = sys.modules.get(info.source)
    source = info.source if module is None else module.__file__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = next((f for f in reversed(frames) if f.filename == source), None)
    line = own or frames[-1]
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what} ({Path(line.filename).name}, line {line.lineno})", own is not None


class _Uncached(SourceFileLoader):
    """Leaves no ``__pycache__`` beside a file that belongs to the user."""

    def set_data(self, *data: object, **options: object) -> None:
        """Would write the bytecode."""


def module_name(info: MethodInfo) -> str:
    """What the method's module is called once it is imported."""
    return f"fewshot_method_{info.name}" if info.source.endswith(".py") else info.source


def _module(info: MethodInfo) -> Any:
    name = module_name(info)
    if not info.source.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, info.source, loader=_Uncached(name, info.source))
    if spec is None or spec.loader is None:
        raise ImportError(f"{info.source} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module of their annotations there
    spec.loader.exec_module(module)
    return module


def _attributes(node: ast.ClassDef) -> dict[str, Any]:
    found = {}
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in LITERALS:
                found[name] = _literal(value, name, LITERALS[name])
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in LITERALS:
                found[name] = _literal(value, name, LITERALS[name])
    return found


def _literal(value: ast.expr, name: str, kind: type = object) -> Any:
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(found := ast.literal_eval(value), kind):
            return found
    what = "literal" if kind is object else f"literal {kind.__name__}"
    raise ValueError(f"has no {what} for {name} in line {value.lineno}: {ast.unparse(value)}")


def _hyperparameters(node: ast.ClassDef) -> ast.ClassDef | None:
    inner = (n for n in node.body if isinstance(n, ast.ClassDef) and n.name == "Hyperparameters")
    return next(inner, None)


def _parameters(node: ast.ClassDef, text: str) -> dict[str, Parameter]:
    inner = _hyperparameters(node)
    if inner is None:  # it inherits the contract's
        text = CONTRACT.read_text(encoding="utf-8")
        contract = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == "Method")
        return _parameters(contract, text)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for statement in inner.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            if statement.value is None:
                raise ValueError(f"has no default for the hyperparameter {name} in line {statement.lineno}")
            found[name] = Parameter(
                name,
                ast.unparse(statement.annotation),
                _literal(statement.value, name),
                comments.get(statement.end_lineno or 0, ""),
            )
    if "steps" not in found:
        raise ValueError("has Hyperparameters without `steps: int`, the number of training steps")
    return found
