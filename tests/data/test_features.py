"""Features of frozen backbones: made once for all methods, and only where they are the same."""

import dataclasses
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench
from safetensors.torch import save_file

from bench.common import environment
from bench.common.progress import Progress
from bench.config.run_config import resolve
from bench.data import sources
from bench.data.images import ImageSet
from bench.evaluation.protocol import Evaluation, Evaluator, episode_arrays
from bench.run.frozen import frozen_features
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from methods.backbones import build

MEASURED = ["5w1s", "pairs"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """10 classes of 12 images; two files of weights."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 3, 16, 16), dtype=np.uint8)
    tested = np.tile(np.arange(12) >= 8, 10)
    data = ImageSet.build("tiny", pixels, np.arange(120) // 12, tested, [f"class{c}" for c in range(10)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    monkeypatch.setattr(sources, "load", lambda *_, **__: data)
    for seed in range(2):
        torch.manual_seed(seed)
        save_file(build("conv4").state_dict(), f"{seed}.safetensors")
    return Path("cache")


def prepared(method: str = "nearest_centroid", seed: int = 0, **given) -> Prepared:
    fixed = {"preset": "smoke", "split": "50-50", "train": False, "measure": MEASURED}
    given = fixed | {"method": method, "backbone": "conv4", "weights": f"{seed}.safetensors"} | given
    return prepare(resolve(given, {}, {}), Options(Path("results"), Path("runs"), "", device="cpu"))


def evaluated(one: Prepared, kept: bool = True) -> tuple[Evaluation, int]:
    """The evaluation, and how many images went through the network."""
    seen = []
    hook = next(one.method.backbone.children()).register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    frozen = frozen_features(one) if kept else None
    where = (one.data, one.split, one.normalise, one.precision, Progress())
    found = Evaluator(one.method.eval(), *where, brief=True, frozen=frozen).run(one.plan)
    hook.remove()
    return found, sum(seen)


def same(a: Evaluation, b: Evaluation) -> bool:
    left, right = episode_arrays(a), episode_arrays(b)
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


@pytest.mark.slow
def test_a_second_method_embeds_nothing_and_answers_the_same(folder):
    first, images = evaluated(prepared())
    assert images == first.images > 0
    alone, needed = evaluated(prepared("logistic_head"), kept=False)
    found, needed_now = evaluated(prepared("logistic_head"))
    assert (needed, needed_now) == (images, 0)
    assert same(found, alone) and found.metrics == alone.metrics
    other, images_again = evaluated(prepared(seed=1))
    assert images_again == images and not same(first, other)


def test_only_what_the_backbone_has_seen_is_replaced():
    """`mirror` also embeds the mirror images."""
    images = evaluated(prepared())[1]
    sets = {"hyperparameters": {"mirror": True}}
    alone, needed = evaluated(prepared("logistic_head", **sets), kept=False)
    found, needed_now = evaluated(prepared("logistic_head", **sets))
    assert (needed, needed_now) == (2 * images, images) and same(found, alone)


def test_a_damaged_file_is_made_again_and_a_full_disk_costs_a_warning(folder, capsys):
    first, images = evaluated(prepared())
    path = next(folder.glob("features-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again, needed = evaluated(prepared())
    assert 0 < needed < images and same(first, again)
    assert f"warning: the cache file {path} is damaged" in capsys.readouterr().err
    assert evaluated(prepared())[1] == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        assert evaluated(prepared(seed=1))[1] == images
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "warning: the features cannot be cached in cache" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["size", "pixels", "precision", "normalisation", "libraries", "weights"])
def test_whatever_decides_them_is_in_their_identity(monkeypatch, what):
    one = prepared()
    usual = frozen_features(one)
    assert usual == frozen_features(prepared())
    if what == "size":
        images = torch.zeros(*one.data.images.shape[:2], 8, 8, dtype=torch.uint8)
        one = dataclasses.replace(one, data=dataclasses.replace(one.data, images=images))
    elif what == "pixels":
        one = dataclasses.replace(one, data=dataclasses.replace(one.data, fingerprint="0" * 64))
    elif what == "precision":
        one = dataclasses.replace(one, precision="16-mixed")
    elif what == "normalisation":
        one.normalise.mean[0] += 1
    elif what == "libraries":
        versions = environment.package_versions() | {"timm": "0"}
        monkeypatch.setattr(environment, "package_versions", lambda: versions)
    else:
        next(one.method.backbone.parameters()).data.mul_(1.001)
    assert frozen_features(one) != usual


def test_bfloat16_is_kept_as_it_is():
    kept, made = frozen_features(prepared()), torch.randn(3, 4).bfloat16()
    kept.open_or_build(torch.arange(3), lambda: made)
    found = kept.open_or_build(torch.arange(3), lambda: made[:0])
    assert found.dtype == made.dtype and torch.equal(found, made)


def test_what_has_no_stable_identity_is_not_kept():
    one = prepared()
    for change in ({"train": True}, {"backbone": "encoder:mine"}):
        assert frozen_features(dataclasses.replace(one, config=one.config.model_copy(update=change))) is None


def test_the_command_lists_them_and_prunes_those_of_changed_images(folder):
    one = prepared()
    evaluated(one)
    before = dataclasses.replace(frozen_features(one), fingerprint="0" * 64)
    made = torch.ones(3, one.method.backbone.dim)
    needed = set(folder.glob("*.safetensors"))
    before.open_or_build(torch.arange(3), lambda: made)
    [stale] = set(folder.glob("*.safetensors")) - needed
    os.utime(stale, (0, 0))
    listed = bench("data", "cache").out
    assert listed.count("conv4 at 16x16") == 1 + len(needed) and listed.count("superseded") == 1
    assert "deleted 1 files" in bench("data", "cache", "--prune").out and not stale.exists()
    assert all(path.exists() for path in needed)
