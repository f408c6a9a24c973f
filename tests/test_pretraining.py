"""The classifier that runs start from: trained once, shared, part of their identity, and in their records."""

import threading
import time
from pathlib import Path

import pytest
from command_line import bench, settle, write_images
from safetensors.torch import load_file
from small_budget import small_budget
from torch import nn

from bench.common.errors import UserError
from bench.config.run_config import resolve
from bench.evaluation import contract
from bench.records import store
from bench.run import models
from bench.run.locks import exclusive
from bench.run.preparation import Options, prepare
from bench.run.pretraining import obtain
from methods import registry
from methods.base_classifier import BaseClassifier

pytestmark = pytest.mark.slow
COMMAND = [
    "run", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke", "--device", "cpu",
    "--image-size", "16", "--measure", "5w1s",
]  # fmt: skip
BOTH = sorted(name for name, info in registry.available().items() if "init" in info.parameters)
"""All nine train from a classifier in methods/test_resuming.py too, without a command."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """10 classes of 24 images for all of this file, and a cache; what methods promise is not asked again."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "images", 10, 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "check", lambda *_: None)
        yield folder / "images"


@pytest.fixture
def workspace(images, tmp_path, monkeypatch):
    settle(images.parent, tmp_path, monkeypatch)
    return tmp_path


def record_of(*arguments):
    answer = bench(*COMMAND, *arguments)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1])), answer.err


def test_transfer_methods_answer_with_one_network(workspace):
    first, said = record_of("--method", "nearest_centroid")
    assert "pretraining: 12/12 steps" in said
    others = [record_of("--method", name) for name in ("logistic_head", "finetune")]
    assert not any("pretraining:" in said for _, said in others)
    card = models.read_card(Path("runs", first.pretraining.run_id))
    weights = models.read_weights(Path("runs", first.pretraining.run_id), card)
    for record in (first, *(record for record, _ in others)):
        assert record.pretraining == first.pretraining
        assert (record.timings.steps, record.images, record.kept_step) == (0, 0, 0)
        own = load_file(Path("runs", record.run_id, "model.safetensors"))
        assert own and all(
            (weights[name] == value).all() for name, value in own.items() if name.startswith("backbone.")
        )
    pretraining = first.pretraining
    assert pretraining.model == card.weights_sha256 and pretraining.images == 12 * 32
    assert pretraining.steps == 12 >= pretraining.kept_step > 0
    assert pretraining.processor_s > 0
    # A run that finds the network does not pay for it, and says what it had cost.
    assert all(record.timings.total_s < first.timings.total_s + 60 for record, _ in others)


@pytest.fixture(scope="module")
def together(images, tmp_path_factory):
    """One working directory for several tests, in which the classifier is trained once."""
    place = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        settle(images.parent, place, patch)
        yield place


ONCE = [("protonet", "pretrained"), ("anil", "pretrained"), ("mtl", "scratch")]
REPEATED = {*((name, "pretrained") for name in BOTH), ("protonet", "scratch")} - {*ONCE}


@pytest.mark.parametrize(
    "method, init", [*ONCE, *(pytest.param(*one, marks=pytest.mark.soak) for one in sorted(REPEATED))]
)
def test_both_starts(together, method, init):
    sets = [f"init={init}", *(["inner_steps=1"] if method in ("maml", "reptile") else [])]
    record, _ = record_of("--method", method, *(word for one in sets for word in ("--set", one)))
    own, steps = record.timings.steps, record.hyperparameters["steps"]
    assert record.images > 0 and record.timings.processor_s > 0
    assert 0 <= record.kept_step <= own
    if init == "scratch":
        assert own == steps and record.pretraining is None
        assert record.kept_step > 0
    else:
        assert own == steps // 4
        share = record.pretraining.images / (record.pretraining.images + record.images)
        assert share == pytest.approx(0.75, abs=0.15)  # of so few steps
    assert set(record.config["overrides"]) <= {"init", "measure", "inner_steps"}


def test_it_is_trained_again_where_it_is_gone_damaged_or_other(workspace):
    run = ["--method", "nearest_centroid", "--steps", "4", "--overwrite"]
    first, _ = record_of(*run)
    folder = Path("runs", first.pretraining.run_id)
    assert "pretraining:" not in record_of(*run)[1]
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    again, said = record_of(*run)
    assert "pretraining: 4/4 steps" in said and again.pretraining.model == first.pretraining.model
    (folder / "model.json").unlink()
    assert "pretraining: 4/4 steps" in record_of(*run)[1]
    # Another seed, budget or recipe is another network.
    options = Options(Path("results"), Path("runs"), "", device="cpu")
    given = {"method": "nearest_centroid", "preset": "smoke", "dataset": "folder:images", "split": "50-50"}
    given |= {"image_size": 16, "measure": ["5w1s"]}
    starts = [
        prepare(resolve(given | {"seed": seed}, {}, {"steps": "4"} | sets), options).start.run_id
        for seed, sets in ((0, {}), (1, {}), (0, {"steps": "3"}), (0, {"head": "linear"}))
    ]
    assert starts[0] == first.pretraining.run_id and len(set(starts)) == 4


