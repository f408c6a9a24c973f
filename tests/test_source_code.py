"""The digest of a module's code: what changes it, and what does not."""

import importlib
import sys

import pytest

from bench.run import source_code
from bench.run.source_code import digest, own_files, stripped


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `probe` in which `one` imports `helper`, and `helper` imports `deep.leaf` in a function."""
    folder = tmp_path / "probe"
    (folder / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "one.py": "import json\nimport torch\nfrom probe import helper\nanswer = helper.sign\n",
        "helper.py": "sign = 1\n\ndef later():\n    from .deep import leaf\n    return leaf\n",
        "deep/__init__.py": "",
        "deep/leaf.py": "value = 1\n",
        "unused.py": "value = 1\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    imported_again()
    yield folder
    unload()


def unload() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "probe"]:
        del sys.modules[name]


def imported_again() -> None:
    """As in the next process."""
    unload()
    importlib.invalidate_caches()
    importlib.import_module("probe.one")


def test_it_follows_imports_and_leaves_libraries_out(package):
    names = {"probe", "probe.one", "probe.helper", "probe.deep", "probe.deep.leaf"}
    assert own_files("probe.one").keys() == names
    assert own_files("probe.one", without=("probe.deep*",)).keys() == {"probe", "probe.one", "probe.helper"}


@pytest.mark.parametrize("name", ["one", "helper", "deep/leaf"])
def test_another_statement_anywhere_is_another_digest(package, name):
    before = digest("probe.one")
    path = package / f"{name}.py"
    path.write_text(path.read_text().replace("1", "-1") + ("x = 0\n" if name == "one" else ""))
    imported_again()
    assert digest("probe.one") != before


def test_comments_and_docstrings_and_other_modules_change_nothing(package):
    before = digest("probe.one")
    (package / "helper.py").write_text(
        '"""What it is."""\n# why\nsign = 1  # of the answer\n\n\n'
        'def later():\n    """Several\n    lines."""\n\n    from .deep import leaf\n    return leaf\n'
    )
    (package / "unused.py").write_text("value = 2\n")
    imported_again()
    assert digest("probe.one") == before


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"doc"; loss = -loss\n', '"doc"; loss = -loss'),
        ('text = "# no comment"  # a comment\n', 'text = "# no comment"'),
        ('if x:\n    """a\n\n    b"""\n    y = """a\n\n# b"""\n', 'if x:\n    y = """a\n# b"""'),
        ('é = "é"; "doc"\n', 'é = "é"; "doc"'),
        ("f(\n    1,  # one\n)\n", "f(\n    1,\n)"),
        ('a = ("#1"  # one\n     "#2")  # two\n# three\n', 'a = ("#1"\n     "#2")'),
        ('é = f"{x}#"; y = 1  # é\nz = 2  # #\n', 'é = f"{x}#"; y = 1\nz = 2'),
    ],
)
def test_what_is_stripped(source, expected):
    assert stripped(source) == expected


def test_methods_of_this_repository_depend_on_the_contract():
    importlib.import_module("methods.protonet")
    assert {"methods.protonet", "methods.method", "methods.distances"} <= own_files("methods.protonet").keys()
    assert source_code.digest("methods.protonet") == source_code.digest("methods.protonet")
