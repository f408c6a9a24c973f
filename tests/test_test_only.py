"""Runs that differ in hyperparameters that matter at the test alone: one training, several answers."""

import dataclasses
from pathlib import Path

import pytest
from command_line import bench, settle, write_images
from pydantic import ValidationError
from record_factory import make_record
from small_budget import small_budget

from bench.config.run_config import as_trained, resolve
from bench.records import store
from bench.records.arrays import read_arrays
from bench.records.tracks import cost, images_seen, kept, shared_networks
from bench.records.validation import validate
from bench.run import models, runner
from bench.run.preparation import Options, prepare
from methods import registry
from methods.anil import ANIL
from methods.protonet import ProtoNet

pytestmark = pytest.mark.slow
DATA = ["--dataset", "folder:images", "--image-size", "16", "--split", "parts.csv"]
COMMAND = ["run", *DATA, "--preset", "smoke", "--device", "cpu"]
PARTS = ("base", "validation", "novel")
STEPS = 6
ROW = ("--method", "protonet", "--measure", "5w1s", "--steps", STEPS)
MIRROR = (*ROW, "--set", "mirror=true")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """15 classes of 24 images for all of this file, and a cache beside them."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "images", 15, 24, tint=60)
    return folder / "images"


@pytest.fixture
def workspace(images, tmp_path, monkeypatch, unquestioned):
    """Few validation episodes."""
    small_budget(monkeypatch, validation_episodes=40)
    settle(images.parent, tmp_path, monkeypatch)
    parts = [f"class{number},{PARTS[number // 5]}" for number in range(15)]
    Path("parts.csv").write_text("\n".join(["class,part", *parts]))
    return tmp_path


@pytest.fixture
def steps(monkeypatch):
    """Steps that were trained: one entry each."""
    taken: list[int] = []
    monkeypatch.setattr(runner, "rehearse", lambda one: None)  # it takes steps too
    for method in (ProtoNet, ANIL):

        def counted(self, batch, batch_idx, own=method.training_step):
            taken.append(self.trainer.global_step)
            return own(self, batch, batch_idx)

        monkeypatch.setattr(method, "training_step", counted)
    return taken


def record_of(*arguments):
    answer = bench(*COMMAND, *arguments)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


@pytest.mark.parametrize("order", [(MIRROR, ROW), (ROW, MIRROR)], ids=["answers first", "training first"])
def test_one_training_gives_several_answers(workspace, steps, order):
    made = {arguments: record_of(*arguments) for arguments in order}
    base, mirror = made[ROW], made[MIRROR]
    assert steps == list(range(STEPS))
    assert base.shared_training is None and base.timings.steps == STEPS and base.timings.train_s > 0
    shared = mirror.shared_training
    assert (shared.run_id, shared.model) == (base.run_id, base.model) and mirror.model == base.model
    assert (shared.steps, shared.kept_step, shared.images) == (STEPS, base.kept_step, base.images)
    assert shared.processor_s > 0 and base.run_id != mirror.run_id
    # It is counted, but not as its own.
    assert (mirror.timings.steps, mirror.timings.train_s, mirror.images, mirror.kept_step) == (0, 0.0, 0, 0)
    assert images_seen(mirror) == images_seen(base) == STEPS * 5 * 6
    assert kept([mirror]) == kept([base]) and shared_networks([[base], [mirror]]) == [((0, 1), (base.seed,))]
    own = mirror.timings.processor_s
    assert cost([mirror]).processor == pytest.approx(own + shared.processor_s)
    # The same images and episodes, answered otherwise.
    assert base.episodes == mirror.episodes and base.metrics != mirror.metrics
    assert not validate(Path("results")).problems


def test_what_is_recorded_does_not_depend_on_the_order(workspace, steps):
    alone = record_of(*ROW)
    record_of(*MIRROR, "--runs", "others", "--results", "others")
    after = record_of(*ROW, "--runs", "others", "--results", "others")
    assert len(steps) == 2 * STEPS
    assert (alone.run_id, alone.model, alone.metrics) == (after.run_id, after.model, after.metrics)
    assert (alone.images, alone.kept_step) == (after.images, after.kept_step)
    # The training that another run paid for is in its time, as the time before an interruption is.
    assert after.timings.total_s > after.timings.train_s > 0
    curves = [read_arrays(alone, Path("results")), read_arrays(after, Path("others"))]
    assert "curve/loss" in curves[0] and curves[0].keys() == curves[1].keys()
    assert all((curves[0][name] == curves[1][name]).all() for name in curves[0])


def test_a_training_on_top_of_a_pretraining(workspace, steps):
    start = ("--method", "anil", "--set", "init=pretrained", "--measure", "5w1s")
    few, more = (record_of(*start, "--set", f"test_steps={number}") for number in (1, 4))
    base = record_of(*start)
    assert len(steps) == base.timings.steps == 3
    assert few.shared_training == more.shared_training and few.shared_training.run_id == base.run_id
    assert few.pretraining == more.pretraining == base.pretraining is not None
    assert few.model == more.model == base.model and few.metrics != more.metrics
    assert images_seen(few) == images_seen(base) == base.images + base.pretraining.images
    assert not validate(Path("results")).problems


def test_other_hyperparameters_train_again(workspace, steps):
    options = Options(Path("results"), Path("runs"), "", device="cpu")
    given = {"method": "protonet", "preset": "smoke", "dataset": "folder:images", "split": "parts.csv"}
    given |= {"image_size": 16, "measure": ["5w1s"]}
    trainings = []
    for seed, sets in ((0, {}), (0, {"scale": "2"}), (1, {}), (0, {"steps": "4"})):
        sets = {"steps": str(STEPS)} | sets
        mirror, plain = (
            prepare(resolve(given | {"seed": seed}, {}, sets | more), options)
            for more in ({"mirror": "true"}, {})
        )
        assert mirror.start.run_id == plain.run_id != mirror.run_id
        trainings.append(plain.run_id)
    assert len(set(trainings)) == 4
    made = [record_of(*MIRROR, *change).shared_training.run_id for change in ((), ("--set", "scale=2"))]
    assert made == trainings[:2] and len(steps) == 2 * STEPS


def test_an_interrupted_training_resumes_for_whichever_run_comes_next(workspace, steps, monkeypatch):
    whole = record_of(*ROW, "--runs", "whole", "--results", "whole")
    steps.clear()
    small_budget(monkeypatch, save_every_s=0.0)
    step = ProtoNet.training_step

    def interrupted(self, batch, batch_idx):
        if self.trainer.global_step == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ProtoNet, "training_step", interrupted)
        assert bench(*COMMAND, *MIRROR).code == 130
    base = record_of(*ROW)
    assert steps == list(range(STEPS)) and base.model == whole.model and base.metrics == whole.metrics
    assert record_of(*MIRROR).shared_training.model == whole.model and len(steps) == STEPS


def test_damaged_weights_are_trained_again(workspace, steps):
    first = record_of(*MIRROR)
    folder = Path("runs", first.shared_training.run_id)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (folder / "checkpoints" / "last.ckpt").unlink()
    again = record_of(*MIRROR, "--overwrite")
    assert len(steps) == 2 * STEPS and again.model == first.model == models.read_card(folder).weights_sha256


def test_a_training_that_diverges_is_the_failure_of_both(workspace):
    diverging = ["--set", "learning_rate=1e30", "--set", "optimizer=adam"]
    for arguments in (MIRROR, ROW):
        assert bench(*COMMAND, *arguments, *diverging).code != 0
    failed = [store.read(path) for path in Path("results").rglob("*.json")]
    assert len(failed) == 2 and all(r.failure.startswith("diverged in training: ") for r in failed)
    assert all(record.shared_training is None for record in failed)


def test_the_preset_decides_what_is_trained():
    given = {"method": "maml", "preset": "quick", "split": "cifar-fs", "measure": ["5w1s"]}
    config = resolve(given, {}, {"init": "pretrained", "test_steps": "3", "inner_steps": "2"})
    base = as_trained(config)
    assert base.hyperparameters == config.hyperparameters | {"test_steps": 5}  # of that start
    assert base.overrides == {"init": "pretrained", "inner_steps": 2, "measure": "5w1s"}
    assert as_trained(base) == base


BAD = '''
from dataclasses import dataclass

import torch

from methods.protonet import ProtoNet


class Bad(ProtoNet):
    """Weights that depend on what it calls test-only."""

    test_only = ("width",)

    @dataclass(frozen=True)
    class Hyperparameters(ProtoNet.Hyperparameters):
        steps: int = 2
        width: int = 3

    def __init__(self, backbone, hp, num_classes):
        super().__init__(backbone, hp, num_classes)
        self.extra = torch.nn.Parameter(torch.zeros(hp.width))
'''


def test_weights_may_not_depend_on_it(workspace):
    Path("bad.py").write_text(BAD)
    run = ["run", *DATA, "--method", "bad.py:Bad"]
    answer = bench(*run, "--set", "width=4")
    problem = "error: --method bad.py:Bad: its weights depend on test_only hyperparameters: width\n"
    assert answer.code == 2 and answer.err.endswith(problem) and not Path("results").exists()


def test_it_names_hyperparameters(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(BAD.replace('"width",', '"with", "width"'))
    with pytest.raises(ValueError, match=r"test_only names unknown hyperparameters: with$"):
        registry.describe("bad", str(path))


def test_pages_mark_it():
    answer = bench("list", "methods", "--method", "maml")
    (line,) = (line for line in answer.out.splitlines() if line.startswith("test_steps"))
    assert line.endswith("test-only")
    page = Path(__file__).parents[1].joinpath("docs", "methods", "maml.md").read_text()
    assert [line for line in page.splitlines() if "test-only" in line and line.startswith("| `test_steps` ")]


def test_records_that_contradict_themselves():
    shared = {"steps": 10, "kept_step": 10, "images": 100, "seconds": 1.0, "processor_s": 1.0}
    shared |= {"run_id": "other", "model": "a" * 64}
    timings = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 1.0, "total_s": 1.0, "steps": 0}
    good = {"shared_training": shared, "model": "a" * 64, "images": 0, "kept_step": 0, "timings": timings}
    record = make_record(**good)
    assert record.shared_training.model == record.model
    for change, problem in (
        ({"model": "b" * 64}, "model: must be the weights of shared_training"),
        ({"run_id": "other"}, "shared_training: must be another run"),
        ({"images": 5}, "shared_training: such a run must not have its own training"),
        ({"trained": False}, "shared_training: such a run must not have its own training"),
    ):
        with pytest.raises(ValidationError, match=problem):
            make_record(**good | change)


def test_a_record_must_have_changed_something_of_the_test():
    from bench.records.claims import contradictions

    shared = {"steps": 10, "kept_step": 10, "images": 100, "seconds": 1.0, "processor_s": 1.0}
    shared |= {"run_id": "other", "model": "a" * 64}
    timings = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 1.0, "total_s": 1.0, "steps": 0}
    fields = {"shared_training": shared, "model": "a" * 64, "images": 0, "kept_step": 0, "timings": timings}

    def problems(overrides):
        config = {"method": "protonet", "overrides": overrides}
        return [line for line in contradictions(make_record(**fields, config=config)) if "shared" in line]

    assert not problems({"mirror": True, "scale": 2.0})
    assert problems({"scale": 2.0}) == [
        "shared_training: other, but protonet with these settings trains itself"
    ]


def test_the_hyperparameters_are_of_their_methods():
    for info in registry.available().values():
        names = {field.name for field in dataclasses.fields(registry.load(info).Hyperparameters)}
        assert set(info.test_only) <= names
        assert registry.load(info).test_only == info.test_only, info.name


def test_tuning_shares_the_training(workspace, steps):
    from benchmarks.tune import trial

    given = {"method": "protonet", "preset": "smoke", "dataset": "folder:images", "split": "parts.csv"}
    given["image_size"] = 16
    tried = [{"mirror": "true", "steps": "4"}, {"steps": "4"}, {"mirror": "true", "steps": "2"}]
    rows = [trial(resolve(given, {}, sets), None, workspace / "runs") for sets in tried]
    assert len(steps) == 4 + 2
    assert all(row["seconds"] != "" and row["images_per_s"] > 0 for row in rows)
    assert rows[0]["validation_accuracy"] != rows[1]["validation_accuracy"]
