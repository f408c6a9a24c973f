"""`rank FOLDER`: a recommendation from a folder of images, and aliases of backbones."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
from command_line import bench, complaint, files_in, write_images
from record_factory import make_record, metric, record_fields

from bench.common.errors import UserError
from bench.config.backbone import full_backbone
from bench.config.run_config import resolve
from bench.records import store
from bench.records.arrays import read_episodes, redraw_episodes
from bench.reporting import recommend
from bench.run import rank as ranking
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


@pytest.mark.slow
def test_it_trains_once_and_recommends():
    write_images(Path("images"), classes=12, each=30, tint=40)
    command = ("rank", "images", "--method", "nearest_centroid", *SMOKE)
    answer = bench(*command)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("images: 12 classes, 360 images; the smallest class, class0, has 30.")
    assert "Split 50-50: 6 classes are trained on, 6 tested." in answer.out
    starts = "embedding of characters (frozen) ", "nearest_centroid ", "5w1s: ", "5w5s: ", "Recommendation: "
    for start in starts:
        assert re.search(f"^{re.escape(start)}", answer.out, re.M), answer.out
    assert len(store.read_all(Path("results"))[0]) == 2
    assert store.find(Path("results"), recommended(answer.out))
    models = {
        name: time for name, time in files_in(Path("runs")).items() if name.endswith("model.safetensors")
    }
    again = bench(*command)
    assert again.out == answer.out and again.err.count("is already recorded") == 2
    assert models == {name: time for name, time in files_in(Path("runs")).items() if name in models}
    shutil.rmtree("runs")
    lost = bench(*command)
    assert lost.err.count("is already recorded, but its model is not in runs") == 2
    assert lost.out.endswith(f"\nnext: python -m bench {' '.join(command)} --overwrite\n")


@pytest.mark.slow
def test_three_classes_of_two_images_suffice_for_frozen_embeddings(monkeypatch):
    def pretend(backbone):
        backbone.external = True

    monkeypatch.setattr(TimmBackbone, "load_pretrained", pretend)
    write_images(Path("few"), classes=3, each=2)
    answer = bench("rank", "few", "--backbone", "timm:test_resnet", *SMOKE)
    assert answer.code == 0, answer.err
    assert "No class is trained on (training needs at least 12 classes with 10 images each" in answer.out
    assert "\nTo be measured: 3w1s1q, allw1s.\n" in answer.out
    assert "\n  3w1s1q: 3 classes at a time; per class, 1 labelled image and 1 other to" in answer.out
    assert "\nNot possible:\n  5w1s (way 5: at most 3" in answer.out
    assert "too few images to say whether it would lead on others" in answer.out
    assert "timm:test_resnet (frozen) " in answer.out
    one, other = store.read_all(Path("results"))[0]
    assert {one.backbone, other.backbone} == {"conv4", "timm:test_resnet"}
    sizes = {record.config["image_size"] for record in (one, other)}
    assert len(sizes) == 2 and one.fingerprint != other.fingerprint and one.images_id == other.images_id
    assert one.episodes == other.episodes and len(set(one.episodes)) == 2
    compared = bench("compare", one.run_id, other.run_id, "--setting", "3w1s1q")
    assert compared.code == 0, compared.err
    assert bench("validate").code == 0 and bench("leaderboard", "--show").code == 0
    found = bench("predict", "--run", recommended(answer.out), "--support", "few", "--query", "few/class1")
    assert found.code == 0 and "few/class1/00.png" in found.out


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """The answer of `rank` without weights and with unusable files; its record and the folder of records."""

    def refuse(backbone):
        raise ValueError("the weights cannot be had: no network")

    place = tmp_path_factory.mktemp("damaged")
    write_images(place / "few", classes=40, each=4)
    shutil.copy(place / "few/class0/00.png", place / "few/class0/copy.png")
    (place / "few/class1/broken.png").write_bytes(b"no picture")
    (place / "few/lonely").mkdir()
    shutil.copy(place / "few/class2/00.png", place / "few/lonely")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        patch.setattr(TimmBackbone, "load_pretrained", refuse)
        answer = bench("rank", "few", "--backbone", "mobilenet-v3", *SMOKE)
    assert answer.code == 0, answer.err
    (record,) = store.read_all(place / "results/own")[0]
    return answer, record, place / "results/own"


@pytest.mark.slow
def test_a_backbone_without_weights_is_left_out_in_one_line(ranked):
    said = "\ntimm:mobilenetv3_large_100: left out: the weights cannot be had: no network\n"
    assert said in ranked[0].out


@pytest.mark.slow
def test_what_was_left_out_is_in_its_first_line(ranked):
    first = ranked[0].out.partition("\n")[0]
    assert first == (
        "few: 40 classes, 161 images; the smallest class, class1, has 4. 1 unreadable;"
        " 1 copies within a class; classes with fewer than 2 readable images (1 left out): lonely."
    )


@pytest.mark.slow
def test_the_first_interval_is_for_fresh_images(ranked):
    """The episodes without common images are chosen by a plain loop."""
    answer, record, folder = ranked
    drawn, used, apart = redraw_episodes(record, "5w1s3q"), set(), []
    accuracies = read_episodes(record, folder, ["5w1s3q"])["5w1s3q"]
    for support, query, accuracy in zip(drawn.support, drawn.query, accuracies, strict=True):
        images = {*support.flatten().tolist(), *query.flatten().tolist()}
        if not images & used:
            used |= images
            apart.append(accuracy)
    assert 5 <= len(apart) <= 8  # 8 of 5 classes each would have all images
    lines = answer.out.splitlines()
    heading = next(line for line in lines if line.startswith("method "))
    fresh, these = heading.index("5w1s3q, fresh images"), heading.index("5w1s3q, these images")
    assert fresh < these
    row = lines[lines.index(heading) + 2]
    assert row[fresh:].startswith(f"{100 * np.mean(apart):.2f} ± ")
    assert row[these:].startswith(f"{100 * np.mean(accuracies):.2f} ± ")
    half = [float(re.search(r"± (\S+)", row[at:])[1]) for at in (fresh, these)]
    assert half[0] > 2 * half[1]


def test_bad_input_is_refused_in_one_line():
    Path("empty").mkdir()
    assert complaint("rank", "empty").startswith("FOLDER empty: has 0 classes, at least 2 needed")
    assert complaint("rank", "missing").startswith("FOLDER missing: no such folder")
    assert (
        complaint("rank", "empty", "--preset", "paper") == "--preset paper: allowed: smoke, quick, standard"
    )
    assert complaint("rank", "empty", "--backbone", "conv4").startswith("--backbone conv4: has no pretrained")
    assert complaint("rank", "empty", "--weights", "a.pth").startswith(
        "--weights a.pth: needs exactly one --backbone"
    )
    write_images(Path("images"), classes=3, each=2)
    assert bench("data", "info", "--dataset", "folder:images").code == 0  # which decodes them
    assert complaint("rank", "images", "--method", "protonet").startswith(
        "--method protonet: cannot be trained: training needs at least 12 classes with 10 images"
    )
    assert complaint("rank", "images", "--backbone", "timm:resent18").startswith(
        "--backbone timm:resent18: no backbone 'timm:resent18'; did you mean timm:resnet18?"
    )
    for name in ("class0", "class1"):
        shutil.copy(f"images/{name}/00.png", f"images/{name}/01.png")
    assert bench("data", "info", "--dataset", "folder:images").code == 0
    assert complaint("rank", "images").startswith(
        "FOLDER images: needs at least 2 classes with two different images each"
    )


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_a_model_of_timm(alias):
    kind, _, name = full_backbone(alias).partition(":")
    assert kind == "timm" and name.partition(".")[0] in timm.list_models() and timm.is_model_pretrained(name)
    assert alias not in BACKBONES and full_backbone("resnet12") == "resnet12"
    config = resolve({"method": "protonet", "backbone": alias}, {}, {})
    assert config.backbone == config.overrides["backbone"] == f"timm:{name}"


EPISODES = {key: info for key, info in record_fields()["episodes"].items() if key in ("5w1s", "5w5s")}
ALL = np.arange(400).reshape(40, 10)
"""The ten images of each of 40 episodes."""


def recommendation(monkeypatch, images=ALL, answered=None, **accuracies):
    """What is said of candidates with these mean accuracies in 5w1s and 5w5s.

    On 40 episodes each, or on the first so many that it `answered`.
    """
    counts = {name: len(images) for name in accuracies} | (answered or {})
    rng = np.random.default_rng(0)
    hard, answers, runs = rng.normal(0, 0.1, 40), {}, {}
    for name, values in accuracies.items():
        metrics = {
            f"fewshot/{key}": metric(value) for key, value in zip(("5w1s", "5w5s"), values, strict=True)
        }
        record = make_record(method=name, metrics=metrics, episodes=EPISODES)
        for key, value in zip(("5w1s", "5w5s"), values, strict=True):
            answers[name, key] = value + hard + rng.normal(0, 0.02, 40)
        runs[name] = record, Path()
    monkeypatch.setattr(recommend, "fresh_images", lambda *_: {})
    monkeypatch.setattr(recommend, "episodes_apart", lambda record, _: np.arange(counts[record.method]))
    monkeypatch.setattr(
        recommend,
        "read_episodes",
        lambda record, _, names: {key: answers[record.method, key][: counts[record.method]] for key in names},
    )
    return recommend.text(runs)


def test_the_highest_of_those_that_are_not_shown_to_be_worse_is_taken(monkeypatch):
    said, take = recommendation(monkeypatch, a=(0.5, 0.7), b=(0.501, 0.65), c=(0.4, 0.6))
    assert take == "a" and "Recommendation: a." in said
    better = r"It is significantly better on fresh images of these classes \(p < 0\.05\) than "
    assert re.search(
        rf"^5w1s: b is highest\. {better}c \(by 10\.1 points\)\. It is not significantly better than a \(by",
        said,
        re.M,
    )
    assert re.search(
        rf"^5w5s: a is highest\. {better}b \(by 5\.0 points\), c \(by 10\.0 points\)\.$", said, re.M
    )


def test_settings_may_disagree(monkeypatch):
    said, take = recommendation(monkeypatch, a=(0.6, 0.7), b=(0.5, 0.85))
    better = "is highest. It is significantly better"
    assert take == "b" and f"5w1s: a {better}" in said and f"5w5s: b {better}" in said


def test_one_that_answered_fewer_episodes_is_compared_on_these(monkeypatch):
    """Episodes vary more than the methods differ, which only a paired test can see."""
    said, take = recommendation(monkeypatch, answered={"b": 20}, a=(0.6, 0.7), b=(0.55, 0.65))
    better = "It is significantly better on fresh images of these classes (p < 0.05) than b"
    assert take == "a" and said.count(better) == 2


def test_few_images_show_nothing_of_others(monkeypatch):
    said, take = recommendation(monkeypatch, images=ALL[:4], a=(0.9, 0.9), b=(0.1, 0.1))
    assert take == "a" and "better" not in said and said.count("There are too few images") == 2


def test_guessing_is_called_so(monkeypatch):
    said, _ = recommendation(monkeypatch, a=(0.2, 0.2))
    assert "a is not shown to be better than guessing (20%)." in said


@pytest.fixture
def parts(monkeypatch):
    """A folder with a training and a test part of other classes, which is not trained on."""
    write_images(Path("images"), classes=12, each=30)
    for number in range(12):
        part = Path("images", "train" if number < 7 else "test")
        part.mkdir(exist_ok=True)
        Path("images", f"class{number}").rename(part / f"class{number}")
    failed = make_record(method="protonet", metrics={}, per_class={}, episodes={}, failure="its loss is NaN")
    monkeypatch.setattr(ranking, "carry_out", lambda *_: [("siamese_triplet", failed, Path("a.json"))])


@pytest.mark.slow
def test_a_candidate_that_cannot_train_or_fails_is_named(parts, monkeypatch):
    def refuse(made):
        if made.config.method == "protonet":
            raise UserError("--backbone", "conv4", "cannot take a training step")

    monkeypatch.setattr(ranking, "rehearse", refuse)
    answer = bench("rank", "images", "--device", "cpu")
    assert answer.code == 2
    assert "Split own: 7 classes are trained on, 5 tested." in answer.out
    assert "\nprotonet: left out: cannot take a training step\n" in answer.out
    assert "warning: siamese_triplet failed: its loss is NaN (recorded in a.json)\n" in answer.err
    assert answer.err.endswith("error: FOLDER images: all runs failed\n")
    asked = bench("rank", "images", "--method", "protonet", "--device", "cpu")
    assert asked == (2, "", "error: --backbone conv4: cannot take a training step\n")


def test_a_folder_that_no_candidate_can_answer(monkeypatch):
    write_images(Path("images"), classes=3, each=2)
    assert bench("data", "info", "--dataset", "folder:images").code == 0  # which decodes them
    nothing = SimpleNamespace(plan=SimpleNamespace(settings=()), left_out=["5w1s (too few images)"])
    monkeypatch.setattr(ranking, "prepare", lambda *_: nothing)
    said = "FOLDER images: has no few-shot episodes here: 5w1s (too few images)"
    assert complaint("rank", "images", "--device", "cpu") == said
