"""The grid of runs that flags and a configuration file make."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import complaint

from bench.common.errors import UserError
from bench.config.grid import build
from bench.config.lists import separated
from bench.config.run_config import RunConfig, resolve
from bench.run import runner
from bench.run.plan import Options
from methods.registry import available

STUDIES = Path(__file__).parents[1] / "studies"
ABLATION, MAIN = STUDIES / "mtl_ablation.yaml", STUDIES / "main.yaml"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes run.yaml into an empty working directory, and gives its path."""
    monkeypatch.chdir(tmp_path)

    def write(content: str) -> Path:
        Path("run.yaml").write_text(content)
        return Path("run.yaml")

    return write


def told(path: Path | None, sets: dict[str, str] | None = None, **flags) -> str:
    with pytest.raises(UserError) as caught:
        build(path, flags, sets or {})
    return str(caught.value)


def cells(grid: list[RunConfig]) -> list[tuple[str, str, int]]:
    return [(one.method, one.split, one.seed) for one in grid]


TEN = [f"{base}-{100 - base}" for base in range(10, 101, 10)]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("ratios", TEN),
        (["ratios"], TEN),
        (["fc100", "ratios"], ["fc100", *TEN]),
        (["90-10", "ratios"], ["90-10", *[name for name in TEN if name != "90-10"]]),
    ],
)
def test_ratios_stands_for_all_ten_ratio_splits(file, given, expected):
    by_flag = build(None, {"method": "protonet", "split": given}, {})
    assert [one.split for one in by_flag] == expected
    assert build(file(f"method: protonet\nsplit: {given}\n"), {}, {}) == by_flag


def test_a_file_may_list_presets_and_values_of_a_hyperparameter(file):
    content = (
        "method: protonet\npreset: [smoke, quick]\nhyperparameters: {scale: [2.0, 5.0], train_shot: 2}\n"
    )
    grid = build(file(content), {}, {})
    found = [(one.preset, one.hyperparameters["scale"], one.hyperparameters["train_shot"]) for one in grid]
    assert found == [(preset, scale, 2) for preset in ("smoke", "quick") for scale in (2.0, 5.0)]


def test_ratios_leaves_out_the_one_without_novel_classes_where_only_those_are_measured():
    flags = {"method": "protonet", "split": ["ratios"]}
    for measure in (["5w1s"], "5w1s,5w5s"):  # a file may have either
        assert [one.split for one in build(None, flags | {"measure": measure}, {})] == TEN[:-1]
    for measure in (["5w1s", "pairs"], "5w1s, pairs"):
        assert [one.split for one in build(None, flags | {"measure": measure}, {})] == TEN


def test_every_combination_of_methods_splits_and_seeds_in_order():
    grid = build(
        None, {"method": ["protonet", "siamese_triplet"], "split": ["90-10", "fc100"], "seed": [1, 0]}, {}
    )
    assert cells(grid) == [
        (method, split, seed)
        for method in ("protonet", "siamese_triplet")
        for split in ("90-10", "fc100")
        for seed in (1, 0)
    ]
    assert build(None, {"method": ["protonet"]}, {}) == [resolve({"method": "protonet"}, {}, {})]


def test_the_file_may_list_them_too_and_flags_win(file):
    path = file("method: [protonet, siamese_triplet]\nseed: [0, 2]\nsplit: fc100\npreset: quick\n")
    assert cells(build(path, {}, {})) == [
        ("protonet", "fc100", 0),
        ("protonet", "fc100", 2),
        ("siamese_triplet", "fc100", 0),
        ("siamese_triplet", "fc100", 2),
    ]
    over = build(path, {"method": ["protonet"], "seed": [5], "preset": "smoke", "split": ["90-10"]}, {})
    assert cells(over) == [("protonet", "90-10", 5)] and over[0].preset == "smoke"


def test_each_run_of_a_list_is_merged_over_what_all_share(file):
    path = file(
        """
        method: protonet
        preset: quick
        seed: [0, 1]
        hyperparameters: {steps: 30}
        runs:
          - {}
          - {preset: smoke, seed: 4, hyperparameters: {scale: 5.0, train_shot: 2}}
          - {method: siamese_triplet, split: [fc100, 90-10], seed: 1, hyperparameters: {}}
        """
    )
    grid = build(path, {}, {})
    assert cells(grid) == [
        ("protonet", "90-10", 0),
        ("protonet", "90-10", 1),
        ("protonet", "90-10", 4),
        ("siamese_triplet", "fc100", 1),
        ("siamese_triplet", "90-10", 1),
    ]
    assert [one.preset for one in grid] == ["quick", "quick", "smoke", "quick", "quick"]
    assert {one.hyperparameters["steps"] for one in grid} == {30}
    assert grid[0].hyperparameters["scale"] == 10.0
    own = grid[2].hyperparameters
    assert (own["scale"], own["train_shot"], own["train_way"]) == (5.0, 2, 5)


