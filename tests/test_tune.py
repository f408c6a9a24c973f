"""Tuning: every method gets as many trials; how well classes join is measured on validation classes alone."""

import math
from pathlib import Path

import pytest
import torch
from command_line import settle, write_images
from small_budget import small_budget

from bench.common.errors import UserError
from bench.config.lists import read_sets
from bench.config.run_config import resolve
from bench.config.yaml_files import read_yaml
from bench.run.materials import Materials
from bench.run.preparation import Options, prepare
from bench.training.callbacks import Validation
from benchmarks import tune
from benchmarks.tune import harmonic, trial, with_joining_classes
from methods import registry
from methods.imprinted import Imprinted

PARTS = ("base", "validation", "novel")
GIVEN = {"method": "imprinted", "preset": "smoke", "dataset": "folder:images", "split": "parts.csv"}
GIVEN |= {"image_size": 16}


PLAN = Path(tune.LOG).with_name("trials.yaml")


def test_every_method_has_as_many_trials_of_as_many_steps():
    plan = read_yaml(PLAN)
    assert set(plan) == set(registry.available())
    for method, texts in plan.items():
        given = {"method": method, "split": "cifar-fs", "preset": "quick"}
        tried = [resolve(given, {}, read_sets(text.split())).hyperparameters for text in texts]
        quick = resolve(given, {}, {}).hyperparameters
        assert len(tried) == 4 and {each["steps"] for each in tried} == {math.ceil(quick["steps"] / 8)}, (
            method
        )
        # The first is the preset, and no two are the same.
        assert tried[0] == quick | {"steps": tried[0]["steps"]}
        assert all(tried.count(each) == 1 for each in tried), method


def test_steps_are_tried_from_both_starts_and_cost_a_training_each():
    plan = read_yaml(PLAN.with_name("test_steps.yaml"))
    assert set(plan) == {
        name for name, info in registry.available().items() if "test_steps" in info.test_only
    }
    for method, texts in plan.items():
        given = {"method": method, "split": "cifar-fs", "preset": "quick"}
        tried = [resolve(given, {}, read_sets(text.split())).hyperparameters for text in texts]
        assert all(tried.count(each) == 1 for each in tried), method
        for start in ("scratch", "pretrained"):
            preset = resolve(given, {}, {"init": start}).hyperparameters
            own = [each for each in tried if each["init"] == start]
            assert preset in own and len(own) > 2, (method, start)
            assert all(each | {"test_steps": 0} == preset | {"test_steps": 0} for each in own)


