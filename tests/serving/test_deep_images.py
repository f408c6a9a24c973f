"""Images of more than 8 bits are scaled by the range of the model's data, or of the support set."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_prototypes import Pixels

from bench.common.errors import UserError
from bench.data import sources
from bench.data.joined import joined
from bench.data.normalisation import Normaliser
from bench.run import models
from bench.run.models import Card, Model
from bench.serving import files
from bench.serving.predictor import Predictor

SIZE = 8


def predictor(**card) -> Predictor:
    about = Card(
        bench_version="0", run_id="r", method="protonet", hyperparameters={}, backbone="conv4",
        dataset="folder:nowhere", fingerprint="f", split="90-10", base_classes=["a", "b"], thresholds={},
        image_size=(SIZE, SIZE), pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1], precision="32-true",
        weights_sha256="w", **card,
    )  # fmt: skip
    normalise = Normaliser.of_pixels(about.pixel_mean, about.pixel_std)
    return Predictor(Model(Pixels().eval(), normalise, about), Path(), "cpu")


def values(low: float, high: float, kind: str = "uint16") -> np.ndarray:
    """A ramp."""
    return np.linspace(low, high, SIZE * SIZE).reshape(SIZE, SIZE).astype(kind)


def levels(deep: np.ndarray, low: int, high: int) -> np.ndarray:
    return ((deep.astype(np.int64) - low) * 256 // (high - low + 1)).clip(0, 255)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A support set from 100 to 3,000; a query from 200 to 2,000, and a brighter one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    for name, span in {
        "s/a": (100, 1000),
        "s/b": (500, 3000),
        "q": (200, 2000),
        "bright": (9, 60000),
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(values(*span)).save(f"{name}.tif")


@pytest.mark.parametrize(("spans", "used"), [({}, (100, 3000)), ({"int": (0, 65535)}, (0, 65535))])
def test_an_answer_does_not_depend_on_other_queries(folder, capsys, monkeypatch, spans, used):
    own = predictor(spans=spans)
    monkeypatch.setattr(files, "load", lambda *_, **__: own)
    query, bright = Path("q.tif"), Path("bright.tif")
    alone, together = (
        files.predict_files("r", Path("s"), queries, Path("runs"), None)
        for queries in ([query], [bright, query])
    )
    assert alone.answers == together.answers[1:]
    said = "note: support images: 2 images have more than 8 bits; 100 to 3000 become 0 to 255\n"
    assert capsys.readouterr().err == ("" if spans else 2 * said)
    support, _, known = own.decode(["s/a.tif", "s/b.tif"], together=True)
    pixels, _, _ = own.decode([bright, query], known)
    np.testing.assert_array_equal(support[1, 0], levels(values(500, 3000), *used))
    np.testing.assert_array_equal(pixels[1, 0], levels(values(200, 2000), *used))
    probabilities = own.answer(["s/a.tif", "s/b.tif"], [0, 1], [bright, query]).probabilities
    assert torch.equal(own.answer(["s/a.tif", "s/b.tif"], [0, 1], [query]).probabilities[0], probabilities[1])


def test_without_a_range_each_query_is_scaled_by_its_own(folder):
    own = predictor(spans={"float": (0.0, 1.0)})
    pixels = own.pixels(["q.tif", "bright.tif"])
    np.testing.assert_array_equal(pixels[0, 0], levels(values(200, 2000), 200, 2000))
    assert torch.equal(pixels[:1], own.pixels(["q.tif"]))


@pytest.mark.parametrize("kind", ["uint16", ">u2", "int32", "float32"])
def test_pictures_in_memory_keep_all_bits(kind):
    kinds = {"int": (0, 65535), "float": (0.0, 65535.0)}
    array = values(300, 40000, kind)
    pixels = predictor(spans=kinds).pixels([array, Image.fromarray(array)])
    assert torch.equal(pixels[0], pixels[1])
    assert np.abs(pixels[0, 0].numpy() - levels(values(300, 40000), 0, 65535)).max() <= 1


def test_a_model_keeps_the_range_of_its_images(tmp_path, folder):
    for label in ("a", "b"):
        Path("images", label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(values(number, 999)).save(f"images/{label}/{number}.tif")
    built, data = (sources.load("folder:images", image_size=SIZE) for _ in range(2))  # and from the cache
    assert built.spans == data.spans == {"int": (0, 999)}
    other = replace(data, name="other", fingerprint="another", spans={"int": (0, 1)})
    assert joined(data, other).spans == {"int": (0, 999)} and joined(other, data).spans == {"int": (0, 1)}
    prepared = SimpleNamespace(
        method=Pixels(), config=SimpleNamespace(method="protonet", backbone="conv4"), data=data, run_id="r",
        split=SimpleNamespace(name="50-50", base=(0,)), normalise=Normaliser.of_pixels([0] * 3, [1] * 3),
        precision="32-true", identity=SimpleNamespace(sha256="0"),
    )  # fmt: skip
    models.save(prepared, tmp_path / "run", {})
    assert models.read_card(tmp_path / "run").spans == {"int": (0, 999)}


def test_memory_that_is_full_is_not_called_a_damaged_image(folder, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("PIL.Image.open", full)
    with pytest.raises(UserError, match=r"^images: out of memory at q\.tif$"):
        predictor().decode(["q.tif"])


def test_a_run_without_pairs_has_no_threshold():
    with pytest.raises(UserError, match=r"^--run r: measured no pairs"):
        _ = predictor().threshold


def test_only_so_many_support_sets_are_remembered(monkeypatch):
    monkeypatch.setattr("bench.serving.predictor.MOST_REMEMBERED", 2)
    own, query = predictor(), torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    asked = [torch.stack([query[0], query[0] + level]) for level in range(1, 6)]
    expected = [predictor().answer(support, [0, 1], query).probabilities for support in asked]
    for _ in range(2):
        for support, probabilities in zip(asked, expected, strict=True):
            assert torch.equal(own.answer(support, [0, 1], query).probabilities, probabilities)
            assert len(own._supports) <= 2
