"""Joining: what a method is handed, what is asked of it, and what is saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, write_images
from pixel_prototypes import DRAWS, EACH, B, N, Pixels, drawn, join
from safetensors.torch import load
from small_budget import small_budget
from torch import nn

from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.evaluation import joining
from bench.evaluation.answers import ContractError
from bench.evaluation.budget import Budget
from bench.evaluation.embedding import embed_images
from bench.records import store
from methods.abilities import JoinsAsNetwork
from methods.backbones import build
from methods.imprinted import Imprinted

SHOTS = Budget.joining_shots


class Trains(JoinsAsNetwork, Pixels):
    """Trains nothing; remembers what it is handed to train on."""

    joins_with = "training"

    def __init__(self) -> None:
        super().__init__()
        self.handed: list = []

    def join(self, support, base):
        assert torch.is_grad_enabled() and not self.training
        self.handed.append((support, base(3), base(50)))
        means = torch.arange(B * 2.0).view(B, 2), torch.full((len(support), 2), -5.0)
        return Compare(torch.cat(means))


class Compare(nn.Module):
    """Logits from one pixel of each image."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        assert not torch.is_grad_enabled()
        return images[:, :2, 3, 5] @ self.weights.T


class Centres(Compare):
    """Sees all queries at once."""

    def forward(self, images):
        return super().forward(images - images.mean(0))


@pytest.fixture(scope="module")
def split(tiny):
    return resolve(tiny, "47-53")


@pytest.fixture
def trained(tiny, split, monkeypatch):
    small_budget(monkeypatch, trained_joining_classes=4)
    method = Trains()
    return method, join(tiny, split, method)


@pytest.mark.slow
def test_a_network_that_looks_at_other_queries_is_refused(tiny, split):
    class Peeks(Trains):
        def join(self, support, base):
            return Centres(super().join(support, base).weights.data)

    with pytest.raises(
        ContractError, match="the network that join returns gives another answer for a query when other"
    ):
        join(tiny, split, Peeks())
    declared = Peeks()
    declared.transductive = True
    join(tiny, split, declared)


def test_networks_are_handed_base_training_images_and_the_support(tiny, split, trained):
    method, _ = trained
    normalise = Normaliser(tiny.images, split.train)
    train = normalise(tiny.images[split.train]).flatten(1)
    labels = torch.tensor([split.base.index(c) for c in tiny.labels[split.train].tolist()])
    novel = normalise(tiny.images[split.novel_images]).flatten(1)
    support, three, fifty = next(handed for handed in method.handed if len(handed[0]) == N)
    for batch, size in ((three, 3), (fifty, 50)):
        distance, which = torch.cdist(batch.images.flatten(1), train).min(dim=1)
        assert len(batch.images) == size and distance.max() < 0.1
        assert torch.equal(batch.labels, labels[which])
    assert len(fifty.labels.unique()) > 5
    _, draws = drawn(tiny, split, support.shape[1])
    expected = [novel[draws[0][c]] for c in range(N)]
    torch.testing.assert_close(support.flatten(2), torch.stack(expected))
    # Another support set brings other base images.
    assert len({handed[2].images.sum().item() for handed in method.handed}) == len(
        {h[0].sum().item() for h in method.handed}
    )


@pytest.mark.slow
def test_what_trains_a_network_for_each_join_is_asked_of_fewer(tiny, split, trained):
    _, found = trained
    one, together = f"generalized/{B}+1", f"generalized/{B}+{N}"
    chosen = found.arrays[f"{one}/classes"].tolist()
    assert len(set(chosen)) == 4 and chosen == sorted(chosen)
    assert join(tiny, split, Trains()).arrays[f"{one}/classes"].tolist() == chosen
    assert found.arrays[f"{one}/5s/novel"].shape == (4, DRAWS)
    assert found.arrays[f"{together}/5s/novel"].shape == (Budget.trained_joining_draws, N)
    assert found.metrics[f"{one}/5s/novel"].n == 4 and found.metrics[f"{together}/5s/novel"].n == 3
    names = {tiny.class_names[split.novel[c]] for c in chosen}
    assert {name for name, own in found.per_class.items() if f"{one}/5s/novel" in own} == names
    assert found.images == 0  # no mean embeddings are needed


def test_networks_are_asked_about_the_same_images(tiny, split, trained):
    """The network's own answers, image by image."""
    _, found = trained
    normalise = Normaliser(tiny.images, split.train)
    weights = torch.cat([torch.arange(B * 2.0).view(B, 2), torch.full((1, 2), -5.0)])

    def answers(index):
        return (normalise(tiny.images[index])[:, :2, 3, 5] @ weights.T).argmax(1)

    labels = torch.tensor([split.base.index(c) for c in tiny.labels[split.base_test].tolist()])
    base = (answers(split.base_test) == labels).float().mean()
    pool, draws = drawn(tiny, split, 10)
    for i, c in enumerate(found.arrays[f"generalized/{B}+1/classes"].tolist()):
        rest = np.setdiff1d(np.arange(pool.starts[c], pool.starts[c] + EACH), draws[7][c])
        right = (answers(split.novel_images[torch.from_numpy(rest)]) == B).float().mean()
        assert found.arrays[f"generalized/{B}+1/10s/novel"][i, 7] == pytest.approx(right.item())
        assert found.arrays[f"generalized/{B}+1/10s/base"][i, 7] == pytest.approx(base.item())
    assert 0 < found.arrays[f"generalized/{B}+1/10s/novel"].mean() < 1


