"""Every run keeps its model, and it answers the same in a fresh process without the data."""

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import bench, write_images
from forked_runs import in_fork
from small_budget import small_budget

from bench.common.errors import UserError
from bench.data.normalisation import Normaliser
from bench.evaluation import verification
from bench.evaluation.embedding import embed_images
from bench.records import store
from bench.run import models
from methods.backbones import build
from methods.nearest_centroid import NearestCentroid
from methods.timm_backbone import TimmBackbone

pytestmark = pytest.mark.slow
RUN = [
    "run", "--method", "nearest_centroid", "--preset", "quick", "--split", "50-50", "--device", "cpu",
    "--dataset", "folder:images", "--precision", "fp32", "--steps", 4, "--set", "images=32",
    "--measure", "pairs",
]  # fmt: skip


def embed_elsewhere(folder: Path, images: Path, made: Path, cache: str) -> None:
    os.environ["FEWSHOT_CACHE"] = cache
    os.environ.pop("FEWSHOT_DATA", None)
    model = models.load(folder)
    pixels = torch.load(images)
    features = embed_images(
        model.method, pixels, torch.arange(len(pixels)), model.normalise, model.card.precision
    )
    torch.save(features, made)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run on 10 classes of 30 images: too few of them for validation episodes."""
    place = tmp_path_factory.mktemp("models")
    write_images(place / "images", classes=10, each=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        small_budget(patch, pairs=1000)
        answer = bench(*RUN)
        assert answer.code == 0, answer.err
        yield store.read(Path(answer.out.split()[-1])), place


def test_a_run_keeps_its_model_and_the_record_names_it(ran):
    record, place = ran
    model = models.load(place / "runs" / record.run_id)
    assert record.model == model.card.weights_sha256
    assert model.card.base_classes == [f"class{number}" for number in range(5)]
    assert (model.card.image_size, model.card.backbone) == ((32, 32), "conv4")
    assert model.card.thresholds == record.thresholds
    assert not model.method.training
    assert not (place / "runs" / record.run_id / "checkpoints").exists()


def test_it_answers_as_its_run_did(ran):
    """The pair scores of the record, from the model and the images alone."""
    import numpy as np

    from bench.data import sources
    from bench.data.splits import resolve
    from bench.sampling.episodes import ClassPool

    record, place = ran
    model = models.load(place / "runs" / record.run_id)
    data = sources.load(record.dataset)
    split = resolve(data, record.split)
    made = embed_images(model.method, data.images, split.novel_images, model.normalise, model.card.precision)
    pool = ClassPool(data.labels[split.novel_images].numpy())
    key = f"{data.fingerprint}/{split.name}/novel/0"
    threshold = model.card.thresholds["similarity"]
    score = partial(verification.scores, model.method, made)
    verified = verification.verified(score, pool, key, threshold, 1000)
    with np.load(place / "results" / "own" / record.episode_file) as arrays:
        np.testing.assert_array_equal(verified.scores, arrays["novel/pair_scores"])


def test_in_a_fresh_process_without_the_data(ran, tmp_path):
    record, place = ran
    folder = place / "runs" / record.run_id
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    in_fork(embed_elsewhere, folder, tmp_path / "images.pt", tmp_path / "made.pt", str(tmp_path / "empty"))
    model = models.load(folder)
    expected = embed_images(model.method, images, torch.arange(20), model.normalise, model.card.precision)
    assert torch.equal(torch.load(tmp_path / "made.pt"), expected)
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("model.safetensors", lambda old: old[:-1] + bytes([old[-1] ^ 1]), "the SHA-256 differs"),
        ("model.safetensors", None, "No such file"),
        ("model.json", lambda old: old[:20], "not a model card"),
        ("model.json", lambda old: old.replace(b'"conv4"', b'"resnet12"'), "does not fit nearest_centroid"),
    ],
)
def test_what_is_not_the_model_of_a_run_is_refused(ran, tmp_path, file, change, problem):
    record, place = ran
    for path in (place / "runs" / record.run_id).glob("model.*"):
        content = path.read_bytes()
        if path.name == file:
            if change is None:
                continue
            content = change(content)
        (tmp_path / path.name).write_bytes(content)
    with pytest.raises(UserError, match=problem):
        models.load(tmp_path)


def test_a_model_of_a_method_file_runs_its_code_only_if_asked(ran, tmp_path):
    record, place = ran
    folder = place / "runs" / record.run_id
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    card = json.loads((folder / "model.json").read_text()) | {"method": "mine.py:Mine"}
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"is the Python file mine\.py:Mine; .* run it with --run-code"):
        models.load(tmp_path)


def test_a_model_of_timm_needs_no_download_and_keeps_its_small_stem(tiny, tiny_split, tmp_path, monkeypatch):
    backbone = build("timm:test_resnet")
    backbone.shrink_stem()
    method = NearestCentroid(backbone, NearestCentroid.Hyperparameters(), 8).eval()
    prepared = SimpleNamespace(
        method=method, config=SimpleNamespace(method="nearest_centroid", backbone="timm:test_resnet"),
        data=tiny, split=tiny_split, run_id="r", normalise=Normaliser(tiny.images, tiny_split.train),
        precision="32-true", identity=SimpleNamespace(sha256="0"),
    )  # fmt: skip
    models.save(prepared, tmp_path, {})
    monkeypatch.setattr(TimmBackbone, "load_pretrained", lambda _: pytest.fail("a download"))
    again = models.load(tmp_path).method
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(again.embed(images), method.embed(images))
