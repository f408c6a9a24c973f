"""A recorded run answers for new images of new classes: embeddings, probabilities, similarity."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from served_run import QUICK_MAML, made, novel

import bench
from bench.common.errors import UserError
from bench.data import sources
from bench.data.splits import resolve
from bench.records import store
from bench.serving.calibration import FILE
from bench.serving.predictor import equal_shots, load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def record(place):
    return store.read(next(Path("results", "own").glob("nearest*.json")))


@pytest.fixture(scope="module")
def predictor(record):
    return bench.load(record.run_id, device="cpu")


def flat(files):
    return [path for own in files.values() for path in own], [c for c, own in files.items() for _ in own]


def test_files_become_the_images_of_the_data_set(place, predictor):
    data = sources.load("folder:images")
    index = (data.labels == data.class_names.index("class7")).nonzero().flatten()
    files = sorted((place / "images/class7").iterdir())
    pixels = predictor.pixels(files)
    assert pixels.dtype == torch.uint8
    as_set = {image.numpy().tobytes() for image in pixels}
    assert as_set == {image.numpy().tobytes() for image in data.images[index]}
    pictures = [Image.open(path) for path in files[:3]]
    assert torch.equal(predictor.pixels(pictures), pixels[:3])
    assert torch.equal(predictor.pixels([np.asarray(picture) for picture in pictures]), pixels[:3])


def test_it_classifies_as_the_formula_says(place, predictor):
    support, labels = flat(novel(place))
    query, truth = flat(novel(place, images=range(10, 30)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chances = predictor.classify(support, labels, query)
    assert chances.shape == (60, 3) and chances.sum(1) == pytest.approx(np.ones(60), abs=1e-5)
    made_support, made_query = (predictor.embed(files).numpy() for files in (support, query))
    means = made_support.reshape(3, 3, -1).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    logits = made_query @ means.T / predictor.calibration(3, 3).temperature
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(chances, expected / expected.sum(1, keepdims=True), atol=1e-4)
    right = np.array(sorted(set(labels)))[chances.argmax(1)] == np.array(truth)
    assert right.mean() > 0.6


def test_labels_may_be_in_any_order_and_classes_of_any_size(place, predictor):
    support, labels = flat(novel(place))
    query, _ = flat(novel(place, images=range(10, 14)))
    expected = predictor.classify(support, labels, query)
    order = [4, 0, 8, 3, 6, 1, 5, 2, 7]
    shuffled = predictor.classify([support[i] for i in order], [labels[i] for i in order], query)
    torch.testing.assert_close(shuffled, expected)
    numbers = torch.tensor([int(label[-1]) for label in labels])
    torch.testing.assert_close(predictor.classify(support, numbers, query), expected)
    uneven = predictor.classify(support[:-1], labels[:-1], query)
    assert uneven.shape == expected.shape and not torch.equal(uneven, expected)


def test_classes_of_different_sizes_keep_their_means():
    classes = [torch.randn(count, 4, generator=torch.Generator().manual_seed(count)) for count in (2, 3, 4)]
    together = equal_shots(classes)
    assert together.shape == (3, 12, 4)
    for own, repeated in zip(classes, together, strict=True):
        torch.testing.assert_close(repeated.mean(0), own.mean(0))
    assert equal_shots([torch.zeros(97, 1), torch.zeros(89, 1)]).shape == (2, 97, 1)


def test_similarity_is_that_of_the_method(place, predictor, record):
    (a, b), (c, *_) = (own[:2] for own in list(novel(place).values())[:2])
    scores = predictor.similarity([a, a, a], [a, b, c])
    assert scores[0] == pytest.approx(1, abs=1e-5)
    made_a, made_b = predictor.embed([a, b]).numpy()
    assert scores[1] == pytest.approx(float(made_a @ made_b), abs=1e-5)
    assert predictor.threshold == record.thresholds["similarity"]


def test_calibration_is_of_validation_images_and_cached(place, predictor, record, monkeypatch):
    found = predictor.calibration(3, 1)
    assert (found.way, found.shot, found.classes) == (3, 1, "base")
    assert 0 <= found.calibration_error <= 1 and found.temperature > 0
    assert 0 <= found.false_accepts <= 1 and 0 <= found.false_rejects <= 1
    split = resolve(sources.load("folder:images"), "50-50")
    asked = []
    fresh = load(record.run_id, device="cpu")
    monkeypatch.setattr(fresh, "embed", lambda pixels: asked.append(pixels))
    assert fresh.calibration(3, 1) == found and asked == []
    kept = json.loads((place / "runs" / record.run_id / FILE).read_text())
    assert kept["calibrations"]["3w1s"] == found.model_dump()
    assert split.validation == ()


def test_temperature_makes_probabilities_mean_what_they_say(predictor):
    found = predictor.calibration(3, 1)
    assert found.calibration_error < found.uncalibrated_error
    assert found.calibration_error < 0.2


def test_more_classes_than_the_data_has_are_calibrated_with_fewer_and_said(place, predictor):
    support, labels = flat(novel(place, classes=range(12)))
    with pytest.warns(UserWarning, match="calibrated for 5 classes with 3 images each"):
        predictor.classify(support, labels, support[:2])


def test_without_the_data_answers_are_not_calibrated_and_it_is_said(place, record, tmp_path):
    folder = tmp_path / "copied"
    folder.mkdir()
    for name in ("model.json", "model.safetensors"):
        (folder / name).write_bytes((place / "runs" / record.run_id / name).read_bytes())
    card = json.loads((folder / "model.json").read_text()) | {"dataset": "folder:gone"}
    (folder / "model.json").write_text(json.dumps(card))
    support, labels = flat(novel(place))
    alone = load(folder, device="cpu")
    with pytest.warns(UserWarning, match="not calibrated.*no such folder"):
        chances = alone.classify(support, labels, support)
    assert chances.argmax(1).tolist() == bench.load(record.run_id).classify(
        support, labels, support
    ).argmax(1).tolist()  # fmt: skip


def test_none_of_these(place, predictor):
    """Images of the support set's classes are answered with one of them more often than other images."""
    support, labels = flat(novel(place))
    others, _ = flat(novel(place, classes=range(9, 12), images=range(20)))
    own, _ = flat(novel(place, images=range(10, 30)))
    found = predictor.answer(support, labels, [*own, *others])
    assert found.known[:60].float().mean() > found.known[60:].float().mean()


