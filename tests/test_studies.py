"""The committed studies: what their rows have in common, and how many trainings they cost."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from record_factory import make_record

from bench.common.errors import UserError
from bench.config.grid import build
from bench.config.run_config import RunConfig, as_trained, method_info
from bench.records import store
from bench.records.identity import WEIGHTS, name_of, split_digest
from bench.records.schema import Record
from bench.reporting.leaderboard.studies import section
from bench.run.plan import Options
from bench.run.sweep.jobs import plan
from methods import backbones, registry
from methods.method import Method

STUDIES = Path(__file__).parents[1] / "studies"
BASE_CLASSES = {"fc100": 60, "cifar-fs": 64, "40-60": 40, "90-10": 90}
QUICK = 409_600


@cache
def grid(name: str) -> list[RunConfig]:
    return build(STUDIES / name, {}, {})


def made(config: RunConfig) -> Method:
    method, backbone = registry.load(method_info(config.method)), backbones.build(config.backbone, 32)
    torch.manual_seed(config.seed)
    return method(backbone, method.Hyperparameters(**config.hyperparameters), BASE_CLASSES[config.split])


def images(method: Method) -> int:
    """That its training sees, pretraining included."""
    first = method.pretraining
    before = first.steps * first.images if first else 0
    return before + (method.training_steps * method.batches().size if method.training_steps else 0)


def written(config: RunConfig) -> str:
    """As `to_yaml`, but JSON, which is faster."""
    return config.model_dump_json(exclude={"overrides"})


def trainings(configs: Iterable[RunConfig]) -> int:
    return len({written(as_trained(config)) for config in configs})


@pytest.mark.parametrize("name", ["hallucination.yaml", "imprinting.yaml", "mtl_ablation.yaml"])
def test_a_study_is_quick_on_three_seeds(name):
    runs = grid(name)
    assert {run.preset for run in runs} == {"quick"} and {run.seed for run in runs} == {0, 1, 2}
    assert len({written(run) for run in runs}) == len(runs)


def test_hallucination_answers_with_four_numbers_of_features_from_one_training():
    runs = grid("hallucination.yaml")
    for split in ("fc100", "cifar-fs"):
        for shot in (1, 5):
            own = [r for r in runs if (r.split, r.hyperparameters["train_shot"]) == (split, shot)]
            generating = [run for run in own if run.method == "protonet_hallucination"]
            numbers = [run.hyperparameters["test_generated"] for run in generating if run.seed == 0]
            assert sorted(numbers, key=str) == [0, 100, 50, None]
            assert {run.hyperparameters["generated"] for run in generating} == {10}
            assert trainings(generating) == 3 and trainings(own) == 6  # with protonet's
    for run in runs:
        if run.seed == 0:
            assert images(made(run)) == pytest.approx(QUICK, rel=0.001)


def test_imprinting_is_one_training_per_seed():
    runs = grid("imprinting.yaml")
    assert trainings(runs) == 3
    strengths: set[Any] = set()
    for run in runs:
        hp = run.hyperparameters
        strengths.add(hp["finetune"] and (hp["finetune_steps"], hp["finetune_share"], hp["finetune_rate"]))
    assert len(strengths) == len(runs) // 3 and False in strengths
    assert images(made(runs[0])) == QUICK


def test_the_arms_of_mtl_cost_the_same():
    """As many images in all arms but one, and as many meta-steps in all but the other from scratch."""
    arms: dict[int, list[Method]] = {}
    for run in grid("mtl_ablation.yaml"):
        if run.seed == 0:
            arms.setdefault(run.hyperparameters["train_shot"], []).append(made(run))
    assert sorted(arms) == [1, 5, 10]
    for shot, methods in arms.items():
        assert all(method.batches().shot == shot for method in methods)
        pretrained = [method for method in methods if method.pretraining]
        (steps,) = {method.training_steps for method in pretrained}
        assert len(pretrained) == 3 and {method.pretraining.steps for method in pretrained} == {2400}
        scratch = [method for method in methods if not method.pretraining]
        as_many_images, as_many_steps = sorted(scratch, key=images, reverse=True)
        assert as_many_steps.training_steps == steps
        for method in [*pretrained, as_many_images]:
            assert images(method) == pytest.approx(QUICK, rel=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune.yaml", "minings.yaml", "siamese_reptile.yaml"])
def test_every_run_sees_as_many_images(name):
    runs = grid(name)
    assert {run.preset for run in runs} == {"quick"} and {run.seed for run in runs} == {0}
    assert [images(made(run)) for run in runs] == pytest.approx([QUICK] * len(runs), rel=0.001)


def test_minings_are_five_and_alike_in_all_else():
    runs, minings = grid("minings.yaml"), ["soft", "semihard", "hard", "all", "random"]
    assert [run.hyperparameters["mining"] for run in runs] == minings
    made = [
        (run, make_record(method=run.method, config=run.model_dump(), hyperparameters=run.hyperparameters))
        for run in runs
    ]
    assert all(f"mining={run.hyperparameters['mining']}" in name_of(record) for run, record in made)
    assert len({json.dumps(run.hyperparameters | {"mining": 0}) for run in runs[:4]}) == 1
    assert (
        runs[0].hyperparameters
        == build(None, {"method": ["siamese_triplet"], "preset": "quick"}, {})[0].hyperparameters
    )


def test_finetuning_has_both_heads_and_resnet18_on_the_main_splits():
    runs = grid("finetune.yaml")
    found = Counter(
        (run.backbone, run.hyperparameters["head"], run.hyperparameters["adapt_layers"]) for run in runs
    )
    small, large = ("conv4", "timm:resnet18")
    kinds = [
        (small, "cosine", "head"),
        (small, "linear", "head"),
        (large, "linear", "head"),
        (large, "linear", "all"),
    ]
    assert found == {kind: 3 for kind in kinds}
    assert {run.split for run in runs} == {"90-10", "cifar-fs", "fc100"}
    assert not any(run.hyperparameters["pretrained"] for run in runs)


def test_floors_are_the_runs_whose_numbers_must_not_fall():
    runs = {(run.method, run.split, run.backbone): run.overrides for run in grid("floors.yaml")}
    assert runs == {
        ("siamese_triplet", "90-10", "resnet12-32"): {},
        ("protonet", "cifar-fs", "conv4"): {"steps": 9000},
        ("logistic_head", "cifar-fs", "conv4"): {"steps": 9000, "mirror": True},
    }


def test_siamese_reptile_is_there_with_and_without_the_source_s_test():
    few_shot, learned = grid("siamese_reptile.yaml")
    assert not few_shot.hyperparameters["adapt_to_class"] and learned.hyperparameters["adapt_to_class"]
    assert few_shot.hyperparameters | {"adapt_to_class": True} == learned.hyperparameters


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_is_a_grid_without_repetitions(path):
    runs = build(path, {}, {})
    assert len(runs) == len({written(run) for run in runs}) > 1
    assert f"bench sweep studies/{path.name}" in path.read_text(encoding="utf-8")


def exact(settings: dict[str, Any], record: Record, weights: str | None) -> str:
    """What must be equal for a record to be the one of a run; later hyperparameters have their defaults."""
    parameters = method_info(settings["method"]).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    kept = {key: own for key, own in settings.items() if key not in WEIGHTS} | {
        "hyperparameters": defaults | settings["hyperparameters"]
    }
    return json.dumps([kept, record.fingerprint, split_digest(record), weights], sort_keys=True)


@pytest.mark.slow
def test_the_leaderboard_counts_the_records_of_each_study_as_a_sweep_does():
    """It compares settings as they are written; a sweep compares them resolved, which imports the methods."""
    records = store.read_all(STUDIES.parent / "results", own=False)[0]
    by_age = sorted(records, key=lambda record: record.created)
    newest = {(r.dataset, r.split): r for r in by_age if not r.labelled_novel_images}
    there = set()
    for record in records:
        with suppress(ValidationError, UserError):  # of older settings or methods
            settings = RunConfig.model_validate(record.config).model_dump()
            learned = record.labelled_novel_images  # and so tested on fewer images
            images = newest[record.dataset, record.split] if learned else record
            there.add(exact(settings, images, record.weights) if record.sources else "")
    weights = {record.weights for record in records}
    said = "\n".join("".join(block.text) for block in section(records, STUDIES.parent / "results")[2:])
    for path in STUDIES.glob("*.yaml"):
        runs = grid(path.name)
        alike = [(run.model_dump(), newest.get((run.dataset, run.split))) for run in runs]
        found = sum(any(exact(run, own, w) in there for w in weights) for run, own in alike if own)
        assert f"{path.stem}: {found} of {len(runs)} recorded" in said, "did a preset change?"


def recorded(name: str, **changes: Any) -> list[Record]:
    """A record of each run of a grid file."""
    return [
        make_record(
            run_id=f"run_{number}",
            **{key: getattr(run, key) for key in ("method", "split", "seed", "dataset", "backbone")},
            config=run.model_dump(),
            **{"sources": {"split": "1" * 64, "method": "0" * 64, "bench": "0" * 64}} | changes,
        )
        for number, run in enumerate(build(Path(name), {}, {}))
    ]


def test_the_leaderboard_names_the_open_runs_of_each_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    assert section([], Path("results")) == []
    Path("studies/broken.yaml").write_text("no: grid")
    Path("studies/main.yaml").write_text("""
        {preset: quick, split: [90-10, cifar-fs], seed: [0, 1], runs: [
          {method: [protonet, maml]},
          {method: maml, hyperparameters: {init: pretrained, inner_steps: 2}},
          {method: maml, seed: 0, measure: [5w5s, 5w1s], hyperparameters: {init: scratch}}]}""")
    records = recorded("studies/main.yaml")

    def line(left: list[Record], results: str = "results") -> str:
        (_, _, paragraph) = section(left, Path(results))
        return "".join(paragraph.text)

    assert line([]) == "main: 0 of 14 recorded."
    assert line(records, "results/own") == "main: 14 of 14 recorded."
    twos = [record for record in records if record.config["overrides"].get("inner_steps")]
    left = [record for record in records if record.split == "cifar-fs" and record.seed == 1] + twos
    text = line([record for record in records if record not in left or record.method == "protonet"])
    assert text.startswith("main: 9 of 14 recorded; open: maml on cifar-fs × seed 1; ")
    assert text.endswith("; maml (pretrained, inner_steps=2) on 90-10, cifar-fs × seeds 0, 1.")
    failed = records[0].model_copy(update={"failure": "diverged"})
    assert line([failed]).startswith("main: 1 of 14"), "as it does for `sweep`"
    other = records[0].config | {"overrides": {"steps": 7}}
    precision = records[0].config | {"precision": "bf16"}
    for changes in ({"config": other}, {"sources": None}, {"config": precision}):
        assert line([records[0].model_copy(update=changes)]) == "main: 0 of 14 recorded.", changes
    newer = {"created": records[0].created + timedelta(1), "fingerprint": "9" * 64, "run_id": "newer"}
    assert line([records[0], records[-1].model_copy(update=newer)]).startswith("main: 2 of 14")
    assert line([records[0], records[1].model_copy(update=newer)]).startswith("main: 1 of 14"), "other images"


COSTS = re.findall(
    r"^\| `(\w+)\.yaml` \| (\d+) \| (\d+) \|",
    (STUDIES.parent / "docs/scaling.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
"""Name, runs and shared trainings of each study in the table of costs."""


def test_the_table_of_costs_has_the_runs_of_every_study():
    there = {path.stem: str(len(grid(path.name))) for path in STUDIES.glob("*.yaml")}
    assert {name: runs for name, runs, _ in COSTS} == there


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FEWSHOT_DATA"), reason="needs CIFAR-100")
@pytest.mark.parametrize("name", ["main", "glyphs", "hallucination", "imprinting"])
def test_the_table_of_costs_has_the_shared_trainings(name, tmp_path):
    """All seeds of these studies have equally many."""
    runs = grid(f"{name}.yaml")
    first = [run for run in runs if run.seed == 0]
    jobs = plan(first, Options(tmp_path / "results", tmp_path / "runs", "", device="cpu"), []).jobs
    shared = sum(job.shared for job in jobs) * len(runs) // len(first)
    assert (name, str(len(runs)), str(shared)) in COSTS


def test_glyphs_has_every_method():
    methods = {run.method for run in grid("glyphs.yaml")}
    assert methods == {name for name, place in registry.places().items() if not place.plugin}
