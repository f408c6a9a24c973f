"""What the tests of maml, anil and reptile share: small episodes, and a whole training."""

from dataclasses import replace
from pathlib import Path

import fitting
import torch
from small_budget import small_budget
from torch import nn

from bench.data.images import ImageSet
from bench.data.splits import Split
from methods.backbones import Conv4
from methods.batches import EpisodeBatch
from methods.method import Method
from methods.outer_loop import OuterLoop


def batch(episodes=2, way=3, shot=2, query=4, size=16, dtype=torch.float64) -> EpisodeBatch:
    """Random images; `query` of each class in a random order."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.randperm(way * query, generator=rng) % way for _ in range(episodes)])
    return EpisodeBatch(
        torch.randn(episodes, way, shot, 3, size, size, generator=rng, dtype=dtype),
        torch.randn(episodes, way * query, 3, size, size, generator=rng, dtype=dtype),
        labels,
        torch.arange(way).expand(episodes, way),
    )


def on_conv4(method_class: type[Method], num_classes: int = 8, **changes) -> Method:
    """A method on a conv4 of 8 filters for images of 16 x 16 pixels, in float64."""
    torch.manual_seed(0)
    hp = method_class.Hyperparameters(**changes)
    return method_class(Conv4(filters=8, image_size=16), hp, num_classes).double()


class TwoLayers(nn.Sequential):
    """A backbone small enough to write its gradient down: 2 x 2 pixels -> tanh(W x + b), 4 numbers."""

    dim = 4

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, self.dim), nn.Tanh())


def gradients(method: Method, given: EpisodeBatch) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of a training step, and the gradient that the optimizer is handed."""
    if isinstance(method, OuterLoop):
        method.manual_backward = torch.Tensor.backward  # there is no trainer
        loss = method.outer_step(given, torch.optim.SGD(method.parameters(), lr=0.0))
    else:
        method.zero_grad()
        loss = method.training_step(given, 0)
        loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in method.named_parameters()}


def answers(method: Method, given: EpisodeBatch) -> torch.Tensor:
    """Logits ``[E, Q, way]``, as the harness asks for them."""
    method.eval()
    answer = method.adapt(given.support)
    with torch.no_grad():
        return answer(given.query)


def fit(method_class: type[Method], data: ImageSet, split: Split, run_dir: Path, monkeypatch, **changes):
    """Train with preset `smoke` through the harness: the method, and what `train` returned."""
    small_budget(monkeypatch, validation_episodes=10, adapted_validation_episodes=10)
    preset = {k: v for k, v in method_class.presets["smoke"].items() if k != "backbone"}
    torch.manual_seed(0)
    method = method_class(
        Conv4(filters=16, image_size=16), method_class.Hyperparameters(**preset | changes), len(split.base)
    )
    # Without validation images the last weights stay, not the best.
    split = replace(split, validation_images=split.validation_images[:0])
    return method, fitting.fit(method, data, split, run_dir)