def imprinted(**changes) -> Imprinted:
    torch.manual_seed(0)
    return Imprinted(build("conv4", 16), Imprinted.Hyperparameters(embedding=16, **changes), B).eval()


@pytest.mark.slow
def test_imprinted_models_are_saved(tiny, split):
    method = imprinted()
    found = join(tiny, split, method)
    names = [tiny.class_names[c] for c in split.novel]
    assert set(found.networks) == {f"{shot}s_{name}.safetensors" for shot in SHOTS for name in names}
    assert found.images == 0  # it has a classifier
    content = found.networks[f"5s_{names[3]}.safetensors"]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    classes = [*(tiny.class_names[c] for c in split.base), names[3]]
    assert json.loads(header["__metadata__"]["classes"]) == classes
    saved = load(content)
    assert set(saved) == {"head.weight", "head.scale"} and saved["head.weight"].shape == (B + 1, 16)
    # The weights are those that the measured answers came from.
    normalise = Normaliser(tiny.images, split.train)
    novel = embed_images(method, tiny.images, split.novel_images, normalise, "32-true")
    base = embed_images(method, tiny.images, split.base_test, normalise, "32-true")
    pool, draws = drawn(tiny, split, 5)
    rest = np.setdiff1d(np.arange(pool.starts[3], pool.starts[3] + EACH), draws[0][3])
    labels = torch.tensor([split.base.index(c) for c in tiny.labels[split.base_test].tolist()])
    right = (novel[torch.from_numpy(rest)] @ saved["head.weight"].T).argmax(1) == B
    assert found.arrays[f"generalized/{B}+1/5s/novel"][3, 0] == pytest.approx(right.float().mean().item())
    right = (base @ saved["head.weight"].T).argmax(1) == labels
    assert found.arrays[f"generalized/{B}+1/5s/base"][3, 0] == pytest.approx(right.float().mean().item())


@pytest.mark.slow
def test_finetuned_models_are_saved_whole_and_no_more_than_fit(tiny, split, monkeypatch):
    small_budget(monkeypatch, joining_shots=(1, 5), joining_draws=2)
    small_budget(monkeypatch, trained_joining_classes=3, trained_joining_draws=2)
    method = imprinted(finetune=True, finetune_steps=1, finetune_images=4)
    found = join(tiny, split, method)
    assert len(found.networks) == 6
    content = next(iter(found.networks.values()))
    saved = load(content)
    assert {"embedding.weight", "head.weight"} | {
        f"backbone.{k}" for k in method.backbone.state_dict()
    } <= set(saved)
    images = joining.FromImages(method, tiny, split, Normaliser(tiny.images, split.train), "32-true")
    supports = {f"of class {c}": np.arange(5)[None] + EACH * c for c in range(N)}
    for most, files in ((2 * len(content) + 500, 2), (1, 1)):
        monkeypatch.setattr(joining, "SAVED_BYTES", most)
        few = joining.saved(images, supports)
        assert list(few) == [f"5s_of-class-{c}.safetensors" for c in range(files)]


@pytest.mark.slow
def test_a_run_records_shows_and_saves_what_joined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    small_budget(monkeypatch, joining_shots=(1, 5), joining_draws=2, trained_joining_draws=2)
    write_images(Path("images"), classes=4, each=24)
    command = ["run", "--method", "imprinted", "--dataset", "folder:images", "--split", "50-50"]
    command += [
        "--image-size",
        "16",
        "--preset",
        "smoke",
        "--steps",
        "1",
        "--set",
        "finetune=true",
        "--device",
        "cpu",
    ]
    command += ["--set", "finetune_steps=2", "--measure", "generalized", "--verbose"]
    answer = bench(*command)
    assert answer.code == 0, answer.err
    assert "generalized" in answer.err
    record = store.read(Path(answer.out.splitlines()[-1]))
    for shot in (1, 5):
        assert f"generalized/2+1/{shot}s/harmonic" in answer.out
        assert record.metrics[f"generalized/2+1/{shot}s/novel"].std is not None
        assert all(f"generalized/2+1/{shot}s/novel" in own for own in record.per_class.values())
    folder = Path("runs", record.run_id, "joined")
    expected = {f"{shot}s_{name}.safetensors" for shot in (1, 5) for name in record.per_class}
    assert {path.name for path in folder.iterdir()} == expected
    (folder / "left_over.safetensors").touch()
    assert bench(*command, "--overwrite").code == 0
    assert {path.name for path in folder.iterdir()} == expected
    assert store.read(Path(answer.out.splitlines()[-1])).metrics == record.metrics
