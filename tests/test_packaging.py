"""What an installed bench needs is installed with it."""

import os
import runpy
from configparser import ConfigParser
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import bench

ROOT = Path(__file__).parents[1]


def test_files_other_than_code_are_packaged():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = {
        f"{package.replace('.', os.sep)}{os.sep}{pattern}"
        for package, listed in setup["options.package_data"].items()
        for pattern in listed.split()
    }
    others = [
        os.path.relpath(path, ROOT)
        for package in ("bench", "methods")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    ]
    assert {"bench/reporting/report_page/page.html", "bench/py.typed", "methods/py.typed"} <= {*others}
    assert [name for name in others if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_a_source_tree_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert runpy.run_path(bench.__file__)["__version__"] == "0+unknown"