def test_an_interrupted_plan_resumes(tmp_path, monkeypatch, capsys):
    plan = tmp_path / "mine.yaml"
    plan.write_text("protonet: [steps=5, steps=5 scale=2]\nmaml: [steps=3]\n")
    tried = []

    def trial(config, *_):
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append((config.method, config.hyperparameters["steps"]))
        return {"validation_accuracy": "50.00", "steps": config.hyperparameters["steps"]}

    monkeypatch.setattr(tune, "LOG", tmp_path / "log.csv")
    monkeypatch.setattr(tune, "trial", trial)
    monkeypatch.setattr("sys.argv", ["tune", "--plan", str(plan)])
    with pytest.raises(KeyboardInterrupt):
        tune.main()
    first, tried[:] = tried[:], []
    assert tune.main() == 0
    assert first + tried == [("protonet", 5), ("protonet", 5), ("maml", 3)]
    assert tune.main() == 0 and len(tried) == 1
    assert [row["changes"] for row in tune.logged(tmp_path / "log.csv")] == [
        "steps=5",
        "steps=5 scale=2",
        "steps=3",
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """15 classes of 24 images, of which 8 are set apart; a cache beside them."""
    made = tmp_path_factory.mktemp("images")
    write_images(made / "all", 15, 24)
    for path in sorted((made / "all").glob("*/*.png")):
        place = made / "images" / ("train" if int(path.stem) < 16 else "test") / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    return made / "images"


@pytest.fixture
def folder(images, tmp_path, monkeypatch):
    """Of those classes, five are base, five validation and five novel; validation is short."""
    settle(images.parent, tmp_path, monkeypatch)
    small_budget(monkeypatch, validation_episodes=60)
    lines = [f"class{number},{PARTS[number // 5]}" for number in range(15)]
    Path("parts.csv").write_text("\n".join(["class,part", *lines]))
    return tmp_path


def prepared(**sets: str):
    options = Options(Path("runs"), Path("runs"), "")
    return prepare(resolve(GIVEN, {}, sets), options, Materials(options, with_joining_classes))


@pytest.mark.slow
def test_novel_images_are_out_of_reach(folder):
    run = prepared()
    classes = {part: set() for part in ("train", "validation_images", "base_test", "novel_images")}
    for part, found in classes.items():
        found |= {run.data.class_names[c] for c in run.data.labels[getattr(run.split, part)]}
    base, validation = ({f"class{i}" for i in range(first, first + 5)} for first in (0, 5))
    assert classes == {
        "train": base, "base_test": base, "validation_images": validation, "novel_images": validation,
    }  # fmt: skip
    assert run.data.held_out[run.split.base_test].all() and len(run.split.base_test) == 5 * 8
    assert not run.data.held_out[run.split.train].any()
    # It is another training than that of a run of the split, which sees all images of base classes.
    own = prepare(run.config, Options(Path("runs"), Path("runs"), ""))
    assert len(own.split.train) == 5 * 24 and own.run_id != run.run_id


@pytest.mark.slow
def test_the_score_is_that_of_single_joins(folder):
    """By hand: each validation class alone, its first support set, base and new accuracy by recalls."""
    run = prepared()
    method, labels = run.method.eval(), run.data.labels

    def embedded(index):
        with torch.inference_mode():
            return method.embed(run.normalise(run.data.images[index]))

    from bench.evaluation.generalized import _supports
    from bench.sampling.episodes import ClassPool

    with torch.no_grad():  # untrained weights of base classes would be the nearest to no image
        for number, own in enumerate(run.split.base):
            method.head.weight[number] = embedded(run.split.train[labels[run.split.train] == own]).mean(0)
    pool = ClassPool(labels[run.split.novel_images].numpy())
    scores = []
    for shot in (1, 5):
        drawn = _supports(run.data.fingerprint, run.split.name, pool, shot)[0]
        for number, own in enumerate(drawn):
            images = run.split.novel_images[labels[run.split.novel_images] == pool.classes[number]]
            support = run.split.novel_images[torch.from_numpy(own)]
            rest = torch.tensor([i for i in images.tolist() if i not in support.tolist()])
            asked = torch.cat([run.split.base_test, rest])
            with torch.inference_mode():
                logits = method.joint_logits(torch.empty(0), embedded(support)[None], embedded(asked))
            right = logits.argmax(1) == torch.cat(
                [torch.searchsorted(torch.tensor(run.split.base), labels[run.split.base_test]),
                 torch.full((len(rest),), 5)]
            )  # fmt: skip
            base, novel = right[:40].float().mean().item(), right[40:].float().mean().item()
            scores.append(2 * base * novel / (base + novel) if base + novel else 0.0)
    assert sum(scores) > 0
    assert harmonic(run) == pytest.approx(sum(scores) / len(scores), abs=1e-6)


@pytest.mark.slow
def test_strengths_of_finetuning_share_a_training(folder, monkeypatch):
    small_budget(monkeypatch, joining_draws=2, trained_joining_draws=2)
    taken = []
    step = Imprinted.training_step
    monkeypatch.setattr(
        Imprinted, "training_step", lambda self, *batch: (taken.append(1), step(self, *batch))[1]
    )
    strengths = [{}, {"finetune": "true", "finetune_rate": "0.01", "finetune_steps": "3"}]
    rows = [trial(resolve(GIVEN, {}, sets), None, folder / "runs", "harmonic") for sets in strengths]
    assert len(taken) == 12
    plain, finetuned = (float(row["validation_accuracy"]) for row in rows)
    assert plain != finetuned and all(0 <= score <= 100 for score in (plain, finetuned))


@pytest.mark.slow
def test_what_cannot_be_scored_is_refused(folder):
    for given, problem in (
        ({"split": "50-50"}, "--split: 50-50: has no validation classes; allowed: cifar-fs, fc100, FILE.csv"),
        ({"method": "maml"}, "--score: harmonic: no classes can be joined to maml on parts.csv"),
    ):
        with pytest.raises(UserError) as caught:
            trial(resolve(GIVEN | given, {}, {}), None, folder / "runs", "harmonic")
        assert f"{caught.value.flag}: {caught.value.value}: {caught.value.allowed}" == problem
    assert not list((folder / "runs").glob("*_*"))


@pytest.mark.slow
def test_a_test_only_value_is_scored_on_the_episodes_of_the_preset(folder, monkeypatch):
    """Though it trains nothing itself, so nothing was validated on the way."""
    asked = []
    scores = Validation.scores
    monkeypatch.setattr(
        Validation,
        "scores",
        lambda self, method: (
            asked.append([own.sha256() for own in self.lists.values()]) or scores(self, method)
        ),
    )
    given = GIVEN | {"method": "anil"}
    last = []
    for sets in ({}, {"test_steps": "2"}):
        trial(resolve(given, {}, sets), None, folder / "runs")
        last.append(asked[-1])
    assert last[0] == last[1] and last[0]
