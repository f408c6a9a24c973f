"""`--method all`: every method that can run, and one line about the others."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.common.errors import UserError
from bench.config.grid import build
from bench.run import runner
from bench.run.plan import Options
from methods.registry import available

ALL = [name for name, info in available().items() if not info.problem]


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_is_every_method_in_each_cell(capsys):
    given = {"preset": "smoke", "seed": [0, 1]}
    grid = build(None, given | {"method": ["all"]}, {})
    assert [(one.method, one.seed) for one in grid] == [(name, seed) for name in ALL for seed in (0, 1)]
    assert grid == build(None, given | {"method": ALL}, {}) and not capsys.readouterr().err
    assert build(None, given | {"method": ["protonet", "all", "easy"]}, {})[0].method == "protonet"
    Path("run.yaml").write_text("method: all\npreset: smoke\nseed: [0, 1]\n")
    assert build(Path("run.yaml"), {}, {}) == grid


def test_those_that_do_not_fit_are_named_in_one_line(capsys):
    with_margin = [name for name in ALL if "margin" in available()[name].parameters]
    assert with_margin != ALL
    assert [one.method for one in build(None, {"method": ["all"]}, {"margin": "0.3"})] == with_margin
    line = capsys.readouterr().err
    others = ", ".join(name for name in ALL if name not in with_margin)
    assert line == f"left out of --method all: {others} (--set margin=0.3: has no such hyperparameter)\n"


@pytest.mark.parametrize(
    ("flags", "sets", "problem"),
    [
        ({"split": ["90-10", "9o-10"]}, {}, "--split 9o-10: "),
        ({"preset": "quik"}, {}, "--preset quik: did you mean quick?"),
        ({}, {"margn": "1"}, "--set margn=1: "),
        ({"train": False}, {}, "--no-train"),
    ],
)
def test_what_fits_no_method_is_an_error(flags, sets, problem):
    with pytest.raises(UserError, match=problem):
        build(None, {"method": ["all"]} | flags, sets)


def test_a_run_beside_it_is_not_left_out():
    Path("run.yaml").write_text("preset: smoke\nruns: [{method: all}, {method: easy, seed: -1}]\n")
    with pytest.raises(UserError, match=r"run.yaml: run 2: seed -1: "):
        build(Path("run.yaml"), {}, {})
    Path("run.yaml").write_text("preset: smoke\nruns: [{method: all}, {method: easy, seed: 1}]\n")
    grid = build(Path("run.yaml"), {}, {})
    assert grid.optional == grid[:-1] and len(grid) == len(ALL) + 1


def test_what_shows_when_a_run_is_prepared_is_left_out_too(monkeypatch, capsys):
    def prepare(config, *_):
        if config.method in refused:
            raise UserError("--method", config.method, "needs more images")
        return SimpleNamespace(config=config, run_id=config.method)

    def rehearse(one):
        if one.config.method == "easy":
            raise UserError("--backbone", "conv4", "is too small")

    monkeypatch.setattr(runner, "prepare", prepare)
    monkeypatch.setattr(runner, "rehearse", rehearse)
    options, refused = Options(Path("results"), Path("runs"), ""), ("mtl", "siamese_reptile")
    grid = build(None, {"method": ["all"]}, {})
    ready = runner._prepared(grid, options)
    assert [one.config.method for one in ready] == [name for name in ALL if name not in (*refused, "easy")]
    expected = "mtl, siamese_reptile (needs more images); easy (--backbone conv4: is too small)"
    assert capsys.readouterr().err == f"left out of --method all: {expected}\n"
    for one_method_less in (list(grid), build(None, {"method": ["protonet", "mtl"]}, {})):
        with pytest.raises(UserError, match="--method mtl: needs more images"):
            runner._prepared(one_method_less, options)
    refused = ALL
    with pytest.raises(UserError, match="needs more images"):
        runner._prepared(grid, options)
