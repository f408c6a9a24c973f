"""Imprinted weights: imprinting, the joint classifier and its finetuning against slow float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.backbones import build
from methods.batches import LabelledBatch, Shuffled
from methods.imprinted import Imprinted

DIM, BASE, SIDE = 6, 4, 8


class Flat(nn.Module):
    """Mixes the pixels of an image; counts the images of each forward."""

    dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3 * SIDE * SIDE, self.dim)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return torch.tanh(self.mix(images.flatten(1)))


def imprinted(backbone: nn.Module | None = None, **changes) -> Imprinted:
    torch.manual_seed(0)
    hp = Imprinted.Hyperparameters(**{"embedding": DIM} | changes)
    return Imprinted(backbone or Flat(), hp, BASE).eval()


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def base_batches(seed: int = 2):
    """What the harness hands to `join`: always the same base images in the same order."""
    rng = torch.Generator().manual_seed(seed)

    def base(count: int) -> LabelledBatch:
        labels = torch.randint(BASE, (count,), generator=rng)
        return LabelledBatch(torch.randn(count, 3, SIDE, SIDE, generator=rng), labels)

    return base


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(float(v) ** 2 for v in vector))


def test_imprinted_weights_are_the_renormalised_mean_of_normalised_embeddings():
    """Equation 7 of the paper, one class at a time; a long embedding counts no more than a short one."""
    rng = np.random.default_rng(0)
    support = rng.normal(size=(2, 3, 4, DIM)) * np.array([1, 10, 0.1, 3])[:, None]
    made = imprinted().imprint(torch.from_numpy(support).float()).numpy()
    for e in range(2):
        for c in range(3):
            expected = unit(sum(unit(shot) for shot in support[e, c]) / 4)
            np.testing.assert_allclose(made[e, c], expected, rtol=1e-5, atol=1e-6)


def test_episodes_are_answered_by_scaled_cosines():
    rng = np.random.default_rng(1)
    support, query = rng.normal(size=(2, 3, 4, DIM)), rng.normal(size=(2, 7, DIM))
    method = imprinted(scale=3.5)
    with torch.no_grad():
        logits = method.episode_logits(torch.from_numpy(support).float(), torch.from_numpy(query).float())
        rows = method.similarity(
            *(torch.from_numpy(array).float() for array in (query[0, :4], support[0, 0]))
        )
    for e in range(2):
        weights = [unit(sum(unit(shot) for shot in support[e, c])) for c in range(3)]
        expected = [[3.5 * unit(q) @ w for w in weights] for q in query[e]]
        np.testing.assert_allclose(logits[e].numpy(), expected, rtol=1e-4, atol=1e-5)
    expected = [unit(q) @ unit(s) for q, s in zip(query[0, :4], support[0, 0], strict=True)]
    np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_by_hand():
    """Softmax over scaled cosines with the base classes' weights (equations 5 and 6), and its gradient."""
    method = imprinted(scale=7.0)
    batch = LabelledBatch(images(9), torch.arange(9) % BASE)
    loss = method.training_step(batch, 0)
    features = method.backbone(batch.images).detach().double().numpy()
    to_embedding, weights = (
        parameter.detach().double().numpy() for parameter in (method.embedding.weight, method.head.weight)
    )
    expected = []
    for feature, label in zip(features, batch.labels.tolist(), strict=True):
        logits = [7 * unit(to_embedding @ feature) @ unit(w) for w in weights]
        expected.append(math.log(sum(math.exp(logit) for logit in logits)) - logits[label])
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)
    loss.backward()
    assert method.head.scale.grad.abs() > 0  # the scale is learned


def test_base_classes_keep_their_logits_when_others_join():
    method = imprinted()
    support, query = torch.randn(2, 5, DIM), torch.randn(8, DIM)
    nothing = torch.empty(0, DIM)  # the classifier needs no mean embeddings
    with torch.no_grad():
        alone = method.head(query)
        joint = method.joint_logits(nothing, support, query)
        torch.testing.assert_close(method.joint_logits(nothing, support[:0], query), alone)
        new = method.episode_logits(support[None], query[None])[0]
    assert joint.shape == (8, BASE + 2)
    torch.testing.assert_close(joint, torch.cat([alone, new], dim=1))


def test_from_one_shot_the_support_image_itself_scores_highest_there_is():
    method = imprinted()
    with torch.no_grad():
        shot = method.embed(images(1))
        logits = method.joint_logits(torch.empty(0, DIM), shot[None], shot)
    assert logits[0, BASE].item() == pytest.approx(10.0, rel=1e-5) and logits.argmax() == BASE


def test_the_joined_network_answers_as_joint_logits_and_shares_the_embedding():
    method = imprinted()
    support, query = images(2, 3), images(7, seed=5)
    network = method.join(support, base_batches())
    with torch.no_grad():
        made = method.embed(support.flatten(0, 1)).unflatten(0, (2, 3))
        expected = method.joint_logits(torch.empty(0, DIM), made, method.embed(query))
        torch.testing.assert_close(network(query), expected)
        torch.testing.assert_close(
            method.join(support[:0], base_batches())(query), method.head(method.embed(query))
        )
    own = {tensor.data_ptr() for tensor in method.state_dict().values()}
    new = {name for name, tensor in network.state_dict().items() if tensor.data_ptr() not in own}
    assert new == {"head.weight", "head.scale"}
    torch.testing.assert_close(network.head.weight.norm(dim=1), torch.ones(BASE + 2))


def finetuned(steps: int, **changes) -> tuple[Imprinted, nn.Module]:
    """Two classes of three images join; whatever else is given changes the hyperparameters."""
    hp = {"finetune": True, "finetune_steps": steps, "finetune_images": 8, "finetune_rate": 0.02}
    method = imprinted(**hp | changes)
    return method, method.join(images(2, 3), base_batches())