def test_a_run_s_hyperparameter_wins_over_the_shared_one_and_flags_over_both(file):
    path = file(
        "method: protonet\nhyperparameters: {scale: 3.0, train_shot: 2}\n"
        "runs: [hyperparameters: {scale: 5.0}, hyperparameters: {train_way: 9}]"
    )
    found = [
        tuple(one.hyperparameters[name] for name in ("scale", "train_shot", "train_way", "steps"))
        for one in build(path, {"steps": 7}, {"train_shot": "4"})
    ]
    assert found == [(5.0, 4, 30, 7), (3.0, 4, 9, 7)]


def test_flags_win_in_every_run(file):
    path = file("method: protonet\nruns: [{seed: 1, preset: smoke}, {seed: 2, backbone: resnet20}]")
    grid = build(path, {"preset": "quick", "backbone": "conv4", "weights": "trained.pt", "train": False}, {})
    assert cells(grid) == [("protonet", "90-10", 1), ("protonet", "90-10", 2)]
    assert {(one.preset, one.backbone, one.train) for one in grid} == {("quick", "conv4", False)}


def test_a_run_that_comes_twice_is_run_once(file):
    path = file(
        """
        method: protonet
        preset: quick
        seed: [0, 0]
        runs:
          - {}
          - {hyperparameters: {steps: 2731}}
          - {backbone: conv4}
          - {hyperparameters: {steps: 2732}}
        """
    )
    assert [one.hyperparameters["steps"] for one in build(path, {}, {})] == [2731, 2732]
    assert len(build(path, {"steps": 9}, {})) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("method: protonet\nseed: [0, one]", "run.yaml: seed one: must be a whole number"),
        ("method: protonet\nsplit: [90]", "run.yaml: split 90: must be text"),
        ("method: protonet\npreset: [quick, quik]", "run.yaml: preset quik: did you mean quick?"),
        (
            "method: protonet\nhyperparameters: {scale: []}",
            "run.yaml: hyperparameters.scale []: must name at",
        ),
        ("method: protonet\nhyperparameters: {scale: [1.0, x]}", "run.yaml: hyperparameters.scale x: "),
        ("method: protonet\nrun: []", "run.yaml: run: no such key; did you mean runs? allowed: "),
        ("method: protonet\nruns: [{1: 2}]", "run.yaml: run 1 {1: 2}: must be a map from names to values"),
        ("method: protonet\nruns: [{}, {sead: 1}]", "run.yaml: run 2: sead: no such key; did you mean seed?"),
        ("method: protonet\nseed: -1\nruns: [{seed: 1}, {}]", "run.yaml: seed -1: must be at least 0"),
        (
            "method: protonet\nruns: [{}, {way: 5}]",
            "run.yaml: run 2: shot: is missing; an additional setting",
        ),
        ("method: protonet\nruns: [{seed: []}]", "run.yaml: run 1: seed []: must name at least one"),
        (
            "method: protonet\nruns: [{}, {hyperparameters: {scale: x}}]",
            "run.yaml: run 2: hyperparameters.scale x: must be a number",
        ),
        (
            "method: protonet\nhyperparameters: {scale: x}\nruns: [{hyperparameters: {steps: 1}}]",
            "run.yaml: hyperparameters.scale x: must be a number",
        ),
        (
            "method: protonet\nruns: [{hyperparameters: {scael: 1}}]",
            "run.yaml: run 1: hyperparameters.scael 1: protonet has no such hyperparameter; did",
        ),
        (
            "method: protonet\nruns: [{hyperparameters: [1]}]",
            "run.yaml: run 1: hyperparameters [1]: must be a map from name to value",
        ),
        (
            "method: protonet\nhyperparameters: 5\nruns: [{hyperparameters: {scale: 1}}]",
            "run.yaml: hyperparameters 5: must be a map from name to value",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_the_run_and_the_key(file, content, expected):
    """More of them are in test_bad_input_config.py."""
    file(content)
    assert complaint("run", "--config", "run.yaml").startswith(expected)


def test_a_flag_is_blamed_for_what_it_says(file):
    path = file("method: protonet\nseed: 3\nruns: [{seed: 1}, {preset: smoke}]")
    assert told(path, seed=[-1]) == "--seed -1: must be at least 0"
    assert told(path, steps=0) == "--steps 0: must be at least 1"
    assert told(path, {"steps": "0"}) == "--set steps=0: must be at least 1"
    assert told(path, preset="quik").startswith("--preset quik: did you mean quick?")
    assert told(path, method=["protonte"]).startswith("--method protonte: did you mean protonet?")
    assert told(None, way=5).startswith("--method: is missing")
    # `episodes` is a flag and a hyperparameter.
    own = {"method": ["protonet"], "way": 5, "shot": 1, "episodes": 10}
    assert told(None, {"episodes": "0"}, **own) == "--set episodes=0: must be at least 1"


def test_comma_lists():
    assert separated("--seed", None) == []
    assert separated("--seed", ["1, 2", "2,3"]) == ["1", "2", "3"]
    for values, given in ((["a,"], "a,"), ([""], "''"), (["a", " "], " ")):
        with pytest.raises(UserError) as caught:
            separated("--method", values)
        assert str(caught.value) == f"--method {given}".rstrip() + ": names must not be empty"


@pytest.mark.parametrize("preset, backbone", [(None, "conv4"), ("paper", "resnet12"), ("smoke", "conv4")])
def test_the_ablation_of_mtl_is_its_four_rows_with_any_preset(preset, backbone):
    """Nothing but the switches and the source's start differs from the preset, so that the rows compare."""
    grid = build(ABLATION, {"preset": preset, "steps": 40000} if preset else {}, {})
    switches = ("init", "scale_shift", "hard_task_batch")
    arms = [
        ("scratch", False, False),
        ("pretrained", False, False),
        ("pretrained", True, False),
        ("pretrained", True, True),
    ]
    for shot in (1, 5, 10):
        for seed in (0, 1, 2):
            own = [one for one in grid if (one.hyperparameters["train_shot"], one.seed) == (shot, seed)]
            found = {tuple(one.hyperparameters[name] for name in switches) for one in own}
            assert found == set(arms)
    assert {(one.method, one.split, one.preset, one.backbone) for one in grid} == {
        ("mtl", "fc100", preset or "quick", backbone)
    }
    assert {one.hyperparameters["head"] for one in grid} == {"kaiming"}
    assert all(set(one.overrides) <= {*switches, "head", "train_shot", "steps"} for one in grid)
    assert preset or any(one.overrides == {"head": "kaiming"} for one in grid)  # the method itself


def test_the_main_study_is_every_method_from_both_starts():
    """Nothing but the start differs from the preset, so that all rows of a split are one track."""
    grid = build(MAIN, {}, {})
    assert len(grid) == len(set(map(repr, grid))) == (6 + 2 * 9) * 3 * 3
    assert {one.method for one in grid} == {
        name for name, info in available().items() if info.source == f"methods.{name}"
    }
    assert {one.split for one in grid} == {"90-10", "cifar-fs", "fc100"} and {one.seed for one in grid} == {
        0,
        1,
        2,
    }
    assert {one.preset for one in grid} == {"quick"} and {one.backbone for one in grid} == {"conv4"}
    assert all(one.overrides.keys() <= {"init"} for one in grid)
    starts = {(one.method, one.hyperparameters["init"]) for one in grid if "init" in one.hyperparameters}
    assert len(starts) == 2 * 9


def test_each_run_of_a_grid_is_prepared_once_and_one_seed_is_rehearsed(monkeypatch, tmp_path):
    calls = []

    def prepare(config, options, materials):
        calls.append(("prepare", config.seed))
        return SimpleNamespace(config=config, run_id=f"seed{config.seed}")

    monkeypatch.setattr(runner, "prepare", prepare)
    monkeypatch.setattr(runner, "rehearse", lambda one: calls.append(("rehearse", one.config.seed)))
    monkeypatch.setattr(runner, "run", lambda one, *_: calls.append(("run", one.config.seed)))
    grid = build(None, {"method": ["protonet"], "preset": "quick", "seed": [3, 4]}, {})
    list(runner.run_all(grid, Options(tmp_path, tmp_path, "")))
    assert calls == [("prepare", 3), ("prepare", 4), ("rehearse", 3), ("run", 3), ("run", 4)]
