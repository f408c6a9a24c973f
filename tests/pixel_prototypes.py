"""Prototypes of a few pixels: a method whose every answer can be worked out by hand."""

import io

import torch
from torch import nn

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.evaluation.embedding import embed_images
from bench.evaluation.generalized import Generalized, evaluate, plan
from bench.evaluation.measurements import pools_of
from bench.sampling.episodes import ClassPool, Setting, draw
from methods.method import Method
from methods.protonet import ProtoNet

B, N = 9, 10  # base and novel classes
EACH, TESTED = 30, 5  # images of a novel class, base-test images of a base class
DRAWS = 10
PIXELS = (slice(None), slice(None), 3, slice(5, 7))


class Pixels(ProtoNet):
    """Prototypes of some pixels; remembers what it is asked."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), ProtoNet.Hyperparameters(), B)
        self.asked: list[tuple[torch.Tensor, ...]] = []

    def embed(self, images):
        return images[PIXELS].flatten(1)

    def joint_logits(self, base, support, query):
        self.asked.append((base, support, query))
        return super().joint_logits(base, support, query)


def join(data, split, method: Method) -> Generalized:
    """Run the generalized protocol."""
    method.eval()
    normalise = Normaliser(data.images, split.train)
    made = [
        embed_images(method, data.images, i, normalise, "32-true")
        for i in (split.base_test, split.novel_images)
    ]
    pools = pools_of(data, split)
    shots, _ = plan(method, pools["base"], pools["novel"])
    return evaluate(method, shots, data, split, normalise, "32-true", Progress(io.StringIO()), *made)


def drawn(data, split, shot: int) -> tuple[ClassPool, list[dict[int, list[int]]]]:
    """The novel pool and, for each draw, class position -> support, indices into the pool."""
    pool = ClassPool(data.labels[split.novel_images].numpy())
    key = f"{data.fingerprint}/{split.name}/generalized/0/{shot}/0/0"
    episodes = draw(pool, key, Setting(0, shot, 0, DRAWS))
    return pool, [
        dict(zip(classes.tolist(), support.tolist(), strict=True))
        for classes, support in zip(episodes.classes, episodes.support, strict=True)
    ]