def test_an_interrupted_pretraining_resumes_bit_for_bit(workspace, monkeypatch):
    run = ["--method", "nearest_centroid", "--steps", "4"]
    whole, _ = record_of(*run, "--runs", "whole")
    small_budget(monkeypatch, save_every_s=0.0)
    step = BaseClassifier.training_step

    def interrupted(self, batch, batch_idx):
        if self.trainer.global_step == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    command = [*COMMAND, *run, "--results", "others"]
    with monkeypatch.context() as patch:
        patch.setattr(BaseClassifier, "training_step", interrupted)
        assert bench(*command).code == 130
    answer = bench(*command)
    assert answer.code == 0, answer.err
    record = store.read(Path(answer.out.splitlines()[-1]))
    assert Path("runs", record.pretraining.run_id, "logs", "from-2").is_dir()
    assert record.pretraining.model == whole.pretraining.model and record.metrics == whole.metrics


def test_a_changed_classifier_is_another_run(workspace, monkeypatch):
    """The code of the pretraining is part of the identity of whatever starts from it."""
    from bench.run import run_id

    run = ["--method", "nearest_centroid", "--steps", "3"]
    first, _ = record_of(*run)
    real = run_id.source_code.digest

    def changed(*modules, **options):
        found = real(*modules, **options)
        return found[::-1] if modules == ("methods.base_classifier",) else found

    monkeypatch.setattr(run_id.source_code, "digest", changed)
    second, said = record_of(*run)
    assert second.run_id != first.run_id and "pretraining:" in said
    assert second.sources.method == first.sources.method


def test_a_run_is_left_for_later_while_another_process_trains_what_it_starts_from(workspace):
    first, _ = record_of("--method", "nearest_centroid", "--steps", "3")
    for path in Path("results").rglob("*_*.*"):
        path.unlink()
    taken, end = threading.Event(), time.monotonic() + 60

    def other() -> None:
        with exclusive(first.pretraining.run_id, Path("results", "own"), Path("runs")):
            taken.set()
            while not list(Path("results").rglob("siamese*.json")) and time.monotonic() < end:
                time.sleep(0.01)

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait()
    answer = bench(*COMMAND, "--method", "nearest_centroid,siamese_triplet", "--steps", "3")
    thread.join()
    assert answer.code == 0, answer.err
    assert f"{first.pretraining.run_id} is running in another process; postponed" in answer.err
    assert [Path(line).name.partition("_folder")[0] for line in answer.out.splitlines()[-2:]] == [
        "siamese-triplet",
        "nearest-centroid",
    ]


def test_a_pretraining_that_diverges_is_the_failure_of_the_run(workspace):
    diverging = [*COMMAND, "--method", "nearest_centroid", "--set", "learning_rate=1e30", "--overwrite"]
    for _ in range(2):  # what is kept of it is not taken for a finished one
        answer = bench(*diverging)
        (path,) = Path("results").rglob("*.json")
        record = store.read(path)
        assert record.failure.startswith("diverged in pretraining: ") and record.pretraining is None
        assert (record.timings.steps, record.timings.train_s) == (0, 0)
        assert answer.code != 0


def test_without_training_there_is_no_pretraining(workspace):
    first, _ = record_of("--method", "siamese_triplet", "--steps", "3")
    weights = load_file(Path("runs", first.run_id, "model.safetensors"))
    from safetensors.torch import save_file

    own = {name.removeprefix("backbone."): v for name, v in weights.items() if name.startswith("backbone.")}
    save_file(own, "weights.safetensors")
    record, said = record_of("--method", "nearest_centroid", "--no-train", "--weights", "weights.safetensors")
    assert record.pretraining is None and not record.trained and "pretraining:" not in said


def test_a_training_that_is_gone_when_it_ends_is_named(tmp_path):
    with pytest.raises(UserError, match=f"^--runs {tmp_path}: the training that was just written is missing"):
        obtain(nn.Identity(), tmp_path, "0" * 64, lambda: None)
