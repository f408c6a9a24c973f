"""Exported graphs answer as the model; a wrong one is an error, unlike one that cannot be made."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.common.errors import UserError
from bench.config.run_config import method_info
from bench.data.normalisation import Normaliser
from bench.serving import export
from methods import registry
from methods.protonet import ProtoNet

pytestmark = pytest.mark.slow  # PyTorch's exporters take seconds to import
OUT = Path("out")


class Backbone(nn.Module):
    """Mean colours of parts of the image, with a learned weight."""

    dim = 12

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, self.dim))

    def forward(self, images):
        return self.weight * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Fitted(ProtoNet):
    """A trace of its answers holds those of the example."""

    def episode_logits(self, support, query):
        return self.distance.matrix(query, torch.from_numpy(support.numpy().mean(2)))


def predictor(name: str):
    method_class = Fitted if name == "fitted" else registry.load(method_info(name))
    method = method_class(Backbone(), method_class.Hyperparameters(), 4).eval()
    card = SimpleNamespace(method=name, run_id="r", image_size=(8, 8))
    return SimpleNamespace(method=method, card=card, normalise=Normaliser.of_pixels([120] * 3, [60] * 3))


FORMULAS = ("protonet", "nearest_centroid", "siamese_triplet", "matching", "pair_classifier")


@pytest.mark.parametrize("name", FORMULAS)
def test_both_graphs_answer_as_the_model(name):
    own = predictor(name)
    made = export._graphs(own, "torchscript", OUT)
    embed, classes = (torch.jit.load(io.BytesIO(made[OUT / f"{one}.pt"])) for one in ("embedding", "classes"))
    images = torch.randint(0, 256, (11, 3, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(1))
    with torch.no_grad():
        embedded = own.method.embed(own.normalise(images)).float()
        torch.testing.assert_close(embed(images), embedded)
        support, query = embedded[:8].unflatten(0, (4, 2)), embedded[8:]
        expected = own.method.episode_logits(support[None], query[None])[0].float()
        torch.testing.assert_close(classes(support, query), expected)


@pytest.mark.parametrize("name", ["fitted", "finetune"])
def test_what_is_fitted_to_the_support_set_is_left_out_and_said(name, capsys):
    assert list(export._graphs(predictor(name), "torchscript", OUT)) == [OUT / "embedding.pt"]
    assert capsys.readouterr().err == (
        f"note: no classes.pt of {name}: this format cannot hold how it answers,"
        " for example because it fits the support set\n"
    )


class Doubled(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return 2 * self.module(*inputs)


@pytest.mark.parametrize(("kind", "file"), [(export.Classes, "classes"), (export.Embedding, "embedding")])
def test_a_wrong_graph_is_an_error(monkeypatch, kind, file):
    real = export._torchscript

    def wrong(module, *rest):
        return real(Doubled(module) if isinstance(module, kind) else module, *rest)

    monkeypatch.setattr(export, "_torchscript", wrong)
    with pytest.raises(UserError, match=rf"the exported {file}\.pt gives other answers than the model"):
        export._graphs(predictor("protonet"), "torchscript", OUT)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_is_named_in_one_line(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"^--format onnx: packages are missing; install the extra export \("):
        export._graphs(predictor("protonet"), "onnx", OUT)
