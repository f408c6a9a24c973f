"""Pictures that need the model of a run: its embeddings, its answers, and the images that it saw."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import bench, write_images
from figure_records import everything
from matplotlib.offsetbox import AnnotationBbox
from torch import nn

from bench.data.normalisation import Normaliser
from bench.evaluation import adapted
from bench.records import store
from bench.records.identity import name_of
from bench.reporting.figures import Gap, Picture, checkpoint_figures
from bench.reporting.figures.collect import drawn
from bench.reporting.figures.trained import Trained
from bench.run.materials import BRIEF_IMAGES
from bench.run.models import Model
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.serving.predictor import Predictor
from methods.method import Method

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder with a run: its record, called one of `quick`, its model and its data."""
    place = tmp_path_factory.mktemp("run")
    write_images(place / "images", classes=16, each=24)
    parts = ["base"] * 5 + ["validation"] * 5 + ["novel"] * 6
    lines = [f"class{number},{part}" for number, part in enumerate(parts)]
    (place / "split.csv").write_text("\n".join(["class,part", *lines]))
    answer = bench(
        "run", "--method", "protonet_hallucination", "--preset", "smoke", "--steps", 2, "--precision", "fp32",
        "--dataset", f"folder:{place / 'images'}", "--split", place / "split.csv", "--image-size", 16,
        "--results", place / "results", "--runs", place / "runs", "--device", "cpu",
        "--way", 5, "--shot", 1, "--query", 15, "--episodes", 40,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (path,) = (place / "results").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preset": "quick"}))
    return place


def test_pictures_of_a_trained_method(ran):
    found = everything(ran / "results", "../runs")
    made = {re.sub(r".*csv@[0-9a-f]+-", "", item.name): item for item in found if isinstance(item, Picture)}
    assert {"per-class", "embeddings", "confusions", "episode", "generated"} <= set(made)
    (record,), _ = store.read_all(ran / "results")
    model = f"{name_of(record)}, seed 0, 5w1s accuracy {100 * record.metrics['fewshot/5w1s'].value:.1f}%"
    assert "protonet_hallucination (quick, from scratch, precision=fp32, steps=2)" in model
    for name in ("embeddings", "confusions", "episode", "generated", "per-class"):
        assert made[name].title.endswith(f": {model}")
    with drawn(made["per-class"]) as figure:  # three images of each of the six classes
        assert len(figure.findobj(AnnotationBbox)) == 3 * 6
    with drawn(made["generated"]) as figure:
        (axes,) = figure.axes
        sizes = [len(points.get_offsets()) for points in axes.collections]
    assert sizes == [15, 10, 1] * 5  # queries, generated features and support of each class
    with drawn(made["episode"]) as figure:
        assert len(figure.axes[0].images) == 5 * (1 + checkpoint_figures.SHOWN_QUERIES)
    with drawn(made["confusions"]) as figure:
        (matrix,) = figure.axes[0].images
        assert matrix.get_array().shape == (6, 6, 4)
        shown = [int(text.get_text()) for text in figure.axes[0].texts]
        assert sum(shown) == pytest.approx(100 * 6, abs=18)  # 100% per row, 36 rounded numbers
    with drawn(made["embeddings"]) as figure:
        assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 6 * BRIEF_IMAGES


def test_a_trained_method_answers_as_it_did_in_its_run(ran):
    (record,), _ = store.read_all(ran / "results")
    trained = Trained(record, ran / "runs", None)
    _, episodes = trained.episodes(5, 40)
    assert episodes.sha256() == record.episodes["5w1s"].sha256
    right = trained.answers(episodes) == episodes.labels
    with np.load(ran / "results" / record.episode_file) as file:
        np.testing.assert_allclose(right.sum(axis=1), file["5w1s"], atol=1)
    pixels = trained.pixels(episodes.support)
    assert pixels.shape == (40, 5, 1, 16, 16, 3) and pixels.dtype == np.uint8


def test_methods_that_learn_in_each_episode_answer_the_same_queries(tiny, tiny_split):
    class Learner(Method):
        fixed_embedding = False

        def adapt(self, support):
            means = support.flatten(3).mean(dim=2)
            return lambda query: -torch.cdist(query.flatten(2), means)

    pool = ClassPool(tiny.labels[tiny_split.novel_images].numpy())
    episodes = draw(pool, "some", Setting(4, 2, 5, 6))
    normalise = Normaliser(tiny.images, tiny_split.train)
    trained = Trained.__new__(Trained)
    method, card = Learner(nn.Identity(), None, 8).eval(), SimpleNamespace(precision="32-true")
    trained.predictor = Predictor(Model(method, normalise, card), Path(), "cpu")
    trained.data, trained.split = tiny, tiny_split
    right = trained.answers(episodes) == episodes.labels
    where = tiny.images, tiny_split.novel_images, normalise, "32-true"
    expected = adapted.evaluate(method, *where, pool, episodes)
    np.testing.assert_array_equal(right.sum(axis=1), expected.hits.sum(axis=1))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("weights", "not the weights of model.json"),
        ("another model", "not the model of this record"),
        ("images", "must have the images of the record"),
        ("split", "must have the training and test images of the record"),
        ("configuration", "has a configuration of another version"),
    ],
)
def test_what_is_not_the_record_s_own_is_not_drawn(ran, tmp_path, damage, why):
    (path,) = (ran / "results").glob("*.json")
    record = json.loads(path.read_text())
    if damage == "images":
        record |= {"fingerprint": "0" * 64, "episode_file": None, "episode_file_sha256": None}
    elif damage == "configuration":
        record["config"]["speed"] = 5
    elif damage == "split":
        record["sources"]["split"] = "0" * 64
    elif damage == "another model":
        record["model"] = "0" * 64
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / path.name).write_text(json.dumps(record))
    kept = tmp_path / "runs" / record["run_id"]
    shutil.copytree(ran / "runs" / record["run_id"], kept)
    if damage == "weights":
        (kept / "model.safetensors").write_bytes(b"nothing")
    gaps = {
        item.title: item.why for item in everything(tmp_path / "results", "../runs") if isinstance(item, Gap)
    }
    for name in ("TSNE", "CONFUSIONS", "EPISODE", "GENERATED"):
        assert why in gaps[getattr(checkpoint_figures, name)]
