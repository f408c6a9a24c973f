"""Digests of source code: a module and everything it imports, except libraries."""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import importlib.util
import io
import re
import sys
import tokenize
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

KEPT = "__stripped_source__"
HERE = ("bench", "methods")


def digest(*modules: str, without: Collection[str] = ()) -> str:
    """SHA-256 (hex) of the code of `modules` and of their direct and indirect imports.

    Libraries (the standard library and what a package manager installed) do not count: their versions
    are recorded. Comments, docstrings and blank lines do not count either: they do not change numbers.

    Args:
        modules: names of modules that are imported or can be found without running code.
        without: modules to leave out, with the imports of only these, unless `modules` names them;
            ``bench.data*`` matches several.
    """
    total = hashlib.sha256()
    for name, path in sorted(own_files(*modules, without=without).items()):
        code = _code_of(name, path)
        total.update(f"{name}\0{len(code)}\0{code}".encode())
    _nodes.cache_clear()
    return total.hexdigest()


def own_files(*modules: str, without: Collection[str] = ()) -> dict[str, Path]:
    """`modules` and all their imports except libraries: name -> file. Arguments as for `digest`."""
    own = {*HERE, *(name.partition(".")[0] for name in modules)}
    left_out = re.compile("|".join(map(fnmatch.translate, without)) or "(?!)").match
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in modules and left_out(name):
            continue
        path = _file_of(name)
        if path is None or (name.partition(".")[0] not in own and _is_library(name, path)):
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imported_by(path, package)
    return found


@cache
def stripped(source: str) -> str:
    """Python source without comments, strings that stand alone (docstrings) and blank lines.

    Cached, because most digests are of the same modules. The text is cut, not unparsed, so that every Python
    version gives the same text.
    """
    lines = source.split("\n")
    nodes = _nodes(source)
    for row, column in _comments(source, nodes):
        lines[row - 1] = lines[row - 1][:column]
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            # Columns are in bytes. Other code on these lines, after a semicolon, stays.
            before = lines[first].encode()[: node.col_offset]
            after = lines[last].encode()[node.end_col_offset :]
            if isinstance(node.value.value, str) and not (before + after).strip():
                lines[first : last + 1] = [""] * (last + 1 - first)
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def _nodes(source: str) -> list[ast.AST]:
    """All nodes of its syntax tree; cached because imports and text both need them."""
    return list(ast.walk(ast.parse(source)))


def _comments(source: str, nodes: Iterable[ast.AST]) -> list[tuple[int, int]]:
    """Line (from 1) and column of each comment.

    The tokenizer is slow, so it is used only if a # is in a string or between the parts of one.
    """
    strings = [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if isinstance(node, (ast.Constant, ast.JoinedStr))
    ]
    found = []
    for row, line in enumerate(source.split("\n"), 1):
        if (column := line.find("#")) < 0:
            continue
        place = row, len(line[:column].encode())
        if any(start <= place < end for start, end in strings):
            tokens = tokenize.generate_tokens(io.StringIO(source).readline)
            return [token.start for token in tokens if token.type == tokenize.COMMENT]
        found.append((row, column))
    return found


def _text(path: Path) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _code_of(name: str, path: Path) -> str:
    """The stripped source of a module at the first call.

    A loaded module does not change when its file changes, so its text is cached.
    """
    module = sys.modules.get(name)
    if module is None:
        return stripped(_text(path))
    kept = vars(module)
    if KEPT not in kept:
        kept[KEPT] = stripped(_text(path))
    return kept[KEPT]


@cache
def _imported_by(path: Path, package: str) -> list[str]:
    """Every module name that the file's import statements may mean."""
    found: list[str] = []
    for node in _nodes(_text(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found += _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = package.split(".")
                module = ".".join([*parts[: len(parts) - node.level + 1], *([module] if module else [])])
            found += _with_parents(module)
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _file_of(name: str) -> Path | None:
    """The .py file of a module; None if there is no such module, or it is not written in Python."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__future__":
        return None
    return _file_here(name) if top in HERE else _find(name)


@cache
def _file_here(name: str) -> Path | None:
    """Of a module of this repository: these do not move while a process runs."""
    return _find(name)


def _find(name: str) -> Path | None:
    parent = name.rpartition(".")[0]
    if name not in sys.modules and parent and parent not in sys.modules:
        # `find_spec` would import the parent: look beside its file instead.
        place = _file_of(parent)
        if place is None or place.name != "__init__.py":
            return None
        return next((p for p in _places(place.parent, name) if p.is_file()), None)
    try:
        module = sys.modules.get(name)
        origin = getattr(module, "__file__", None) if module else None
        if origin is None:
            spec = importlib.util.find_spec(name)
            origin = spec.origin if spec else None
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(origin) if origin and origin.endswith(".py") and Path(origin).is_file() else None


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    last = name.rpartition(".")[2]
    return folder / f"{last}.py", folder / last / "__init__.py"


def _is_library(name: str, path: Path) -> bool:
    """Whether a package manager installed the module: its folder then contains a ``.dist-info``."""
    depth = name.count(".") + (path.name == "__init__.py")
    return _holds_libraries(path.parents[depth])


@cache
def _holds_libraries(folder: Path) -> bool:
    return next(folder.glob("*.dist-info"), None) is not None
