"""Weights from elsewhere get images that are decoded at the size that they know."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from command_line import Answer, bench, complaint
from PIL import Image
from safetensors.torch import save_file

from bench.config.run_config import RunConfig, resolve
from bench.config.yaml_files import read_yaml
from bench.data import sources
from bench.records import store
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from methods.backbones import build, interpolation

pytestmark = pytest.mark.slow
SIZE, EACH = 160, 16  # test_resnet's size; images per class


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Photos of fine stripes or dots, noise when seen at 32 pixels; and weights of two small networks."""
    place = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    lines = np.arange(SIZE) % 2
    upright, grid = np.broadcast_to(lines, (SIZE, SIZE)), lines[:, None] ^ lines
    for name, pattern in (("a", upright), ("b", upright.T), ("c", grid), ("d", upright), ("e", upright.T)):
        (place / "images" / name).mkdir(parents=True)
        for number in range(EACH):
            noise = np.kron(rng.normal(0, 15, (32, 32)), np.ones((5, 5)))  # all that 32 pixels show
            pixels = 128 + 100 * (pattern - 0.5) + noise
            Image.fromarray(pixels.astype(np.uint8)).save(place / "images" / name / f"{number}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), place / "elsewhere.safetensors")
    save_file(build("timm:test_resnet").state_dict(), place / "ours.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        yield place


GIVEN = {"method": "nearest_centroid", "preset": "smoke", "dataset": "folder:images", "split": "60-40"}
FROZEN = {"backbone": "timm:test_resnet", "weights": "elsewhere.safetensors", "train": False}


def prepared(sets: dict[str, str] | None = None, **given) -> Prepared:
    options = Options(Path("results"), Path("runs"), "", device="cpu", offline=True)
    return prepare(resolve(GIVEN | given, {}, sets or {}), options)


def recorded(answer: Answer) -> Path:
    assert answer.code == 0, answer.err
    return Path(answer.out.splitlines()[-1])


def side(one: Prepared) -> int:
    height, width = one.data.images.shape[2:]
    assert height == width
    return height


def test_the_model_sees_the_pixels_of_the_files(workspace):
    one = prepared(**FROZEN)
    assert side(one) == one.config.image_size == SIZE
    files = [np.asarray(Image.open(path).convert("RGB")) for path in Path("images", "a").iterdir()]
    kept = {image.numpy().tobytes() for image in one.data.images[one.data.labels == 0]}
    assert kept == {pixels.transpose(2, 0, 1).tobytes() for pixels in files}
    seen = []
    one.method.backbone.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        one.method.eval().embed(one.normalise(one.data.images[:2]))
    expected = (one.data.images[:2].float() / 255 - 0.5) / 0.5  # timm's constants for test_resnet
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


def test_detail_that_32_pixels_do_not_show_is_used(workspace):
    """And the record holds the size, under which it is found again."""
    command = ["run", "--method", "nearest_centroid", "--preset", "smoke", "--dataset", "folder:images"]
    command += ["--split", "60-40", "--backbone", "timm:test_resnet", "--weights", "elsewhere.safetensors"]
    command += ["--no-train", "--device", "cpu", "--measure", "allw1s"]
    own, small = (recorded(bench(*command, *more)) for more in ([], ["--image-size", 32]))
    accuracy = [store.read(path).metrics["fewshot/allw1s"].value for path in (own, small)]
    assert accuracy[0] > 0.95 and accuracy[1] < 0.75  # chance is 0.5
    found = RunConfig.model_validate(store.read(own).config)
    assert found.image_size == SIZE
    assert resolve(read_yaml(Path("runs", own.stem, "config.yaml")), {}, {}) == found
    for again in (command, [*command, "--image-size", SIZE]):
        answer = bench(*again)
        assert recorded(answer) == own and "is already recorded" in answer.err


@pytest.mark.parametrize(
    ("size", "given", "sets"),
    [
        (SIZE, {"weights": "elsewhere.safetensors"}, {}),  # trained further
        (32, {"weights": "ours.safetensors"}, {}),  # of a training here, at the size of its images
        (32, {}, {}),  # random weights
        (64, FROZEN | {"image_size": 64}, {}),
        (SIZE, {"weights": "elsewhere.safetensors", "method": "finetune"}, {"pretrained": "true"}),
        (32, {"weights": "elsewhere.safetensors", "method": "finetune"}, {"small_stem": "true"}),
        (SIZE, {"backbone": "timm:test_vit"}, {}),  # has a position for each patch
        (32, {"backbone": "conv4"}, {}),
    ],
)
def test_the_size_that_images_are_decoded_at(workspace, size, given, sets):
    one = prepared(sets, **{"backbone": "timm:test_resnet"} | given)
    assert side(one) == size and one.config.image_size in (size, None)


def test_resized_as_timm_resizes(workspace):
    assert interpolation("timm:resnet18", 224) == "bicubic" != interpolation("timm:resnet18", 32)
    assert interpolation("timm:test_resnet", SIZE) == interpolation("conv4", 224) == "bilinear"
    data = sources.load("folder:images", image_size=64, interpolation="bicubic")
    files = [Image.open(path).convert("RGB") for path in Path("images", "a").iterdir()]
    for how, same in ((Image.Resampling.BICUBIC, True), (Image.Resampling.BILINEAR, False)):
        wanted = {np.asarray(f.resize((64, 64), how)).transpose(2, 0, 1).tobytes() for f in files}
        assert ({image.numpy().tobytes() for image in data.images[data.labels == 0]} == wanted) == same


def test_data_sets_with_a_size_of_their_own_keep_it(monkeypatch, workspace, tiny):
    monkeypatch.setattr(sources, "load", lambda *_, image_size, **__: tiny)
    assert prepared(dataset="glyphs", **FROZEN).config.image_size is None


def test_what_cannot_be_loaded_is_refused_before_images_are_decoded(workspace, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", "none")
    command = ["run", "--method", "protonet", "--dataset", "folder:images", "--split", "60-40"]
    assert complaint(*command, "--backbone", "timm:resnet18.none").startswith("--backbone timm:resnet18.none")
    assert not Path("none").exists()
