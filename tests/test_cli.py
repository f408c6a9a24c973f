"""Commands that answer at once, and every way to get a flag wrong before anything heavy is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import bench, complaint
from record_factory import make_episodes, make_record

from bench.__main__ import INTERRUPTED
from bench.config.lists import MEASURES
from bench.records import store
from methods.method_info import remember
from methods.registry import find

pytestmark = pytest.mark.usefixtures("empty_folder")

HEAVY = {
    "torch",
    "pytorch_lightning",
    "timm",
    "learn2learn",
    "torchvision",
    "pandas",
    "pyarrow",
    "matplotlib",
}
METHOD = ["run", "--method", "siamese_triplet"]

LIGHT = [
    ["--help"], [], ["run", "--help"], ["data", "info", "-h"], ["list", "splits"],
    ["list", "datasets"], ["list", "backbones"], ["list", "presets"], ["foo"], ["predict", "-h"],
    [*METHOD, "--split", "91-10"], [*METHOD, "--device", "gpu"],
]  # fmt: skip


@pytest.mark.slow
def test_quick_commands_import_nothing_heavy(tmp_path, monkeypatch):
    """In one process, the heavier commands last; first the import of the leaderboard alone."""
    store.write(record := make_record(), tmp_path / "results", make_episodes())
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    remember(find(record.method))  # as an earlier command does
    code = f"""
import sys
import bench.reporting.leaderboard
loaded = {HEAVY | {"numpy", "scipy", "tabulate"}} & set(sys.modules)
assert not loaded, loaded
from bench.__main__ import main
def call(arguments, heavy):
    sys.argv = ["bench", *arguments]
    try:
        main()
    except SystemExit:
        pass
    loaded = heavy & set(sys.modules)
    assert not loaded, (arguments, loaded)
for arguments in {LIGHT}:
    call(arguments, {HEAVY})
call(["validate"], {HEAVY})
for arguments in (["leaderboard"], ["list", "runs"]):
    call(arguments, {HEAVY - {"pandas", "pyarrow"}})  # pandas imports pyarrow
