"""`validate` compares what a record says of its method with the method's source."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import bench, write_images
from record_factory import make_record

from bench.records.claims import contradictions
from methods import backbone_names, backbones
from methods.registry import available

pytestmark = pytest.mark.slow
CLAIMS = {
    "method": (
        lambda r: r.update(method="protonet"),
        ["method: protonet, but config says nearest_centroid", "paper: "],
    ),
    "method twice": (
        lambda r: (r.update(method="finetune"), r["config"].update(method="finetune")),
        ["paper: ", "hyperparameters: finetune has no "],
    ),
    "family": (lambda r: r.update(family="magic"), ["family: magic, but nearest_centroid says transfer"]),
    "paper": (lambda r: r.update(paper="Nobody 2020"), ["paper: Nobody 2020, but nearest_centroid says "]),
    "transductive": (
        lambda r: r.update(transductive=True),
        ["transductive: true, but must be false for nearest_centroid with these settings"],
    ),
    "external data": (
        lambda r: r.update(external_data=True),
        ["external_data: true, but must be false for nearest_centroid with these settings"],
    ),
    "weights": (
        lambda r: r.update(weights="0" * 64),
        [
            f"weights: {'0' * 64}, but config says none",
            "external_data: false, with a file of starting weights",
            "external_data: false, but must be true for nearest_centroid with these settings",
        ],
    ),
    "parameters": (lambda r: r.update(parameters=112_831), ["parameters: 112831, but conv4 has 112832"]),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_false_claim_is_named(folder, claim):
    change, expected = CLAIMS[claim]
    folder.edit(change)
    found = folder.of_first()
    for start in expected:
        assert any(line.startswith(start) for line in found), found
    if claim not in ("method", "method twice"):
        assert len(found) == len(expected)


@pytest.mark.parametrize("method", ["maml", "reptile"])
def test_a_mark_that_a_hyperparameter_brings_cannot_be_taken_back(method):
    info = available()[method]
    said = {"family": info.family, "paper": info.paper, "method": method, "config": {"method": method}}
    said["parameters"] = 112_832

    def claims(norm: str, transductive: bool) -> list[str]:
        hyperparameters = {"batch_norm": norm}
        return list(
            contradictions(make_record(**said, hyperparameters=hyperparameters, transductive=transductive))
        )

    assert claims("transductive", True) == claims("support", False) == []
    must = f"for {method} with these settings"
    assert claims("transductive", False) == [f"transductive: false, but must be true {must}"]
    assert claims("support", True) == [f"transductive: true, but must be false {must}"]


@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_easy_has_a_pretraining_if_a_teacher_distils(distillation):
    info = available()["easy"]
    teacher = {"run_id": "teacher", "model": "b" * 64, "steps": 6, "kept_step": 6, "images": 60}
    record = make_record(
        method="easy", family=info.family, paper=info.paper, config={"method": "easy"}, parameters=112_832,
        hyperparameters={"distillation": distillation},
        sources={"method": "a" * 64, "bench": "b" * 64, "split": "c" * 64},
        pretraining=teacher | {"seconds": 1.0, "processor_s": 1.0},
    )  # fmt: skip
    has_none = [line for line in contradictions(record) if line.startswith("pretraining: teacher, but easy")]
    assert bool(has_none) == (not distillation)


@pytest.mark.parametrize("method, file", [("theirs", None), ("mine", "code/mine.py:Mine")])
def test_methods_that_are_not_at_hand_may_say_what_they_like(method, file):
    record = make_record(method=method, family="new", config={"method": file or method}, parameters=3)
    assert list(contradictions(record)) == []
    other = make_record(method="other", config={"method": file or method})
    assert list(contradictions(other)) == [f"method: other, but config says {file or method}"]
    weights = make_record(method=method, config={"method": file or method}, weights="0" * 64)
    assert list(contradictions(weights)) == ["external_data: false, with a file of starting weights"]


@pytest.mark.parametrize(
    "name", [*(n for n in backbone_names.BACKBONES if "<" not in n), "resnet12-7", "resnet12-64"]
)
def test_backbones_have_the_parameters_that_their_names_tell(name):
    built = backbones.parameter_count(backbones.build(name))
    assert backbone_names.parameter_count(name) == built


def test_of_timm_the_name_does_not_tell():
    assert backbone_names.parameter_count("timm:resnet18") is None


@pytest.mark.parametrize("name", ["novel/unbalanced_pair_accuracy", "generalized/6+1/0s/base"])
def test_unbalanced_pairs_and_the_base_classes_before_joining_are_recomputed(folder, name):
    def change(record):
        metric = record["metrics"][name]
        metric["value"] = (metric["value"] + metric["low"]) / 2

    folder.edit(change)
    assert [line.split(":")[0] for line in folder.of_first()] == [f"{name} value"]


def test_records_of_csv_splits_are_valid_without_the_file(tmp_path, unquestioned, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    write_images(Path("images"), classes=9, each=24)
    parts = ["base"] * 3 + ["validation"] * 3 + ["novel"] * 3
    Path("splits").mkdir()
    lines = [f"class{number},{part}" for number, part in enumerate(parts)]
    Path("splits/own.csv").write_text("\n".join(["class,part", *lines]))
    answer = bench(
        "run", "--method", "nearest_centroid", "--preset", "smoke", "--steps", 2, "--device", "cpu",
        "--image-size", 16, "--dataset", "folder:images", "--split", "splits/own.csv",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    shutil.rmtree("splits")
    assert bench("validate").code == 0
    (path,) = Path("results").rglob("*.json")
    record = json.loads(path.read_text())
    for false in ("splits/other.csv", "90-10", "own.csv@00000000"):
        path.write_text(json.dumps(record | {"config": record["config"] | {"split": false}}))
        said = bench("validate")
        assert said.code == 1 and f"split: {record['split']}, but config says {false}" in said.out
