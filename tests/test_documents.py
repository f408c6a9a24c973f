"""The example of CONTRIBUTING.md is a working method; what other documents and metadata say is complete."""

import functools
import json
import operator
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch
import yaml

import bench
from bench.data.names import DATASETS
from methods import registry
from methods.backbones import build
from methods.batches import LabelledBatch, Shuffled

ROOT = Path(__file__).parents[1]
CROISSANT = json.loads((ROOT / "croissant.json").read_text(encoding="utf-8"))


def test_the_example_method_trains_and_passes_its_test(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "softmax_centroid.py"
    path.write_text(source)
    info = registry.describe("softmax_centroid", str(path))
    assert {p.help for p in info.parameters.values()} and all(p.help for p in info.parameters.values())
    method_class = registry.load(info)

    method = method_class(build("conv4"), method_class.Hyperparameters(**{"images": 6}), num_classes=3)
    assert method.batches() == Shuffled(6)
    batch = LabelledBatch(torch.randn(6, 3, 32, 32), torch.arange(6) % 3)
    method.training_step(batch, 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.head.parameters())
    assert method.configure_optimizers()

    monkeypatch.setitem(sys.modules, "methods.softmax_centroid", sys.modules[method_class.__module__])
    found: dict = {}
    exec(test, found)
    tests = [function for name, function in found.items() if name.startswith("test_")]
    assert tests
    for function in tests:
        function()


def test_the_datasheet_has_every_data_set():
    text = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    for name in DATASETS:
        assert f"## {name}\n" in text or name.partition(":")[0] in ("folder", "hf")


def test_the_reference_has_every_public_name():
    """As mkdocstrings finds them, without importing: for it `bench.run` is the package, not the function."""
    import griffe

    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    code = griffe.load("bench", search_paths=[ROOT])
    shown = [code[path] for path in re.findall(r"^::: bench\.(\S+)$", page, re.MULTILINE)]
    documented = {one.name for one in shown if one.kind.value in ("function", "class") and one.docstring}
    functions = {name for name in bench.__all__ if callable(getattr(bench, name))}
    assert functions == {"Episodes", "evaluate", "load", "results", "run"}
    assert {*functions, "Result", "Predictor"} <= documented


def test_the_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert citation["version"] == setup["metadata"]["version"] == CROISSANT["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_extras_that_documents_and_messages_name_exist():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
    messages = [path.read_text(encoding="utf-8") for path in (ROOT / "bench").rglob("*.py")]
    named = set(re.findall(r"--extra (\w+)", "\n".join(texts)))
    named |= set(re.findall(r"with_extra\([\"'](\w+)", "\n".join(messages)))
    assert {"demo", "export", "hf", "ray", "test"} <= named <= set(setup["options.extras_require"])
    assert not re.search(r"pip install \"?fewshot-bench", "\n".join(texts + messages))  # it is not published


@pytest.mark.slow
def test_croissant_is_valid():
    import mlcroissant

    issues = mlcroissant.Dataset(ROOT / "croissant.json").metadata.ctx.issues
    assert not issues.errors and not issues.warnings


def test_croissant_describes_the_records():
    """Its library reads sets of files only from archives, so the fields are looked up here."""
    folder, records, answers = CROISSANT["distribution"]
    found = sorted((ROOT / folder["contentUrl"]).glob(records["includes"]))
    assert len(found) > 50
    assert len(list((ROOT / folder["contentUrl"]).glob(answers["includes"]))) == len(found)
    assert CROISSANT["conformsTo"].startswith("http://mlcommons.org/croissant/")
    record_set = CROISSANT["recordSet"][0]
    for field in record_set["field"]:
        assert field["@id"] == f"{record_set['@id']}/{field['name']}" and field["dataType"].startswith("sc:")
        assert field["source"]["fileSet"]["@id"] == records["@id"]
    paths = {field["name"]: field["source"]["extract"]["jsonPath"] for field in record_set["field"]}
    keys = {name: re.findall(r"(?:\$|\.)(\w+)|\['([^']+)'\]", path) for name, path in paths.items()}
    without = 0
    for path in found:
        record = json.loads(path.read_text())
        row = {name: at(record, [key or quoted for key, quoted in parts]) for name, parts in keys.items()}
        for metric in ("5w1s", "5w5s", "pair_accuracy", "triplet_accuracy"):
            ends = [row[metric + end] for end in ("_low", "", "_high")]
            assert ends == [None] * 3 or 0 <= ends[0] <= ends[1] <= ends[2] <= 1
            without += ends[1] is None
    assert without < len(found) / 10, "most records have all of them"


def at(record, keys):
    """What is at a JSON path of a record; None for a metric that it does not have; raises for other paths."""
    if keys[0] == "metrics" and keys[1] not in record["metrics"]:
        return None
    return functools.reduce(operator.getitem, keys, record)
