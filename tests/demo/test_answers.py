"""The answers of the page of `demo`, and the models that come with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawings import CROSS, RING, drawing
from PIL import Image, ImageOps

from bench.demo import pictures
from bench.serving.shipped import DRAWINGS, PICTURES, SHIPPED, shipped

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pytest.importorskip("gradio")
    from bench.demo.page import Page

    return Page(shipped(DRAWINGS), ROOT / "results", tmp_path_factory.mktemp("runs"), None)


@pytest.mark.parametrize(("data", "pairs"), [(DRAWINGS, 0.9), (PICTURES, 0.6)])
def test_a_shipped_model_is_small_and_its_record_is_committed(data, pairs):
    record = shipped(data).record
    files = {path.name: path for path in (SHIPPED / record.run_id).iterdir()}
    assert set(files) == {"model.safetensors", "model.json", "calibration.json"}
    assert files["model.safetensors"].stat().st_size < 1_000_000
    committed = ROOT / "results" / f"{record.run_id}.json"
    assert committed.read_bytes() == (SHIPPED / committed.name).read_bytes()
    assert json.loads(files["model.json"].read_text())["weights_sha256"] == record.model
    assert record.dataset == data and not record.environment.git_dirty
    assert record.metrics["novel/pair_accuracy"].low > pairs


@pytest.mark.slow
def test_the_shipped_model_compares_handwritten_digits(page):
    """Digits that people wrote (UCI); the model was trained on type."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.concatenate([np.flatnonzero(digits.target == digit)[:40] for digit in range(10)])
    drawn = [Image.fromarray(255 - (pixels * 15.9).astype(np.uint8)) for pixels in digits.images[chosen]]
    canvases = [ImageOps.expand(one.resize((200, 200)).convert("RGB"), 40, "white") for one in drawn]
    model, labels = page.model(), digits.target[chosen]
    made = model.embed(
        [pictures.fit(np.asarray(one), model.size, 240).transpose(1, 2, 0) for one in canvases]
    )
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    said = (made @ made.T).numpy()[first, second] >= model.threshold
    assert said[same].mean() > 0.7 and (~said[~same]).mean() > 0.85


@pytest.mark.slow
def test_it_distinguishes_drawings(page):
    ring, other, cross = map(pictures.encode, (drawing(RING), drawing(RING, at=(20, -30)), drawing(*CROSS)))
    assert "<strong>Same</strong>" in page.compare(ring, other)
    assert "<strong>Different</strong>" in page.compare(ring, cross)
    assert "Cannot be compared" in page.compare(ring, ring[:-40])
    classes = page.add((), cross, " a  cross ")[0]
    classes, url, name, _ = page.add(classes, ring, "")
    assert [name for name, _ in classes] == ["a cross", "class 2"] and (url, name) == ("", "")
    probabilities, _ = page.classify(classes, other)
    assert probabilities["class 2"] > 0.5 and sum(probabilities.values()) == pytest.approx(1)
    assert page.add(classes, "", "x")[0] == classes and page.classify(classes[:1], ring) == (None, "")


@pytest.mark.slow
def test_there_are_not_too_many_classes(page):
    classes = ()
    for number in range(13):
        classes, *_, listed = page.add(classes, pictures.encode(drawing(RING)), f"<{number}>")
    assert len(classes) == 10 and "At most 10 classes" in listed and "&lt;9&gt;" in listed


@pytest.mark.parametrize(
    ("score", "threshold", "shown"),
    [
        (0.85, 0.646, ("0.850", "0.646")),
        (0.6499, 0.65, ("0.6499", "0.6500")),
        (0.649997, 0.650004, ("0.649997", "0.650004")),
        (0.65, 0.65, ("0.650", "0.650")),
    ],
)
@pytest.mark.slow  # the first one imports Gradio
def test_the_similarity_can_be_told_from_the_threshold(score, threshold, shown):
    pytest.importorskip("gradio")
    from bench.demo.page import distinct

    assert distinct(score, threshold) == shown


@pytest.mark.slow
def test_what_is_not_a_picture_changes_nothing(page):
    broken = pictures.encode(drawing(RING))[:-40]
    classes = tuple((name, np.zeros((8, 8, 3), np.uint8)) for name in "ab")
    same, url, name, listed = page.add(classes, broken, "c")
    assert (same, url, name) == (classes, "", "c") and "damaged" in listed
    probabilities, said = page.classify(classes, broken)
    assert probabilities is None and "damaged" in said


@pytest.mark.slow
def test_a_run_whose_model_is_gone_has_no_episodes(page, tmp_path):
    record = page.record.model_copy(update={"run_id": "gone"})
    gone = type(page)(page.run._replace(record=record), tmp_path / "none", tmp_path, None)
    said = gone.episode("gone", 1, False)
    assert "The episodes of this run cannot be shown" in said and "gone/model.json" in said
    assert "No such run" in gone.episode("<another>", 1, False)


@pytest.mark.slow
def test_without_records_there_is_no_leaderboard(page, tmp_path):
    empty = type(page)(page.run, tmp_path / "none", tmp_path, None)
    choice, said, table = empty.boards()
    assert "There are no records in" in said and not choice["visible"] and not table["visible"]
    note, table = empty.board("cifar100 90-10")  # deleted since the page was opened
    assert note == "" and not table["visible"]
