"""Name -> method: the files of this package, plug-ins of installed packages, and files of the user's own."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import io
import re
import sys
import tokenize
import traceback
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from methods.method_info import MethodInfo, Parameter, remember, remembered

if TYPE_CHECKING:
    from types import ModuleType

    from methods.method import Method

FIRST_CHOICES = ("nearest_centroid", "siamese_triplet", "protonet")
"""Methods to try first: a transfer, a Siamese and an episodic one."""

OF_FEATURES = "nearest_centroid"
"""The method that answers with an embedding as it is, unless another one is named."""

ENTRY_POINT_GROUP = "fewshot_bench.methods"
SAYS_WHAT_IT_IS = re.compile(r"^    (family|paper|presets) = ", re.MULTILINE)
"""What the file of a method has, and no other file of the package."""

DESCRIPTION = {
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
    "test_only": tuple,
}
"""What a method's class says of itself, and the type of it."""


class Place(NamedTuple):
    """Where a method's class is: module, class (empty: the only one there), plug-in with its version."""

    source: str
    class_name: str = ""
    plugin: str = ""


@cache
def places() -> dict[str, Place]:
    """Where each method is, by name: files of this package, then plug-ins. Imports none of them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if SAYS_WHAT_IT_IS.search(path.read_text("utf-8")):
            found[path.stem] = Place(f"methods.{path.stem}")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        plugin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
        found.setdefault(entry.name, Place(entry.module, entry.attr, plugin))
    return found


@cache
def available() -> dict[str, MethodInfo]:
    """Every method by name. One that cannot be imported is there too, with its `problem`."""
    found = {}
    for name, place in places().items():
        try:
            found[name] = find(name)
        except ValueError as error:
            found[name] = MethodInfo(name, *place, problem=str(error))
    return found


@cache
def find(name: str) -> MethodInfo:
    """The method of that name in `places`; imports it, unless `method_info` remembers what it says of itself.

    Raises:
        ValueError: it cannot be imported, or breaks the contract.
    """
    place = places()[name]
    if place.plugin:
        return describe(name, *place)
    if (info := remembered(name)) is None:
        remember(info := describe(name, *place))
    return info


def describe(name: str, source: str, class_name: str = "", plugin: str = "") -> MethodInfo:
    """Import a method, and read what its class says of itself. Foreign code is run here, and nowhere else.

    Args:
        name: what it is to be called.
        source: a module's name, or the path of a Python file.
        class_name: which class; by default the only `Method` that the module defines.
        plugin: see `MethodInfo`.

    Raises:
        ValueError: it cannot be imported, or breaks the contract.
    """
    info = MethodInfo(name, source, class_name, plugin)
    try:
        module = _module(info)
    except (Exception, SystemExit) as error:  # whatever a foreign file does when it is run
        raise ValueError(f"{source} cannot be imported: {what_raised(error, info)[0]}") from error
    method = _class_in(module, info)
    found = {attribute: getattr(method, attribute) for attribute in DESCRIPTION}
    for attribute, kind in DESCRIPTION.items():
        if not isinstance(found[attribute], kind):
            raise ValueError(f"{source}: {attribute} is {found[attribute]!r}, not a {kind.__name__}")
    found["presets"] = found["presets"] or {"standard": {}}
    if not all(isinstance(preset, dict) for preset in found["presets"].values()):
        raise ValueError(f"{source}: presets must map each preset to hyperparameters")
    parameters = _parameters(method, source)
    if unknown := [name for name in method.test_only if name not in parameters]:
        raise ValueError(f"{source}: test_only names unknown hyperparameters: {', '.join(map(str, unknown))}")
    return dataclasses.replace(
        info,
        class_name=method.__name__,
        description=inspect.cleandoc(method.__doc__ or ""),
        parameters=parameters,
        **found,
    )


def load(info: MethodInfo) -> type[Method]:
    """The class of a method; `describe` has run its file, if it is not of this package."""
    name = module_name(info)
    return getattr(sys.modules.get(name) or importlib.import_module(name), info.class_name)


def _class_in(module: ModuleType, info: MethodInfo) -> type[Method]:
    from methods.method import Method

    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    methods = [name for name, value in classes.items() if issubclass(value, Method) and name[0] != "_"]
    choice = f"it has {', '.join(classes) or 'no class'}"
    if not info.class_name and len(methods) != 1:
        raise ValueError(f"{info.source} has {len(methods)} methods; name a class after a colon; {choice}")
    name = info.class_name or methods[0]
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(f"{info.source} has no class {name}; {choice}")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{info.source}: {name} is not a subclass of methods.method.Method")
    return found


def _parameters(method: type[Method], source: str) -> dict[str, Parameter]:
    """The fields of its `Hyperparameters`, inherited ones first."""
    declared = method.Hyperparameters
    if "__dataclass_params__" not in vars(declared):
        raise ValueError(f"{source}: {method.__name__}.Hyperparameters is not a dataclass")
    comments: dict[str, str] = {}
    for part in reversed(declared.__mro__):
        if dataclasses.is_dataclass(part):
            comments |= _comments(part)
    found = {}
    for one in dataclasses.fields(declared):
        if one.default is dataclasses.MISSING:
            raise ValueError(f"{source}: the hyperparameter {one.name} has no default")
        kind = one.type if isinstance(one.type, str) else inspect.formatannotation(one.type)
        found[one.name] = Parameter(one.name, kind, one.default, comments.get(one.name, ""))
    if "steps" not in found:
        raise ValueError(f"{source}: Hyperparameters lacks `steps: int`, the number of training steps")
    return found


def _comments(declared: type) -> dict[str, str]:
    """Field -> the comment at the end of its line."""
    found, name = {}, ""
    try:
        text = inspect.cleandoc(f"\n{inspect.getsource(declared)}")
    except (OSError, TypeError):  # made without a file
        return {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.line.lstrip().startswith(f"{token.string}:"):
            name = token.string
        elif token.type == tokenize.COMMENT and token.line.lstrip() != token.line[token.start[1] :]:
            found[name] = token.string.lstrip("# ")
    return found


def what_raised(error: BaseException, info: MethodInfo) -> tuple[str, bool]:
    """What a method raised, with its file and line, and whether it came from the method's own source.

    Args:
        error: as caught, with its traceback.
        info: whose source is looked for in it; else the line that raised is named.
    """
    module = sys.modules.get(info.source)
    source = (module and module.__file__) or info.source
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = next((f for f in reversed(frames) if f.filename == source), None)
    line = own or frames[-1]
    if isinstance(error, SyntaxError) and error.filename == source:
        return f"{type(error).__name__}: {error.msg} ({Path(source).name}, line {error.lineno})", True
    nothing = isinstance(error, SystemExit) and not error.code  # code 0 means what no code means
    said = "" if nothing else str(error)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{what} ({Path(line.filename).name}, line {line.lineno})", own is not None


class _Uncached(SourceFileLoader):
    """Leaves no ``__pycache__`` beside a file that belongs to the user."""

    def set_data(self, *data: object, **options: object) -> None:
        """Would write the bytecode."""


def module_name(info: MethodInfo) -> str:
    """What the method's module is called once it is imported."""
    return f"fewshot_method_{info.name}" if info.source.endswith(".py") else info.source


def _module(info: MethodInfo) -> ModuleType:
    name = module_name(info)
    if not info.source.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, info.source, loader=_Uncached(name, info.source))
    if spec is None or spec.loader is None:
        raise ImportError(f"{info.source} is not a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module of their annotations there
    spec.loader.exec_module(module)
    return module
