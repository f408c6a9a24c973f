"""Finetuning against torch's own modules and optimizer, one episode at a time."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbones import build
from methods.classification import CosineHead, LinearHead
from methods.finetune import Finetune
from methods.pretraining import Pretraining

WAY, SHOT, DIM = 4, 3, 32


def method(backbone: nn.Module | None = None, **changes) -> Finetune:
    torch.manual_seed(0)
    backbone = backbone or build("resnet12-2", image_size=16)
    # Batch norm with statistics that are not the initial ones.
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.3, 0.3)
            norm.running_var.uniform_(0.5, 1.5)
    return Finetune(backbone, Finetune.Hyperparameters(**changes), 6).eval()


def labels() -> Tensor:
    return torch.arange(WAY).repeat_interleave(SHOT)


def slow_head(features: Tensor, ours: Finetune) -> nn.Module:
    """Where the new head begins: zero, or the means of the normalised features of each class."""
    if ours.hp.head == "linear":
        head = LinearHead(features.shape[1], WAY)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head
    head = CosineHead(features.shape[1], WAY, ours.hp.adapt_scale)
    with torch.no_grad():
        directions = F.normalize(features, dim=1)
        means = torch.stack([directions[labels() == c].mean(0) for c in range(WAY)])
        head.weight.copy_(means / means.norm(dim=1, keepdim=True))
    return head


def slow(network: nn.Module, head: nn.Module, inputs: Tensor, ours: Finetune) -> nn.Module:
    """Chen et al. 2019's loop, in the words of torch: `network` and `head`, trained."""
    hp = ours.hp
    trained = nn.Sequential(network, head).eval()
    optimizer = torch.optim.SGD(
        trained.parameters(),
        lr=ours.adapt_learning_rate,
        momentum=0.9,
        dampening=0.9,
        weight_decay=hp.adapt_weight_decay,
    )
    orders = torch.Generator().manual_seed(0)
    size = hp.adapt_images or len(inputs)
    for _ in range(hp.adapt_epochs):
        order = (
            torch.randperm(len(inputs), generator=orders) if hp.adapt_images else torch.arange(len(inputs))
        )
        for first in range(0, len(inputs), size):
            part = order[first : first + size]
            loss = F.cross_entropy(trained(inputs[part]), labels()[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return trained


@pytest.fixture
def features() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    support = torch.randn(3, WAY, 1, DIM, generator=rng) + torch.randn(3, WAY, SHOT, DIM, generator=rng)
    return support, torch.randn(3, 9, DIM, generator=rng)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(2, WAY, 1, 3, 16, 16, generator=rng)
    return centres + torch.randn(2, WAY, SHOT, 3, 16, 16, generator=rng), torch.randn(
        2, 7, 3, 16, 16, generator=rng
    )


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("adapt_images", [None, 5])
def test_a_head_trained_on_fixed_features(features, head, adapt_images):
    ours = method(head=head, adapt_epochs=30, adapt_images=adapt_images, adapt_learning_rate=1.0)
    support, query = features
    with torch.inference_mode():  # as the harness asks
        logits = ours.episode_logits(support.clone(), query.clone())
    assert logits.shape == (3, 9, WAY)
    for e in range(3):
        inputs = support[e].flatten(0, 1)
        start = slow_head(inputs, ours)
        before = start(query[e]).detach()
        trained = slow(nn.Identity(), start, inputs, ours)
        torch.testing.assert_close(logits[e], trained(query[e]).detach(), rtol=1e-3, atol=1e-4)
        assert (logits[e] - before).abs().max() > 0.02


def test_the_learning_rate_follows_from_the_head_unless_it_is_given():
    assert method().adapt_learning_rate == 1.0
    for changes in ({"head": "linear"}, {"adapt_layers": "all"}):
        assert method(**changes).adapt_learning_rate == 0.01
        assert method(**changes, adapt_learning_rate=0.5).adapt_learning_rate == 0.5
    assert method(adapt_learning_rate=0.0).adapt_learning_rate == 0.0


def test_the_scale_of_an_episode_is_not_that_of_the_base_classes(features):
    support, query = features
    still = {"adapt_learning_rate": 0.0}
    once, twice = (method(**still, adapt_scale=s).episode_logits(support, query) for s in (2.0, 4.0))
    torch.testing.assert_close(2 * once, twice)
    assert torch.equal(once, method(**still, scale=5.0).episode_logits(support, query))


def test_more_images_than_dimensions(features):
    support, query = features[0][..., :5], features[1][..., :5]
    ours = method(head="linear", adapt_epochs=20, adapt_learning_rate=0.1)
    logits = ours.episode_logits(support, query)
    for e in range(3):
        inputs = support[e].flatten(0, 1)
        trained = slow(nn.Identity(), slow_head(inputs, ours), inputs, ours)
        torch.testing.assert_close(logits[e], trained(query[e]).detach(), rtol=1e-3, atol=1e-4)


ALL = {"adapt_layers": "all", "adapt_epochs": 3, "adapt_learning_rate": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("adapt_images", [None, 5])
def test_all_layers_trained(images, head, adapt_images):
    """Episodes together, and one by one."""
    ours = method(head=head, adapt_images=adapt_images, **ALL)
    assert ours.fixed_embedding is False and Finetune.fixed_embedding is True
    support, query = images
    together = ours.adapt(support)(query)
    for e in range(2):
        alone = ours.adapt(support[e : e + 1])(query[e : e + 1])[0]
        inputs, network = support[e].flatten(0, 1), copy.deepcopy(ours.backbone)
        start = slow_head(network(inputs).detach(), ours)
        before = start(network(query[e])).detach()
        expected = slow(network, start, inputs, ours)(query[e])
        for logits in (together[e], alone):
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
        assert (together[e] - before).abs().max() > 0.01


@pytest.mark.slow
def test_all_layers_trained_inside_autocast(images):
    """Weights are rounded again after every step: autocast keeps no old ones."""
    support, query = images
    ours = method(**ALL)
    exact = ours.adapt(support)(query)
    untrained = method(**ALL | {"adapt_learning_rate": 0.0}).adapt(support)(query)
    for part in (slice(0, 1), slice(0, 2)):
        with torch.autocast("cpu", torch.bfloat16):
            mixed = ours.adapt(support[part])(query[part])
        assert mixed.dtype == torch.float32
        error = (mixed - exact[part]).abs().mean()
        assert error < 0.2 * (exact - untrained)[part].abs().mean(), error


@pytest.mark.slow
def test_the_method_is_left_as_it_was(images):
    support, query = images
    ours = method(adapt_images=5, **ALL)
    before = copy.deepcopy(ours.state_dict())
    chance = torch.get_rng_state()
    first, again = (ours.adapt(support)(query) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in ours.parameters()) and not ours.training


def test_a_query_s_answer_depends_on_no_other_query(images):
    support, query = images
    answer = method(**ALL).adapt(support)
    with torch.no_grad():
        alone = torch.cat([answer(query[:, i : i + 1]) for i in range(7)], dim=1)
        torch.testing.assert_close(answer(query), alone, rtol=1e-4, atol=1e-5)


def test_it_answers_with_the_classifier_that_it_asks_for():
    ours = method(build("timm:test_resnet"), head="linear", steps=7, optimizer="adam", small_stem=True)
    assert ours.training_steps == 0
    assert ours.pretraining == Pretraining(7, head="linear", optimizer="adam", small_stem=True)


@pytest.mark.parametrize(
    "backbone, changes, message",
    [
        ("conv4", {"pretrained": True}, "pretrained=true needs a backbone of timm"),
        ("conv4", {"small_stem": True}, "small_stem changes backbones of timm"),
        ("timm:test_vit", {"small_stem": True}, "small_stem needs a network that begins with a convolution"),
    ],
)
def test_backbones_that_cannot(backbone, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        method(build(backbone), **changes)
    assert "\n" not in str(caught.value)


def test_pretrained_weights_are_external_data():
    assert method(build("timm:test_resnet")).external_data is False
    assert method(build("timm:test_resnet"), pretrained=True).external_data is True


def test_small_stem():
    ours = method(build("timm:test_resnet"), small_stem=True)
    assert ours.backbone.small_stem and ours.embed(torch.randn(2, 3, 16, 16)).shape == (2, 96)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An image folder, and an empty cache of the hub."""
    from command_line import write_images
    from huggingface_hub import constants

    write_images(tmp_path / "images", 6, 12)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = ["--method", "finetune", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke"]
SMALL = [
    "--device",
    "cpu",
    "--backbone",
    "timm:test_resnet",
    "--way",
    3,
    "--shot",
    1,
    "--query",
    5,
    "--episodes",
    5,
    "--measure",
    "3w1s5q",
]


def test_one_line_where_the_hub_is_out_of_reach(workspace):
    from command_line import bench, complaint

    bench("data", "info", "--dataset", "folder:images")  # decodes the images, which is shown
    said = complaint("run", *RUN, *SMALL, "--set", "pretrained=true", "--offline")
    assert said.startswith("--backbone timm:test_resnet: the weights of timm:test_resnet ")
    assert said.endswith("--offline or HF_HUB_OFFLINE forbids fetching them; name a file with --weights FILE")
    said = complaint("run", *RUN, "--set", "pretrained=true", "--offline")
    assert "pretrained=true needs a backbone of timm" in said


@pytest.mark.slow
def test_weights_from_a_file_see_the_images_that_they_know(workspace, unquestioned):
    """ImageNet weights with --weights: pretrained=true asks the hub for no others."""
    import timm
    from command_line import bench
    from safetensors.torch import save_file

    from bench.config.run_config import resolve
    from bench.run.plan import Options
    from bench.run.preparation import prepare

    save_file(timm.create_model("test_resnet").state_dict(), "weights.safetensors")
    given = {"method": "finetune", "preset": "smoke", "dataset": "folder:images", "split": "50-50"}
    given |= {"backbone": "timm:test_resnet"}
    options = Options(workspace / "results", workspace / "runs", "", device="cpu", offline=True)
    alone = prepare(resolve(given, {}, {}), options)
    weights = given | {"weights": "weights.safetensors"}
    pretrained = prepare(resolve(weights, {}, {"pretrained": "true"}), options)
    images = alone.data.images[:4]
    assert pretrained.method.external_data and not alone.method.external_data
    expected = (images.float() / 255 - 0.5) / 0.5  # timm's constants for test_resnet
    torch.testing.assert_close(pretrained.normalise(images), expected, rtol=1e-5, atol=1e-5)
    assert alone.normalise(alone.data.images[alone.split.train]).mean().abs() < 0.01

    short = ["--steps", 2, "--set", "images=4", "--set", "adapt_epochs=1", "--set", "pretrained=true"]
    answer = bench("run", *RUN, *SMALL, *short, "--weights", "weights.safetensors")
    assert answer.code == 0, answer.err
