"""predict, similarity and export as a user runs them."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, complaint
from served_run import QUICK_MAML, made, novel

from bench.records import store
from bench.serving.predictor import load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def files(place):
    """Three novel classes with three labelled images each, and a folder of others to classify."""
    for name, own in novel(place).items():
        (place / "support" / name).mkdir(parents=True)
        for path in own:
            shutil.copy(path, place / "support" / name)
    (place / "query").mkdir()
    for name, own in novel(place, images=range(10, 20)).items():
        for path in own:
            shutil.copy(path, place / "query" / f"{name}-{path.name}")


PREDICT = ["predict", "--run", "nearest", "--support", "support", "--device", "cpu"]


def test_predict_as_table_json_and_csv_says_the_same(place):
    table, as_json, as_csv = (
        bench(*PREDICT, "--query", "query", *more) for more in ([], ["--json"], ["--csv"])
    )
    assert (table.code, as_json.code, as_csv.code) == (0, 0, 0), table.err + as_json.err
    content = json.loads(as_json.out)
    answers, calibration = content["answers"], content["calibration"]
    assert [answer["file"] for answer in answers] == sorted(map(str, Path("query").iterdir()))
    assert (calibration["way"], calibration["shot"]) == (3, 3)
    rows = list(csv.DictReader(io.StringIO(as_csv.out)))
    assert [row["label"] for row in rows] == [answer["label"] for answer in answers]
    assert [float(row["probability"]) for row in rows] == [answer["probability"] for answer in answers]
    assert len(table.out.splitlines()) >= 31
    for answer in answers:
        assert any(answer["file"] in line and answer["label"] in line for line in table.out.splitlines())
    assert ("none of these" in table.out) == any(not answer["known"] for answer in answers)
    assert "expected calibration error" in table.err and "of other classes' images are accepted" in table.err
    right = [Path(answer["file"]).name.startswith(answer["label"]) for answer in answers]
    assert np.mean(right) > 0.6


def test_one_image_per_class_and_several_files(place):
    (place / "flat").mkdir(exist_ok=True)
    for name, files in novel(place).items():
        shutil.copy(files[0], place / "flat" / f"{name}.png")
    files = sorted(map(str, Path("query").iterdir()))[:3]
    answer = bench(
        "predict", "--run", "nearest", "--support", "flat", "--query", *files, "--json", "--device", "cpu"
    )
    found = json.loads(answer.out)["answers"]
    assert [one["file"] for one in found] == files
    assert {one["label"] for one in found} <= {"class6", "class7", "class8"}


def test_a_broken_query_is_named_and_the_others_are_answered(place, tmp_path):
    shutil.copy(next(Path("query").iterdir()), tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    answer = bench(*PREDICT, "--query", tmp_path, "--json")
    assert answer.code == 1 and "b.png" in answer.err
    assert len(json.loads(answer.out)["answers"]) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([*PREDICT, "--query", "nowhere"], "--query nowhere: no such file or folder"),
        ([*PREDICT, "--query", "runs"], "--query runs: has no images"),
        (["predict", "--run", "x", "--support", "no", "--query", "query"], "--support no: no such folder"),
        (["predict", "--run", "x", "--support", "support", "--query", "query"], "--run x: no such run"),
        (["predict", "--run", "x", "--support", "runs", "--query", "query"], "--support runs: has 0 classes"),
        ([*PREDICT, "--query", "query", "--json", "--csv"], "--json: cannot be combined with --csv"),
        (["similarity", "query/no.png", "query/no.png", "--run", "nearest"], "images: cannot be read: query"),
        (["export", "nearest", "--format", "onx"], "--format onx: did you mean onnx?"),
        (["export", "nowhere"], "--run nowhere: no such run in runs"),
    ],
)  # fmt: skip
def test_bad_input(place, arguments, problem):
    assert complaint(*arguments).startswith(problem)


def test_similarity_says_same_or_different(place):
    (one, other), (third, *_) = (files[:2] for files in list(novel(place).values())[:2])
    for second in (one, other, third):
        answer = bench("similarity", one, second, "--run", "nearest", "--device", "cpu")
        as_json = json.loads(
            bench("similarity", one, second, "--run", "nearest", "--device", "cpu", "--json").out
        )
        assert answer.out.startswith(f"{as_json['answer']} (score {as_json['score']:.4f}; same from ")
        assert as_json["answer"] == ("same" if as_json["score"] >= as_json["threshold"] else "different")
    assert bench("similarity", one, one, "--run", "nearest").out.startswith("same (score 1.0000")


ALONE = """
import sys
import numpy as np
import onnxruntime
graphs = (f"{sys.argv[1]}/{name}.onnx" for name in ("embedding", "classes"))
embed, classes = map(onnxruntime.InferenceSession, graphs)
support, query = (np.load(f"{sys.argv[2]}/{name}.npy") for name in ("support", "query"))
(made,) = embed.run(None, {"images": support.reshape(-1, *support.shape[2:])})
(asked,) = embed.run(None, {"images": query})
(scores,) = classes.run(None, {"support": made.reshape(*support.shape[:2], -1), "query": asked})
np.save(f"{sys.argv[2]}/scores.npy", scores)
assert not {"torch", "bench", "methods"} & set(sys.modules)
"""


def test_the_exported_onnx_answers_the_same_without_this_package(place, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    answer = bench("export", "nearest", "--format", "onnx", "--output", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert [Path(line).name for line in answer.out.split()] == ["embedding.onnx", "classes.onnx", "README.md"]
    predictor = load("nearest", device="cpu")
    support = torch.stack([predictor.pixels(files) for files in novel(place).values()])
    query = predictor.pixels(sorted(Path("query").iterdir()))
    np.save(tmp_path / "support.npy", support.numpy())
    np.save(tmp_path / "query.npy", query.numpy())
    subprocess.run([sys.executable, "-I", "-c", ALONE, tmp_path / "out", tmp_path], check=True, cwd=tmp_path)
    scores = torch.from_numpy(np.load(tmp_path / "scores.npy"))
    labels = [label for label in range(3) for _ in range(3)]
    chances = predictor.classify(support.flatten(0, 1), labels, query)
    temperature = predictor.calibration(3, 3).temperature
    torch.testing.assert_close((scores / temperature).softmax(1), chances, atol=1e-3, rtol=0)
    assert scores.argmax(1).tolist() == chances.argmax(1).tolist()


def test_the_exported_torchscript_answers_the_same(place, tmp_path):
    answer = bench("export", "nearest", "--format", "torchscript", "--output", tmp_path)
    assert answer.code == 0, answer.err
    predictor = load("nearest", device="cpu")
    query = predictor.pixels(sorted(Path("query").iterdir()))
    embed, classes = (torch.jit.load(tmp_path / f"{name}.pt") for name in ("embedding", "classes"))
    made = embed(query)
    torch.testing.assert_close(made, predictor.embed(query), atol=1e-4, rtol=1e-4)
    support = torch.stack([predictor.pixels(files) for files in novel(place).values()])
    scores = classes(embed(support.flatten(0, 1)).unflatten(0, support.shape[:2]), made)
    chances = predictor.classify(support.flatten(0, 1), [0, 0, 0, 1, 1, 1, 2, 2, 2], query)
    scaled = scores / predictor.calibration(3, 3).temperature
    torch.testing.assert_close(scaled.softmax(1), chances, atol=1e-3, rtol=0)


def test_the_exported_safetensors_can_be_loaded_and_the_card_has_the_numbers(place, tmp_path):
    answer = bench("export", "nearest", "--output", tmp_path / "copy")
    assert answer.code == 0, answer.err
    query = sorted(Path("query").iterdir())
    assert torch.equal(load(tmp_path / "copy").embed(query), load("nearest").embed(query))
    card = re.sub(" +", " ", (tmp_path / "copy" / "README.md").read_text())
    record = store.read(next(Path("results", "own").glob("nearest*.json")))
    assert record.fingerprint in card and record.command in card and "SimpleShot" in card
    for key, metric in record.metrics.items():
        interval = f"{100 * metric.low:.2f} to {100 * metric.high:.2f}"
        assert f"| `{key}` | {100 * metric.value:.2f} | {interval} | {metric.n:,} |" in card


def test_exported_safetensors_answer_as_the_run_whose_split_is_a_file(place, tmp_path):
    """For numbers of classes and images that nobody has asked of the run, too: those are calibrated."""
    parts = ["base"] * 5 + ["validation"] * 5 + ["novel"] * 2
    names = sorted(path.name for path in Path("images").iterdir())
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    Path("mine.csv").write_text("\n".join(["class,part", *lines]))
    answer = bench(
        "run", "--method", "imprinted", "--preset", "smoke", "--split", "mine.csv", "--device", "cpu",
        "--dataset", "folder:images", "--precision", "fp32", "--measure", "5w1s", "--steps", 2,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert bench("export", "imprinted", "--output", tmp_path / "copy").code == 0
    run, copy = load("imprinted", device="cpu"), load(tmp_path / "copy", device="cpu")
    support = [path for files in novel(place).values() for path in files[:2]]
    asked = support, ["a", "a", "b", "b", "c", "c"], sorted(Path("query").iterdir())
    found, expected = (predictor.answer(*asked) for predictor in (copy, run))
    assert found.calibration == expected.calibration and (found.note, found.calibration.way) == ("", 3)
    assert torch.equal(found.probabilities, expected.probabilities)
    assert torch.equal(found.known, expected.known)


def test_a_method_that_adapts_its_weights_is_exported_as_weights_only(place, tmp_path):
    made(place, "maml", *QUICK_MAML)
    assert complaint("export", "maml", "--format", "onnx", "--output", tmp_path).startswith(
        "--format onnx: maml adapts its weights to each support set; allowed: safetensors"
    )
    assert bench("export", "maml", "--output", tmp_path / "maml").code == 0