@pytest.mark.parametrize(("method", "quick"), [("maml", QUICK_MAML), ("pair_classifier", ("--steps", 2))])
def test_every_kind_of_method_can_be_asked(place, method, quick):
    record = made(place, method, *quick)
    predictor = load(record.run_id, device="cpu")
    support, labels = flat(novel(place, classes=range(6, 11), images=range(1)))
    query, _ = flat(novel(place, classes=range(6, 11), images=range(5, 7)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chances = predictor.classify(support, labels, query)
    assert chances.shape == (10, 5) and torch.isfinite(chances).all()
    assert predictor.similarity(query[:2], query[2:4]).shape == (2,)


def test_a_support_set_is_embedded_once(place, record, monkeypatch):
    predictor = load(record.run_id, device="cpu")
    support, labels = flat(novel(place))
    others, more = flat(novel(place, images=range(30, 33)))
    query, _ = flat(novel(place, images=range(10, 12)))
    expected = [predictor.classify(own, names, query) for own, names in ((support, labels), (others, more))]
    sizes, embed = [], predictor.embed
    monkeypatch.setattr(predictor, "embed", lambda pixels: sizes.append(len(pixels)) or embed(pixels))
    assert torch.equal(predictor.classify(support, labels, query), expected[0])
    assert torch.equal(predictor.classify(others, more, query), expected[1])
    assert sizes == [6, 6]


def test_what_cannot_be_loaded_or_read(place, predictor, record):
    for run, problem in (
        ("nearest", None),
        ("nowhere", "no such run in runs; "),
        ("images", r"has no model\.json"),
    ):
        if problem is None:
            assert bench.load(run).card.run_id == record.run_id
        else:
            with pytest.raises(UserError, match=problem):
                bench.load(run)
    (place / "broken.png").write_bytes(b"\x89PNG nothing")
    for bad, problem in (("broken.png", "broken.png"), ("gone.png", "no such file")):
        with pytest.raises(UserError, match=problem):
            predictor.embed([place / bad])
    with pytest.raises(ValueError, match=r"uint8 \[N, 3, 32, 32\]"):
        predictor.embed(torch.zeros(2, 3, 16, 16))
    files = sorted((place / "images/class7").iterdir())
    with pytest.raises(ValueError, match="need as many labels"):
        predictor.classify(files[:3], ["a", "b"], files[:1])
    with pytest.raises(ValueError, match="at least 2 classes"):
        predictor.classify(files[:2], ["a", "a"], files[:1])