"""
    environment = os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command_and_flag():
    for arguments in ([], ["--help"], ["-h"]):
        answer = bench(*arguments)
        assert (answer.code, answer.err) == (0, "")
        assert all(command in answer.out for command in ("run", "list", "leaderboard", "data"))
    assert "DIR/<class>/<image>" in bench("predict", "--help").out
    answer = bench("run", "--help")
    assert all(name in answer.out for name in MEASURES)
    for flag in (
        "method", "split", "seed", "dataset", "data-root", "image-size", "backbone", "weights", "no-train",
        "preset", "steps", "way", "shot", "query", "episodes", "config", "set", "device", "precision",
        "results", "runs", "overwrite", "offline", "json",
    ):  # fmt: skip
        assert f"--{flag} " in answer.out


def test_a_mistyped_command():
    assert complaint("leaderbord") == (
        "leaderbord: no such command; did you mean leaderboard? allowed: run, rank, sweep, list, show, "
        "leaderboard, docs, report, figures, compare, validate, predict, similarity, export, demo, "
        "new-method, check-method, data"
    )
    assert complaint("data", "inf") == "inf: no such command; did you mean info? allowed: info, verify, cache"
    assert complaint("data") == "data: needs a command; allowed: info, verify, cache"


def test_a_mistyped_flag():
    text = complaint("run", "--stepz", "3")
    assert text.startswith("--stepz: no such flag; did you mean --steps? allowed: --method, ")
    text = complaint("leaderboard", "--chek")
    assert text.startswith("--chek: no such flag; did you mean --check? allowed: ")
    assert complaint("run", "-x").startswith("-x: no such flag; allowed: --method, ")


def test_flags_without_a_value_and_with_one_too_many():
    assert complaint("run", "--steps") == "--steps: requires an argument"
    assert complaint("run", "--method") == "--method: requires an argument"
    assert complaint(*METHOD, "--overwrite=yes") == "--overwrite: does not take a value"
    assert "siamese_triplet" in complaint("run", "siamese_triplet")


@pytest.mark.parametrize("flag", ["steps", "way", "shot", "query", "episodes", "image-size", "seed"])
@pytest.mark.parametrize("value", ["1.5", "٣"])
def test_whole_numbers(flag, value):
    assert complaint(*METHOD, f"--{flag}", value) == f"--{flag} {value}: must be a whole number"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("list", "WHAT: is missing; methods, splits, datasets, backbones, presets or runs"),
        ("list methds", "list methds: did you mean methods? allowed: methods, splits, "),
        ("list methods --method proto", "--method proto: did you mean protonet?"),
        (
            "list splits --method protonet",
            "--method protonet: can only be combined with `list methods`, not with `list splits`",
        ),
        ("leaderboard", "--results results: no such folder; `python -m bench run` creates it"),
        ("leaderboard --check --results x", "--results x: no such folder"),
        ("data info --dataset glyph", "--dataset glyph: did you mean glyphs?"),
        ("data info --image-size x", "--image-size x: must be a whole number"),
        (
            "data verify --dataset folder:nowhere",
            "--dataset folder:nowhere: no such folder; must be a folder with",
        ),
    ],
)
def test_bad_input_of_the_other_commands(command, expected):
    assert complaint(*command.split()).startswith(expected)


def test_a_flag_that_wins_over_the_file_is_the_one_that_is_blamed(tmp_path):
    (tmp_path / "run.yaml").write_text("method: protonet\nseed: -1\npreset: smoke\n")
    assert complaint("run", "--config", "run.yaml") == "run.yaml: seed -1: must be at least 0"
    assert complaint("run", "--config", "run.yaml", "--seed", "-2") == "--seed -2: must be at least 0"
    both = complaint("run", "--config", "run.yaml", "--seed", "0", "--preset", "quik")
    assert both.startswith("--preset quik: ")


def test_methods_are_listed_as_a_table_and_as_json():
    table = bench("list", "methods")
    rows = json.loads(bench("list", "methods", "--json").out)
    assert table.code == 0
    for row in rows:
        assert row["name"] in table.out and row["paper"] in table.out
    assert {"siamese_triplet", "protonet"} <= {row["name"] for row in rows}


def test_one_method_is_described_with_its_hyperparameters():
    page = bench("list", "methods", "--method", "siamese_triplet").out
    assert "learning_rate" in page and "Schroff et al. 2015" in page
    described = json.loads(bench("list", "methods", "--method", "siamese_triplet", "--json").out)
    assert described["parameters"]["mining"]["default"] == "soft"
    assert described["presets"]["original"]["backbone"] == "resnet56"


def test_runs_are_listed_where_there_are_any(tmp_path):
    assert bench("list", "runs").out == "(none)\n"
    assert json.loads(bench("list", "runs", "--json").out) == []
    store.write(make_record(), tmp_path / "results")
    assert make_record().run_id in bench("list", "runs").out


def test_the_leaderboard_is_written_checked_and_found_stale(tmp_path):
    store.write(make_record(), tmp_path / "results", make_episodes())
    stale = bench("leaderboard", "--check")
    assert (stale.code, stale.out) == (1, "")
    assert stale.err == "leaderboard.md is out of date: run `python -m bench leaderboard`\n"

    assert bench("leaderboard") == (0, "leaderboard.md\n", "")
    assert "`protonet (quick)`" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert bench("leaderboard", "--check") == (0, "leaderboard.md is up to date\n", "")

    store.write(make_record(seed=1), tmp_path / "results", make_episodes())
    assert bench("leaderboard", "--check").code == 1


def test_a_check_names_a_damaged_record(tmp_path):
    store.write(make_record(), tmp_path / "results", make_episodes())
    for command in ("leaderboard", "docs"):
        assert bench(command).code == 0
        assert bench(command, "--check").code == 0
    (tmp_path / "results" / "broken.json").write_text("{}")
    for command in ("leaderboard", "docs"):
        answer = bench(command, "--check")
        assert answer.code == 1 and "is up to date" in answer.out
        assert answer.err.startswith("warning: --results results/broken.json: ")


def test_a_damaged_record_is_named_and_the_others_are_still_ranked(tmp_path):
    store.write(make_record(), tmp_path / "results", make_episodes())
    (tmp_path / "results" / "broken.json").write_text("{}")
    answer = bench("leaderboard")
    assert answer.code == 1 and answer.out == "leaderboard.md\n"
    assert answer.err.startswith("warning: --results results/broken.json: ")
    assert "`protonet (quick)`" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_a_file_where_the_folder_of_records_should_be(tmp_path):
    (tmp_path / "results").write_text("")
    assert complaint("leaderboard") == "--results results: must be a folder of records (Not a directory)"


def test_ctrl_c_is_one_line(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.reporting.show.listing", interrupt)
    answer = bench("list", "methods")
    assert answer == (130, "", f"error: {INTERRUPTED}\n")


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(monkeypatch):
    def bug(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("bench.reporting.show.listing", bug)
    with pytest.raises(ZeroDivisionError):
        bench("list", "methods")
