import re
import sys
import textwrap
from pathlib import Path

import pytest

from bench.reporting import show
from methods import method_info
from methods.method_info import MethodInfo, Parameter
from methods.registry import ENTRY_POINT_GROUP, available, describe, find, load, places

NEAREST_MEAN = '''
from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.batches import Shuffled
from methods.method import Method, class_means


class NearestMean(Method):
    """Nearest mean of raw pixels.

    Learns nothing.
    """

    family = "baseline"
    trains_on: str = "shuffled"
    transductive = False
    presets = {"standard": {"backbone": "conv4", "steps": 2}, "tiny": {"steps": 1}}

    @dataclass(frozen=True)
    class Hyperparameters:
        steps: int = 3  # training steps
        # Not the comment of any line.
        scale: float = 1.5  # what logits are multiplied by
        norm: str = "l2"

    def batches(self):
        return Shuffled(8)
'''


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def read(path: Path, class_name: str | None = None) -> MethodInfo:
    return describe(path.stem, str(path), class_name or "")


def problem(path: Path, text: str, class_name: str | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        read(write(path, text), class_name)
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.py"


def test_a_method_is_described_by_its_class(file):
    info = read(write(file, NEAREST_MEAN))
    assert (info.name, info.class_name, info.family) == ("mine", "NearestMean", "baseline")
    assert info.trains_on == "shuffled" and info.paper == ""
    assert not info.transductive and not info.external_data and info.fixed_embedding
    assert info.description == "Nearest mean of raw pixels.\n\nLearns nothing."
    assert info.presets == {"standard": {"backbone": "conv4", "steps": 2}, "tiny": {"steps": 1}}
    assert [(p.name, p.annotation, p.default, p.help) for p in info.parameters.values()] == [
        ("steps", "int", 3, "training steps"),
        ("scale", "float", 1.5, "what logits are multiplied by"),
        ("norm", "str", "l2", ""),
    ]


def test_what_a_subclass_does_not_say_is_inherited(file):
    text = """
        from dataclasses import dataclass

        from methods.protonet import ProtoNet


        class Wide(ProtoNet):
            presets = {**ProtoNet.presets, "quick": ProtoNet.presets["quick"] | {"width": 3}}

            @dataclass(frozen=True)
            class Hyperparameters(ProtoNet.Hyperparameters):
                width: int = 2  # of the projection
        """
    info, parent = read(write(file, text)), find("protonet")
    assert (info.class_name, info.family, info.paper) == ("Wide", parent.family, parent.paper)
    assert info.parameters == parent.parameters | {"width": Parameter("width", "int", 2, "of the projection")}
    assert info.presets == parent.presets | {"quick": parent.presets["quick"] | {"width": 3}}


def test_a_class_without_hyperparameters_has_the_contracts(file):
    info = read(write(file, "from methods.method import Method\nclass Bare(Method):\n    pass\n"), "Bare")
    assert list(info.parameters) == ["steps"]
    assert info.parameters["steps"].annotation == "int"
    assert info.presets == {"standard": {}}


def test_hyperparameters_that_are_not_written_in_a_file_have_no_help(file):
    text = """
        from dataclasses import make_dataclass

        from methods.method import Method


        class Made(Method):
            Hyperparameters = make_dataclass("Hyperparameters", [("steps", int, 3)], frozen=True)
        """
    (steps,) = read(write(file, text)).parameters.values()
    assert (steps.name, steps.default, steps.help) == ("steps", 3, "")


CLASS = """
from dataclasses import dataclass
from methods.method import Method
class A(Method):
"""
FIELDS = f"{CLASS} @dataclass(frozen=True)\n class Hyperparameters:\n  "


@pytest.mark.parametrize(
    ("text", "class_name", "expected"),
    [
        ("def f(:\n", None, "cannot be imported: SyntaxError: .*mine.py, line 1"),
        ("x = '\0'", None, "cannot be imported: SyntaxError: "),
        ("", None, "has 0 methods; name a class after a colon; it has no class"),
        (f"{CLASS} pass\nclass B(A): pass", None, "has 2 methods; name a class after a colon; it has A, B"),
        (f"{CLASS} pass", "B", "has no class B; it has A"),
        (f"{CLASS} paper = 5", "A", "paper is 5, not a str"),
        (f"{CLASS} transductive = 'no'", "A", "transductive is 'no', not a bool"),
        (f"{CLASS} presets = {{'quick': 3}}", "A", "presets must map each preset to hyperparameters"),
        (f"{CLASS} class Hyperparameters:\n  steps: int = 1", "A", "A.Hyperparameters is not a dataclass"),
        (f"{FIELDS}steps: int", "A", "the hyperparameter steps has no default"),
        (f"{FIELDS}x: int = 1", "A", "Hyperparameters lacks `steps: int`"),
        (
            "x = 1\n1 / 0",
            None,
            r"cannot be imported: ZeroDivisionError: division by zero \(mine.py, line 2\)",
        ),
        ("import no_such_module", None, r"ModuleNotFoundError: .*no_such_module.* \(mine.py, line 1\)"),
        ("raise SystemExit", None, r"cannot be imported: SystemExit \(mine.py, line 1\)"),
        ("class A: pass", "A", "A is not a subclass of methods.method.Method"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_line(file, text, class_name, expected):
    assert re.search(expected, problem(file, text, class_name))


def test_a_file_that_is_not_text(file):
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be imported: "):
        read(file)


def test_the_methods_of_this_package_are_there_and_nothing_else_of_it():
    found = available()
    assert {"siamese_triplet", "protonet"} <= found.keys()
    assert not {"method", "registry", "backbones", "distances", "optimizers"} & found.keys()
    for info in found.values():
        assert info.problem == "" and info.description and info.paper and info.family
        assert info.presets.keys() >= {"smoke", "quick", "standard"}, info.name
        for preset in info.presets.values():
            assert preset.keys() <= {*info.parameters, "backbone"}
        assert all(parameter.help for parameter in info.parameters.values())


def test_a_description_is_remembered_until_a_file_of_the_package_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name, place in places().items():
        if not place.plugin:
            assert method_info.remembered(name) is None
            method_info.remember(info := describe(name, *place))
            assert method_info.remembered(name) == info
    monkeypatch.setattr(method_info, "_code", lambda: "of a changed file")
    assert method_info.remembered("protonet") is None


def test_a_damaged_copy_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    info = describe("protonet", *places()["protonet"])
    method_info.remember(info)
    [path] = tmp_path.rglob("protonet.json")
    for content in ("", "[]", "{}", '{"code": 3', path.read_text()[:-9]):
        path.write_text(content)
        assert method_info.remembered("protonet") is None
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    method_info.remember(info)
    assert method_info.remembered("protonet") is None


def test_every_method_loads_as_it_describes_itself():
    for info in available().values():
        method = load(info)
        defaults = method.Hyperparameters()
        assert method.family == info.family and method.presets == info.presets
        assert {name: getattr(defaults, name) for name in info.parameters} == {
            name: parameter.default for name, parameter in info.parameters.items()
        }


def test_a_foreign_file_is_loaded_and_its_annotations_resolved(file):
    # With `from __future__ import annotations` a dataclass looks its module up in sys.modules.
    loaded = load(read(write(file, NEAREST_MEAN)))
    assert loaded.Hyperparameters(steps=5).steps == 5
    assert sys.modules[loaded.__module__].NearestMean is loaded


@pytest.fixture
def plug_ins(tmp_path, monkeypatch):
    """Installs a package `foreign` whose entry points are given as lines."""

    def install(*lines: str) -> Path:
        package = tmp_path / "foreign"
        package.mkdir()
        write(package / "__init__.py", "")
        information = tmp_path / "foreign-1.0.dist-info"
        information.mkdir()
        write(information / "METADATA", "Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
        write(information / "entry_points.txt", "\n".join([f"[{ENTRY_POINT_GROUP}]", *lines, ""]))
        return package

    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (available, find, places)
    for cached in caches:
        cached.cache_clear()
    yield install
    for cached in caches:
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "foreign"]:
        del sys.modules[name]


def test_entry_points_are_described(plug_ins):
    package = plug_ins("nearest_mean = foreign.inner.mean:NearestMean", "by_itself = foreign.inner.mean")
    (package / "inner").mkdir()
    write(package / "inner" / "__init__.py", "")
    write(package / "inner" / "mean.py", NEAREST_MEAN)
    assert {"nearest_mean", "by_itself"} <= places().keys()
    assert "foreign" not in sys.modules
    for name in ("nearest_mean", "by_itself"):
        info = find(name)
        assert (info.name, info.source, info.class_name) == (name, "foreign.inner.mean", "NearestMean")
        assert info.plugin == "foreign 1.0"


def test_a_broken_plug_in_spoils_no_other_and_says_why(plug_ins):
    package = plug_ins(
        "gone = not_installed.anywhere:A",
        "missing = foreign.nothing:A",
        "broken = foreign.broken:A",
        "protonet = foreign.broken:A",
    )
    write(package / "broken.py", "class A(:")
    found = available()
    assert "No module named 'not_installed'" in found["gone"].problem
    assert "No module named 'foreign.nothing'" in found["missing"].problem
    assert "SyntaxError" in found["broken"].problem and "broken.py, line 1" in found["broken"].problem
    assert found["protonet"].source == "methods.protonet"  # ours cannot be replaced unseen
    assert found["siamese_triplet"].problem == ""


def test_a_mark_that_a_hyperparameter_brings_is_shown_and_names_one():
    found = {name: info.marked_when for name, info in available().items() if info.marked_when}
    assert {"maml", "reptile", "finetune"} <= found.keys()
    for name, marks in found.items():
        for mark, setting in marks.items():
            assert mark in ("transductive", "external data", "labelled novel images")
            assert setting.split("=")[0] in available()[name].parameters
            assert f"{mark} if {setting}" in show.marks(available()[name])
