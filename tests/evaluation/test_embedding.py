"""Embedding: each image once, in order, and never dependent on another image."""

import pytest
import torch

from bench.data.normalisation import Normaliser
from bench.evaluation import embedding
from bench.evaluation.embedding import autocast, embed_images
from methods.backbones import build
from methods.method import Method

FULL = "32-true"


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    method = Method(build("conv4"), Method.Hyperparameters(), 8)
    with torch.no_grad():  # batch norm with statistics of its own
        method.backbone(torch.randn(64, 3, 16, 16) * 2 + 1)
    return method.eval()


@pytest.fixture(scope="module")
def normalise(tiny, tiny_split) -> Normaliser:
    return Normaliser(tiny.images, tiny_split.train)


def test_equals_one_image_at_a_time(method, tiny, normalise, monkeypatch):
    index = torch.tensor([5, 5, 300, 2, 411, 0])
    with torch.no_grad():
        one_by_one = torch.cat([method.embed(normalise(tiny.images[i : i + 1])) for i in index.tolist()])
    for size in (1, 4, 512):
        monkeypatch.setattr(embedding, "BATCH", size)
        made = embed_images(method, tiny.images, index, normalise, FULL)
        assert made.dtype == torch.float32 and made.shape == (6, 64) and not made.requires_grad
        torch.testing.assert_close(made, one_by_one, rtol=1e-4, atol=1e-5)


def test_neither_weights_nor_statistics_change(method, tiny, normalise):
    before = {name: value.clone() for name, value in method.state_dict().items()}
    embed_images(method, tiny.images, torch.arange(100), normalise, FULL)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


def test_a_method_in_training_mode_is_refused(method, tiny, normalise):
    method.train()
    try:
        with pytest.raises(ValueError, match="evaluation mode"):
            embed_images(method, tiny.images, torch.arange(4), normalise, FULL)
    finally:
        method.eval()


def test_progress_counts_every_image(method, tiny, normalise, monkeypatch):
    monkeypatch.setattr(embedding, "BATCH", 30)
    counts: list[int] = []
    embed_images(method, tiny.images, torch.arange(100), normalise, FULL, counts.append)
    assert counts == [30, 30, 30, 10]


@pytest.mark.parametrize(("side", "count"), [(28, 512), (84, 512), (224, 72), (5000, 1)])
def test_large_images_come_in_smaller_batches(side, count):
    class Resizes(torch.nn.Module):
        size = (side, side)

    image = torch.empty(1, 3, side, side, device="meta")
    assert embedding.batch_size(image, torch.nn.Identity()) == count
    assert embedding.batch_size(image[..., :28, :28], Resizes()) == count


def test_the_backbone_runs_in_the_precision_asked_for(tiny, normalise):
    seen = []

    class Spy(Method):
        def embed(self, images):
            features = self.backbone(images)
            seen.append(features.dtype)
            return features

    torch.manual_seed(0)
    spy = Spy(build("conv4"), Spy.Hyperparameters(), 8).eval()
    exact = embed_images(spy, tiny.images, torch.arange(20), normalise, FULL)
    mixed = embed_images(spy, tiny.images, torch.arange(20), normalise, "bf16-mixed")
    assert seen == [torch.float32, torch.bfloat16]
    assert mixed.dtype == torch.float32
    error = (mixed - exact).norm() / exact.norm()
    assert 0 < error < 0.03


@pytest.mark.parametrize(
    "precision, dtype",
    [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_autocast(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_weights_changed_in_place_count_at_once():
    """A method that adapts within one mixed-precision context computes with the weights that it has made."""
    layer = torch.nn.Linear(2, 1, bias=False)
    images = torch.ones(1, 2)
    with autocast(torch.device("cpu"), "bf16-mixed"):
        before = layer(images).item()
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert layer(images).item() == pytest.approx(before + 2.0, abs=0.05)


def test_features_are_kept_only_where_the_backbone_gets_the_images_as_they_come(tiny, normalise):
    class Colours(Method):
        def embed(self, images):
            return images.mean((2, 3))  # not by its backbone

    class Kept:
        def open_or_build(self, index, build):
            pytest.fail("features of the backbone are not asked for")

    spy = Colours(build("conv4"), Colours.Hyperparameters(), 8).eval()
    index = torch.arange(5)
    made = embed_images(spy, tiny.images, index, normalise, FULL, frozen=Kept())
    torch.testing.assert_close(made, normalise(tiny.images[index]).mean((2, 3)))
