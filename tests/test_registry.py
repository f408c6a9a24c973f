import sys
import textwrap
from pathlib import Path

import pytest

from bench import show
from methods import registry
from methods.registry import ENTRY_POINT_GROUP, available, load, read_source

NEAREST_MEAN = '''
from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.method import Method, Shuffled, class_means


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


def read(path: Path, class_name: str | None = None) -> registry.MethodInfo:
    return read_source(path, path.stem, str(path), class_name)


def problem(path: Path, text: str, class_name: str | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        read(write(path, text), class_name)
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.py"


def test_a_method_is_described_by_its_source_without_running_it(file):
    info = read(write(file, NEAREST_MEAN + "\nraise SystemExit('this file was run')\n"))
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


def test_a_class_without_hyperparameters_has_the_contracts(file):
    info = read(write(file, "class Bare(Method):\n    pass\n"), "Bare")
    assert list(info.parameters) == ["steps"]
    assert info.parameters["steps"].annotation == "int"
    assert info.presets == {"standard": {}}


@pytest.mark.parametrize(
    ("text", "class_name", "expected"),
    [
        ("def f(:\n", None, "is not valid Python: line 1"),
        ("x = '\0'", None, "is not valid Python"),
        ("", None, "has 0 classes with Hyperparameters; name a class after a colon; it has none"),
        ("class A: pass", None, "name a class after a colon; it has A"),
        ("class A: pass", "B", "has no class B; it has A"),
        ("class A:\n family = name()", "A", "has no literal str for family in line 2: name()"),
        ("class A:\n paper = 5", "A", "has no literal str for paper in line 2: 5"),
        ("class A:\n transductive = 'no'", "A", "has no literal bool for transductive"),
        ("class A:\n presets = dict(quick={})", "A", "has no literal dict for presets in line 2"),
        ("class A:\n presets = {'quick': 3}", "A", "presets that are not a map"),
        (
            "class A:\n class Hyperparameters:\n  steps: int = N",
            "A",
            "has no literal for steps in line 3: N",
        ),
        ("class A:\n class Hyperparameters:\n  steps: int", "A", "no default for the hyperparameter steps"),
        ("class A:\n class Hyperparameters:\n  x: int = 1", "A", "Hyperparameters without `steps: int`"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(file, text, class_name, expected):
    assert expected in problem(file, text, class_name)


def test_a_file_that_is_not_text_or_not_there(file):
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not valid Python"):
        read(file)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(file.with_name("other.py"))


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "x = 1\n1 / 0\nclass A: pass",
            r"cannot be imported: ZeroDivisionError: division by zero \(mine.py, line 2\)",
        ),
        (
            "import no_such_module\nclass A: pass",
            r"ModuleNotFoundError: .*no_such_module.* \(mine.py, line 1\)",
        ),
        ("raise SystemExit\nclass A: pass", r"cannot be imported: SystemExit \(mine.py, line 1\)"),
        ("class A: pass\ndel A", "cannot be imported: AttributeError"),
        ("class A: pass", "A is not a subclass of methods.method.Method"),
        (
            "from methods.method import Method\nclass A(Method):\n class Hyperparameters:\n  steps: int = 1",
            "A.Hyperparameters is not a dataclass",
        ),
    ],
)
def test_a_foreign_file_that_fails_when_it_is_run(file, text, expected):
    with pytest.raises(ValueError, match=expected):
        load(read(write(file, text), "A"))


@pytest.fixture
def plug_ins(tmp_path, monkeypatch):
    """Installs a package `foreign` whose entry points are given as lines."""

    def install(*lines: str) -> Path:
        package = tmp_path / "foreign"
        package.mkdir()
        write(package / "__init__.py", "raise SystemExit('the package was run')")
        information = tmp_path / "foreign-1.0.dist-info"
        information.mkdir()
        write(information / "METADATA", "Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
        write(information / "entry_points.txt", "\n".join([f"[{ENTRY_POINT_GROUP}]", *lines, ""]))
        return package

    monkeypatch.syspath_prepend(str(tmp_path))
    available.cache_clear()
    yield install
    available.cache_clear()


def test_entry_points_are_described_without_running_their_package(plug_ins):
    package = plug_ins("nearest_mean = foreign.inner.mean:NearestMean", "by_itself = foreign.inner.mean")
    (package / "inner").mkdir()
    write(package / "inner" / "__init__.py", "")
    write(package / "inner" / "mean.py", NEAREST_MEAN)
    for name in ("nearest_mean", "by_itself"):
        info = available()[name]
        assert info.problem == ""
        assert (info.name, info.source, info.class_name) == (name, "foreign.inner.mean", "NearestMean")
    assert "foreign" not in sys.modules


def test_a_broken_plug_in_spoils_no_other_and_says_why(plug_ins):
    package = plug_ins(
        "gone = not_installed.anywhere:A",
        "missing = foreign.nothing:A",
        "broken = foreign.broken:A",
        "protonet = foreign.broken:A",
    )
    write(package / "broken.py", "class A(:")
    found = available()
    assert found["gone"].problem == "no module not_installed.anywhere is installed"
    assert found["missing"].problem == "no module foreign.nothing is installed"
    assert "broken.py is not valid Python: line 1" in found["broken"].problem
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