def by_hand(method: Imprinted, steps: int, rate: float, share: float) -> list[Tensor]:
    """The finetuned weights in float64: gradients from autograd, everything else written out."""
    parameters = {name: p.detach().double() for name, p in method.named_parameters()}
    mix, bias, to_embedding, weights, scale = (
        parameters[name]
        for name in (
            "backbone.mix.weight",
            "backbone.mix.bias",
            "embedding.weight",
            "head.weight",
            "head.scale",
        )
    )

    def embed(x: Tensor, mix: Tensor, bias: Tensor, to_embedding: Tensor) -> Tensor:
        made = torch.tanh(x.flatten(1).double() @ mix.T + bias) @ to_embedding.T
        return made / made.norm(dim=1, keepdim=True)

    support = images(2, 3)
    templates = [embed(own, mix, bias, to_embedding).mean(0) for own in support]
    weights = torch.stack([w / w.norm() for w in [*weights, *templates]])
    current = [mix, bias, to_embedding, weights, scale]
    velocity = [torch.zeros_like(p) for p in current]
    base, labels = base_batches(), torch.tensor([BASE] * 3 + [BASE + 1] * 3)
    for step in range(steps):
        batch = base(8)
        current = [p.detach().requires_grad_() for p in current]
        *extractor, weights, scale = current
        cosines = [
            embed(x, *extractor) @ (weights / weights.norm(dim=1, keepdim=True)).T
            for x in (support.flatten(0, 1), batch.images)
        ]
        losses = [
            torch.stack(
                [(scale * row).exp().sum().log() - scale * row[y] for row, y in zip(rows, ys, strict=True)]
            ).mean()
            for rows, ys in zip(cosines, (labels, batch.labels), strict=True)
        ]
        gradients = torch.autograd.grad(share * losses[0] + (1 - share) * losses[1], current)
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        after = [(p - rate * v).detach() for p, v in zip(current, velocity, strict=True)]
        if step % 2 == 0:
            after[3][:BASE] = weights.detach()[:BASE]
        after[3] = torch.stack([w / w.norm() for w in after[3]])
        current = after
    return current


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_finetuning_equals_slow_float64(share):
    method, network = finetuned(5, finetune_share=share)
    expected = by_hand(method, 5, rate=0.02, share=share)
    found = dict(network.named_parameters())
    names = ("backbone.mix.weight", "backbone.mix.bias", "embedding.weight", "head.weight", "head.scale")
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(
            found[name].double(), by_hand(method, 0, 0, 0)[names.index(name)], atol=1e-4
        )


def test_base_weights_are_frozen_in_every_second_step():
    own = nn.functional.normalize(imprinted().head.weight.detach(), dim=1)
    (_, one), (_, two) = finetuned(1), finetuned(2)
    new = finetuned(0)[1].head.weight[BASE:]
    torch.testing.assert_close(one.head.weight[:BASE], own)
    assert not torch.allclose(one.head.weight[BASE:], new, atol=1e-4)
    assert not torch.allclose(two.head.weight[:BASE], own, atol=1e-4)
    for network in (one, two):
        torch.testing.assert_close(network.head.weight.norm(dim=1), torch.ones(BASE + 2))


def test_finetuning_leaves_the_method_and_the_random_state_as_they_were():
    method = imprinted(finetune=True, finetune_steps=3, finetune_rate=0.1)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    state = torch.get_rng_state()
    networks = [method.join(images(2, 3), base_batches()) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
    for (name, first), second in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(first, second), name
    assert not any(module.training for module in networks[0].modules())
    own = {tensor.data_ptr() for tensor in method.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in networks[0].state_dict().values()}


def test_batch_norm_keeps_its_statistics():
    method = Imprinted(
        build("conv4", 16), Imprinted.Hyperparameters(finetune=True, finetune_steps=2), BASE
    ).eval()
    rng = torch.Generator().manual_seed(0)
    network = method.join(
        torch.randn(1, 2, 3, 16, 16, generator=rng),
        lambda count: LabelledBatch(torch.randn(count, 3, 16, 16, generator=rng), torch.arange(count) % BASE),
    )
    for (name, before), after in zip(
        method.backbone.named_buffers(), network.backbone.buffers(), strict=True
    ):
        assert torch.equal(before, after), name


def test_mixed_precision_sees_the_weights_of_each_step():
    """Autocast keeps copies of weights; a second step from the first step's would go the wrong way."""
    exact = finetuned(6, finetune_rate=0.3)[1]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = finetuned(6, finetune_rate=0.3)[1]
    for (name, first), second in zip(exact.named_parameters(), mixed.parameters(), strict=True):
        assert (first - second).norm() < 0.1 * (first - finetuned(0)[1].get_parameter(name)).norm(), name


def test_a_step_of_finetuning_takes_no_more_support_images_than_base_images():
    backbone = Flat()
    method = imprinted(backbone, finetune=True, finetune_steps=2, finetune_images=8)
    network = method.join(images(5, 20), base_batches())
    assert network.backbone.sizes[len(backbone.sizes) :] == [16, 16]
    assert sum(backbone.sizes) == 100  # each support image is embedded once
    few = method.join(images(1, 3), base_batches())
    assert few.backbone.sizes[-2:] == [11, 11]


def test_it_joins_with_training_only_where_it_finetunes():
    assert imprinted().joins_with == "classifier" and imprinted(finetune=True).joins_with == "training"
    assert imprinted(images=64).batches() == Shuffled(64)


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_that_leaves_one_side_out_is_refused(share):
    with pytest.raises(ValueError, match="finetune_share must lie between 0 and 1"):
        imprinted(finetune_share=share)
