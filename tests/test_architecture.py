"""The packages and the path of a run are as the docstrings and docs/architecture.md say."""

from __future__ import annotations

import ast
import configparser
import functools
import inspect
import re
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest
from command_line import bench

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH_OF_A_RUN = PAGE.partition("## The path of a run\n")[2].partition("\n## ")[0]


def _layers() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    highest_first = setup["importlinter:contract:downhill"]["layers"].split()
    return ["methods", *(name.removeprefix("bench.") for name in reversed(highest_first))]


LAYERS = _layers()
"""`methods` and the packages of `bench` in setup.cfg's order, lowest first; the last is ``__main__``."""
IMPORT = re.compile(r"^\s*(?:from|import) (bench\.\w+|methods)\b", re.M)


def layer(file: Path) -> str:
    """Of a path relative to the repository."""
    first, *rest = file.parts
    return first if first == "methods" else Path(rest[0]).stem


@functools.cache
def imported() -> dict[str, set[str]]:
    """Layer -> the other layers that its files import, at any place."""
    found: dict[str, set[str]] = {name: set() for name in LAYERS}
    for path in (*(ROOT / "bench").rglob("*.py"), *(ROOT / "methods").glob("*.py")):
        own = layer(path.relative_to(ROOT))
        names = IMPORT.findall(path.read_text(encoding="utf-8"))
        found.setdefault(own, set()).update({name.removeprefix("bench.") for name in names} - {own})
    return found


def named(text: str) -> set[str]:
    return {name.removeprefix("bench.") for name in re.findall(r"(?<!`)`([\w.]+)`", text)}


@pytest.mark.parametrize("name", LAYERS[1:-1])
def test_a_docstring_says_what_its_package_imports_and_what_imports_it(name):
    source = (ROOT / "bench" / name / "__init__.py").read_text(encoding="utf-8")
    docstring = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    imports, importers = re.search(r"Imports (.*?); (.*?) imports? it\b", docstring).groups()
    place = LAYERS.index(name)

    allowed = named(imports)
    assert allowed <= imported()[name] and allowed <= {*LAYERS[:place]}
    if "everything below" in imports:
        allowed |= {*LAYERS[: min(map(LAYERS.index, allowed), default=place)]}
    assert imported()[name] <= allowed

    importers, _, exceptions = importers.partition(" but ")
    claimed = named(importers)
    if "all above" in importers:
        claimed |= {*LAYERS[max(map(LAYERS.index, claimed)) : -1]} - named(exceptions)
    found = {other for other in LAYERS if name in imported()[other]}
    assert found == claimed or "everything" in importers


def files_in(text: str) -> list[str]:
    """The files of `bench` and `methods` that a text names."""
    names = re.findall(r"(?:\w+/)+\w+\.py\b", text)
    paths = (name if name.startswith(("methods/", "bench/")) else f"bench/{name}" for name in names)
    return [path for path in paths if not path.startswith("bench/tests/")]


@functools.cache
def ours(file: str) -> str:
    """Path relative to the repository of a file of the two packages; empty for any other."""
    path = Path(file)
    own = path.is_relative_to(ROOT / "bench") or path.is_relative_to(ROOT / "methods")
    return path.relative_to(ROOT).as_posix() if own else ""


def calls_of(*arguments: object) -> set[tuple[str, str]]:
    """Run a command; the pairs of files of which one called the other, directly or through a library."""
    found, known = set(), set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not ours(frame.f_code.co_filename):
            return
        call = id(frame.f_code), id(frame.f_back and frame.f_back.f_code)
        if call in known:
            return
        stack: list[str] = []
        up: FrameType | None = frame
        while up:
            if file := ours(up.f_code.co_filename):
                if not up.f_code.co_flags & inspect.CO_OPTIMIZED:
                    return  # an import, in which a module or the body of a class runs
                stack.append(file)
            up = up.f_back
        found.add((*stack, "")[1::-1])
        if frame.f_back and ours(frame.f_back.f_code.co_filename):
            known.add(call)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        answer = bench(*arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert answer.code == 0, answer.err
    return found


@pytest.mark.slow
def test_the_path_of_a_run_is_the_page_s(here):
    calls = calls_of(
        "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--split", "50-50",
        "--image-size", "16", "--preset", "smoke", "--steps", "3", "--device", "cpu",
        "--measure", "5w1s,pairs,triplets,generalized",
    )  # fmt: skip
    entered = {callee for _, callee in calls}
    text, _, diagram = PATH_OF_A_RUN.partition("```text\n")
    drawn, others = files_in(diagram), files_in(text)
    assert {*drawn, *others} <= entered
    total, deciding = map(int, re.search(r"about (\d+) files.*\bThese (\d+) decide", text, re.S).groups())
    assert len(drawn) == deciding and len(entered) == pytest.approx(total, abs=5)
    climbs = {(a, b) for a, b in calls if a and LAYERS.index(layer(Path(a))) < LAYERS.index(layer(Path(b)))}
    assert not climbs, "the page says that there are none"
