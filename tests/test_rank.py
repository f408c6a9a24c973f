"""`rank FOLDER`: a recommendation from a folder of images, and aliases of backbones."""

import re
import shutil
from pathlib import Path

import pytest
import timm
from command_line import bench, complaint, files_in, write_images

from bench.config.backbone import full_backbone
from bench.config.run_config import resolve
from bench.records import store
from methods.backbone_names import ALIASES, BACKBONES
from methods.timm_backbone import TimmBackbone

SMOKE = ("--preset", "smoke", "--device", "cpu")


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


def recommended(out: str) -> str:
    """The run that the last line of the output names."""
    return re.search(r"^next: python -m bench predict --run (\S+) .*--query YOUR_IMAGES\n\Z", out, re.M)[1]


def test_it_trains_once_and_recommends():
    write_images(Path("images"), classes=12, each=30, tint=40)
    command = ("rank", "images", "--method", "nearest_centroid", *SMOKE)
    answer = bench(*command)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("images: 12 classes, 360 images; the smallest class, class0, has 30.")
    assert "Split 60-40: 7 classes are trained on, 5 tested." in answer.out
    for start in ("glyph embedding (frozen) ", "nearest_centroid ", "5w1s: ", "5w5s: "):
        assert re.search(f"^{re.escape(start)}", answer.out, re.M), answer.out
    assert len(store.read_all(Path("results"))[0]) == 2
    assert store.find(Path("results"), recommended(answer.out))
    models = {
        name: time for name, time in files_in(Path("runs")).items() if name.endswith("model.safetensors")
    }
    again = bench(*command)
    assert again.out == answer.out and again.err.count("is recorded already") == 2
    assert models == {name: time for name, time in files_in(Path("runs")).items() if name in models}


def test_three_classes_of_two_images_suffice_for_frozen_embeddings(monkeypatch):
    def pretend(backbone):
        backbone.loaded = backbone.external = True

    monkeypatch.setattr(TimmBackbone, "load_pretrained", pretend)
    write_images(Path("few"), classes=3, each=2)
    answer = bench("rank", "few", "--backbone", "timm:test_resnet", *SMOKE)
    assert answer.code == 0, answer.err
    assert "No class is trained on (training takes 10 classes of 10 images on average;" in answer.out
    assert "Measured: 3w1s1q, allw1s. Not possible: 5w1s (way 5: at most 3" in answer.out
    assert "timm:test_resnet (frozen) " in answer.out and "other episodes of the same classes" in answer.out
    records = store.read_all(Path("results"))[0]
    assert {record.backbone for record in records} == {"conv4", "timm:test_resnet"}
    assert bench("validate").code == 0 and bench("leaderboard", "--show").code == 0
    found = bench("predict", "--run", recommended(answer.out), "--support", "few", "--query", "few/class1")
    assert found.code == 0 and "few/class1/00.png" in found.out


def test_a_backbone_without_weights_is_left_out_in_one_line(monkeypatch):
    def refuse(backbone):
        raise ValueError("the weights cannot be had: no network")

    monkeypatch.setattr(TimmBackbone, "load_pretrained", refuse)
    write_images(Path("few"), classes=3, each=2)
    answer = bench("rank", "few", "--backbone", "mobilenet-v3", *SMOKE)
    assert answer.code == 0
    assert "\ntimm:mobilenetv3_large_100: left out: the weights cannot be had: no network\n" in answer.out


def test_bad_input_is_refused_in_one_line():
    Path("empty").mkdir()
    assert complaint("rank", "empty").startswith("FOLDER empty: has 0 classes, at least 2 needed")
    assert complaint("rank", "missing").startswith("FOLDER missing: no such folder")
    assert (
        complaint("rank", "empty", "--preset", "paper") == "--preset paper: allowed: smoke, quick, standard"
    )
    assert complaint("rank", "empty", "--backbone", "conv4").startswith("--backbone conv4: has no pretrained")
    write_images(Path("images"), classes=3, each=2)
    assert bench("data", "info", "--dataset", "folder:images").code == 0  # which decodes them
    assert complaint("rank", "images", "--method", "protonet").startswith(
        "--method protonet: cannot be trained: training takes 10 classes of 10 images on average"
    )
    for name in ("class0", "class1"):
        shutil.copy(f"images/{name}/00.png", f"images/{name}/01.png")
    assert bench("data", "info", "--dataset", "folder:images").code == 0
    assert complaint("rank", "images").startswith(
        "FOLDER images: has 1 classes with two different images, at least 2 needed"
    )


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_a_model_of_timm(alias):
    kind, _, name = full_backbone(alias).partition(":")
    assert kind == "timm" and name.partition(".")[0] in timm.list_models() and timm.is_model_pretrained(name)
    assert alias not in BACKBONES and full_backbone("resnet12") == "resnet12"
    config = resolve({"method": "protonet", "backbone": alias}, {}, {})
    assert config.backbone == config.overrides["backbone"] == f"timm:{name}"
