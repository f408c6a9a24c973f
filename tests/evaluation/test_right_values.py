"""Small data sets whose right accuracy is known, and which were once measured wrongly."""

from colorsys import hsv_to_rgb

import numpy as np
import pytest
import torch
from command_line import bench
from PIL import Image
from torch import nn

from bench.data.images import ImageSet
from bench.data.splits import resolve
from bench.evaluation import fewshot
from bench.records import store
from bench.sampling.episodes import ClassPool, Setting, draw
from methods.protonet import ProtoNet

SETTING = Setting(5, 1, 15, 400)


class Pixels(ProtoNet):
    """Embeds an image as its pixels."""

    def embed(self, images):
        return images.flatten(1)


def accuracy(data: ImageSet, index: torch.Tensor) -> tuple[float, float]:
    """Of 5-way 1-shot episodes of the images at `index`, with the standard error."""
    made = data.images[index].float().flatten(1)
    pool = ClassPool(data.labels[index].numpy())
    method = Pixels(nn.Identity(), ProtoNet.Hyperparameters(), 2).eval()
    hits = fewshot.evaluate(method, made, pool, draw(pool, "key", SETTING)).hits.sum(1) / 75
    return float(hits.mean()), float(hits.std() / np.sqrt(len(hits)))


def test_three_copies_of_noise_are_guessed():
    """Copies on both sides of an episode would make noise recognisable."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12 * 20, 3, 8, 8), dtype=np.uint8).repeat(3, axis=0)
    labels = np.arange(12).repeat(60)
    data = ImageSet.build("folder:noise", noise, labels, labels < 0, [f"class{c:02d}" for c in range(12)])
    index = resolve(data, "50-50").novel_images
    value, error = accuracy(data, index)
    assert value == pytest.approx(0.2, abs=4 * error)
    everything = torch.from_numpy(np.flatnonzero(labels >= 6))
    assert accuracy(data, everything)[0] > 0.22


def write_arrows(folder) -> None:
    """Arrows of eight colours, pointing left and right, each a class."""
    rng = np.random.default_rng(0)
    for kind in range(8):
        colour = np.array([hsv_to_rgb(kind / 8, 1, 1)])
        for right in (False, True):
            place = folder / f"{'right' if right else 'left'}{kind}"
            place.mkdir(parents=True)
            for number in range(16):
                picture = np.zeros((32, 32))
                row = 16 + rng.integers(-3, 4)
                picture[row - 1 : row + 1, 6:26] = 255
                for step in range(10):  # the head
                    picture[row - step - 1 : row + step + 1, 6 + step] = 255
                picture = picture[:, ::-1] if right else picture
                noisy = (picture[..., None] * colour + rng.normal(0, 10, (32, 32, 3))).clip(0, 255)
                Image.fromarray(noisy.astype(np.uint8)).save(place / f"{number}.png")


@pytest.mark.slow
def test_left_and_right_arrows_are_distinguished_without_flips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    write_arrows(tmp_path / "arrows")
    parts = [
        f"{side}{kind},{'base' if kind < 5 else 'novel'}" for kind in range(8) for side in ("left", "right")
    ]
    (tmp_path / "split.csv").write_text("\n".join(["class,part", *parts]))
    answer = bench(
        "run", "--method", "protonet", "--dataset", "folder:arrows", "--split", "split.csv",
        "--preset", "smoke", "--steps", "50", "--measure", "5w1s", "--augment", "none", "--device", "cpu",
        "--image-size", "16", "--backbone", "conv4-32", "--precision", "fp32",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    record = store.read(tmp_path / answer.out.splitlines()[-1])
    assert record.metrics["fewshot/5w1s"].value == pytest.approx(1, abs=0.005)  # with flips 0.91
