"""Whole runs through the command line, on a folder of eight classes of striped noise."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from command_line import Answer, bench, complaint, files_in
from forked_runs import ctrl_c
from safetensors.torch import save_file

from bench.__main__ import INTERRUPTED
from bench.records import store
from bench.records.arrays import read_episodes
from bench.run.locks import LOCKS
from methods import backbones

COMMON = ["run", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke", "--device", "cpu"]
COMMON += ["--image-size", "16"]
OWN = ["--way", "3", "--shot", "2", "--query", "5", "--episodes", "50"]
GRID = [*COMMON, *OWN, "--method", "siamese_triplet,protonet", "--seed", "0,1", "--steps", "3"]
SIAMESE = [*COMMON, "--method", "siamese_triplet"]


@pytest.fixture(scope="module")
def grid(workspace) -> Answer:
    """Two methods with two seeds each."""
    answer = bench(*GRID)
    assert answer.code == 0, answer.err
    return answer


def recorded(folder: Path) -> list[Path]:
    """What a folder of results holds, but for the locks."""
    return [path for path in folder.iterdir() if path.name != LOCKS]


def paths_of(answer: Answer) -> list[Path]:
    return [Path(line) for line in answer.out.splitlines() if line.endswith(".json")]


@pytest.mark.slow
def test_one_record_for_each_method_and_seed_and_their_paths_come_last(grid):
    paths = paths_of(grid)
    assert grid.out.splitlines()[-4:] == [str(path) for path in paths]
    found = [store.read(path) for path in paths]
    assert [(record.method, record.seed) for record in found] == [
        ("siamese_triplet", 0),
        ("siamese_triplet", 1),
        ("protonet", 0),
        ("protonet", 1),
    ]
    assert grid.out.count("\n  3w2s5q ") == 4


def test_the_plan_and_the_progress_are_on_stderr_only(grid):
    for line in ("backbone  conv4, 112,832 parameters", "training  3 steps, seed 1", "class"):
        assert line in grid.err or line in grid.out
    assert "50-50: 4 base, 4 novel classes; 136 training images" in grid.err
    assert "measures  pairs, triplets, 4w1s, 4w5s, allw1s, 3w2s5q" in grid.err
    said = " ".join(grid.err.split())
    assert "5w1s (way 5: at most 4, the number of novel classes), measured as 4w1s instead" in said
    assert "training: 3/3 steps" in grid.err and "loss" in grid.err
    assert "training" not in grid.out and "steps  " not in grid.out


def test_a_record_says_everything_about_its_run(grid):
    record = store.read(paths_of(grid)[0])
    assert record.hyperparameters["steps"] == 3 and record.hyperparameters["classes"] == 8
    assert record.config["overrides"] == {"steps": 3}
    assert record.config["split"] == "50-50" and record.config["way"] == 3
    assert (record.backbone, record.parameters, record.trained) == ("conv4", 112_832, True)
    assert record.command.startswith("python -m bench run --dataset folder:images")
    assert (record.classes.base, record.classes.novel, record.classes.novel_images) == (4, 4, 80)
    assert record.classes.train_images == 136

    assert {
        "fewshot/3w2s5q",
        "fewshot/allw1s",
        "novel/pair_accuracy",
        "base/triplet_accuracy",
    } <= record.metrics.keys()
    own = record.episodes["3w2s5q"]
    assert (own.way, own.shot, own.query, own.count) == (3, 2, 5, 50)
    assert record.metrics["fewshot/3w2s5q"].n == 50
    assert record.per_class.keys() == {f"class{number}" for number in range(4, 8)}

    timings = record.timings
    assert timings.steps == 3 and 0 < timings.train_s < timings.total_s
    assert timings.train_images_per_s > 0 and timings.episodes_per_s > 0 and timings.peak_memory_mib > 100
    where = record.environment
    assert where.device == "cpu" and where.libraries["torch"].startswith(torch.__version__.partition("+")[0])
    assert where.cpu and where.threads == torch.get_num_threads()


def test_the_accuracies_of_the_episodes_lie_beside_the_record(grid, workspace):
    record = store.read(paths_of(grid)[0])
    assert record.episodes.keys() == {"3w2s5q", "4w1s", "4w5s", "allw1s"}
    episodes = read_episodes(record, workspace / "results", ["3w2s5q", "allw1s"])
    assert episodes["3w2s5q"].shape == (50,)
    assert episodes["3w2s5q"].mean() == pytest.approx(record.metrics["fewshot/3w2s5q"].value)


def test_all_methods_and_seeds_see_the_same_episodes(grid):
    found = [store.read(path) for path in paths_of(grid)]
    assert len({record.episodes["3w2s5q"].sha256 for record in found}) == 1
    assert len({record.metrics["novel/pair_auc"].value for record in found}) > 1


def test_the_same_command_again_trains_nothing_and_says_so(grid, workspace):
    before = files_in(workspace / "results") | files_in(workspace / "runs")
    again = bench(*GRID)
    assert (again.code, again.out) == (0, grid.out)
    lines = again.err.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("is already recorded; --overwrite runs it again") for line in lines)
    assert files_in(workspace / "results") | files_in(workspace / "runs") == before


@pytest.mark.slow
def test_the_resolved_yaml_gives_the_same_numbers_to_the_last_bit(grid, workspace):
    path = paths_of(grid)[2]
    first, episodes = store.read(path), path.with_suffix(".npz").read_bytes()
    resolved = Path("runs", first.run_id, "config.yaml")
    assert yaml.safe_load(resolved.read_text())["hyperparameters"] == first.hyperparameters
    answer = bench("run", "--config", resolved, "--device", "cpu", "--overwrite")
    assert paths_of(answer) == [path], answer.err
    second = store.read(path)
    assert second.created > first.created
    for field in ("metrics", "per_class", "constant_answer", "thresholds", "episodes", "config"):
        assert getattr(second, field) == getattr(first, field), field
    assert path.with_suffix(".npz").read_bytes() == episodes


@pytest.mark.slow
def test_json_is_all_there_is_on_stdout(grid):
    answer = bench(*GRID, "--json")
    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [(record["method"], record["seed"]) for record in found] == [
        ("siamese_triplet", 0),
        ("siamese_triplet", 1),
        ("protonet", 0),
        ("protonet", 1),
    ]
    assert answer.err.splitlines()[-1] == str(paths_of(grid)[-1])


@pytest.mark.slow
def test_other_images_under_the_same_name_are_another_run(grid, workspace):
    images = workspace / "images"
    original = images.readlink()
    images.unlink()
    try:
        shutil.copytree(original, images)
        shutil.copy(images / "class7" / "01.png", images / "class7" / "00.png")
        answer = bench(*SIAMESE, *OWN, "--steps", "3", "--seed", "0")
    finally:
        shutil.rmtree(images)
        images.symlink_to(original)
    assert "is already recorded" not in answer.err
    found = [store.read(path) for path in (paths_of(grid)[0], *paths_of(answer))]
    assert len({record.fingerprint for record in found}) == len({record.run_id for record in found}) == 2
    assert found[0].config == found[1].config


@pytest.mark.slow
def test_without_training_weights_are_evaluated_as_they_are(workspace):
    torch.manual_seed(7)
    save_file(backbones.build("conv4").state_dict(), workspace / "weights.safetensors")
    answer = bench(*SIAMESE, "--weights", "weights.safetensors", "--no-train")
    record = store.read(paths_of(answer)[0])
    assert not record.trained and record.timings.steps == 0 and record.timings.train_s == 0
    assert record.external_data and len(record.weights) == 64
    assert "training  none (--no-train), seed 0" in answer.err


def test_the_leaderboard_leaves_the_preset_smoke_out(grid, workspace):
    assert bench("leaderboard").code == 0
    assert "siamese_triplet" not in Path("leaderboard.md").read_text(encoding="utf-8").split("\n## ", 1)[-1]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--results a_file", "--results a_file: must be a writable folder (a_file is a file)"),
        ("--results a_file/x", "--results a_file/x: must be a writable folder ("),
        ("--runs a_file", "--runs a_file: must be a writable folder (a_file is a file)"),
        ("--device cuda:99", "--device cuda:99: not on this machine; allowed: auto, cpu"),
    ],
)
def test_what_cannot_run_is_one_line_before_anything_is_written(workspace, flags, expected):
    Path("a_file").touch()
    assert complaint(*SIAMESE, *flags.split()).startswith(expected)


def test_cifar100_that_is_not_there(workspace, monkeypatch):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    text = complaint("run", "--method", "protonet", "--data-root", "nowhere", "--offline")
    assert text.startswith("--dataset cifar100: not found in nowhere/cifar100")
    assert "--offline forbids it" in text  # why
    assert "--data-root" in text and "--dataset glyphs" in text  # the two ways on


@pytest.mark.slow
def test_training_that_diverges_is_recorded_as_failed_and_the_next_one_runs(workspace):
    """The record has no numbers, is not run again by itself, and leaves the rest of a grid alone."""
    grid = yaml.safe_load("runs: [{hyperparameters: {learning_rate: 1.0e9}}, {}]")
    Path("grid.yaml").write_text(yaml.safe_dump(grid))
    command = (*SIAMESE, "--config", "grid.yaml", "--results", "diverged")
    answer = bench(*command)
    assert answer.code == 2
    failed, done = sorted(store.read_all(Path("diverged"))[0], key=lambda record: record.failure is None)
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: --method siamese_triplet: diverged in training: ")
    assert failed.failure in last and f"{failed.run_id}.json" in last
    assert failed.failure.endswith("a smaller learning rate may help")
    assert (failed.metrics, failed.episodes, failed.episode_file) == ({}, {}, None)
    assert 0 < failed.timings.steps <= failed.config["hyperparameters"]["steps"]
    assert done.failure is None and done.metrics and "novel pairs" in answer.out
    again = bench(*command)
    assert again.code == 2 and again.err.count("already recorded") == 2
    assert bench("validate", "--results", "diverged").code == 0


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("can't allocate memory")],
)
def test_out_of_memory_says_what_to_lower(workspace, monkeypatch, error):
    def train(*args, **options):
        raise error

    monkeypatch.setattr("bench.training.loop.train", train)
    answer = bench(*SIAMESE, "--results", "small")
    assert answer.code == 2 and recorded(Path("small")) == []
    expected = "out of memory; lower --set images, --set classes, --set triplets, --image-size, or use a"
    assert expected in answer.err.splitlines()[-1]


def test_a_mistake_in_the_last_cell_of_a_grid_is_found_before_the_first_one_trains(workspace):
    text = complaint(*COMMON[:3], "--preset", "smoke", "--method", "protonet", "--split", "75-25,fc100")
    assert text.startswith("--split fc100: needs 100 classes in 20 superclasses")


@pytest.mark.slow
def test_ctrl_c_in_training_ends_the_bar_and_records_nothing(workspace):
    """In a process of its own, whose stderr is a terminal, so that there is a bar to leave half drawn."""
    command = [*SIAMESE, "--steps", "100000", "--results", "interrupted"]
    code, text, out = ctrl_c(command, workspace, b" steps/s")
    assert (code, out) == (130, ""), text.decode()
    lines = text.decode().splitlines()
    assert lines[-1].removeprefix("\x1b[?25h") == f"error: {INTERRUPTED}"
    assert text.count(b"\x1b[?25l") == text.count(b"\x1b[?25h") == 1  # the cursor is back
    assert b"Traceback" not in text
    assert recorded(Path("interrupted")) == []
