"""`predict` and `similarity` without `--run`: the model of the package answers."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import bench, settle, write_images

from bench.common.errors import UserError
from bench.demo import ship
from bench.records import store
from bench.serving import calibration
from bench.serving.files import predict_files, support_files
from bench.serving.finding import find_folder
from bench.serving.predictor import load
from bench.serving.shipped import shipped


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    """Support images, one for each class, and a copy of the first."""
    monkeypatch.chdir(tmp_path)
    write_images(Path("images"), classes=2, each=1, tint=90)
    Path("support").mkdir()
    for name in ("class0", "class1"):
        shutil.copy(next(Path("images", name).iterdir()), f"support/{name}.png")
    shutil.copy("support/class0.png", "query.png")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("similarity", "query.png", "support/class0.png"), "same (score 1.0000"),
        (("predict", "--support", "support", "--query", "query.png", "--csv"), "file,label,"),
    ],
)
def test_it_answers_and_one_line_names_it(command, answer):
    found = bench(*command, "--device", "cpu")
    assert found.code == 0 and found.out.startswith(answer), found.err
    assert found.err.startswith(f"model: {shipped().record.run_id}, ") and "ships with" in found.err
    assert "query.png,class0," in found.out or command[0] == "similarity"


@pytest.mark.parametrize("flat", [True, False])
def test_support_and_query_files_that_are_not_used_are_named(flat):
    """The images of a class may be in its only folder, as in Tiny ImageNet."""
    Path("query", "more").mkdir(parents=True)
    shutil.copy("query.png", "query/more/a.png")
    Path("query/b.heic").touch()
    Path("query/.hidden").mkdir()
    shutil.copy("query.png", "query/.hidden/c.png")
    support, empty, lost = Path("support"), [], ["support/bird.heic"]
    if flat:
        Path("support/bird.heic").touch()
    else:
        support = Path("images")
        Path("images/class1").rename("images/inner")
        Path("images/class1").mkdir()
        Path("images/inner").rename("images/class1/images")
        Path("images/bird").mkdir()
        Path("images/bird/c.heic").touch()
        empty = ["images/bird: has no images of a format that is read, in it or in its only subfolder"]
        lost = ["images/bird/c.heic"]
    found, *left_out = support_files(support)
    assert [label for _, label in found] == ["class0", "class1"] and all(path.is_file() for path, _ in found)
    assert left_out == [empty, lost]
    answer = bench("predict", "--support", support, "--query", "query", "--csv", "--device", "cpu")
    assert answer.code == (1 if empty else 0) and "query/more/a.png,class0," in answer.out
    assert ".hidden" not in answer.out + answer.err
    said = [line.partition("not used: ")[2] for line in answer.err.splitlines() if "not used" in line]
    assert said == [*lost, "query/b.heic", *empty]


class Asked(Exception):
    """The data set would be loaded here."""


@pytest.mark.parametrize(
    ("dataset", "size"),
    [("omniglot -> folder:x", 84), ("hf:x", 84), ("mnist -> folder:x", None), ("mnist", None)],
)
def test_calibration_loads_images_of_the_size_of_the_model(monkeypatch, dataset, size):
    predictor = load(shipped().folder, device="cpu")
    predictor.card = predictor.card.model_copy(update={"dataset": dataset, "image_size": (84, 84)})

    def stop(name, *_, **how):
        raise Asked(name, how["image_size"])

    monkeypatch.setattr(calibration.sources, "load", stop)
    with pytest.raises(Asked) as asked:
        calibration.calibrate(predictor, 3, 99)
    assert asked.value.args == (dataset, size)


def test_what_is_calibrated_for_it_is_kept_outside_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    folder = shipped().folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    measured = load(folder, device="cpu").calibration(2, 1)
    monkeypatch.setattr(calibration, "_validation", lambda _: ())
    monkeypatch.setattr(calibration, "measure", lambda *_: measured)
    assert load(folder, device="cpu").calibration(3, 7) == measured
    (kept,) = (tmp_path / "cache").glob("calibration-*.json")
    assert "3w7s" in json.loads(kept.read_text())["calibrations"]
    monkeypatch.delattr(calibration, "measure")
    assert load(folder, device="cpu").calibration(3, 7) == measured
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_run_is_put_into_the_package(served, tmp_path, monkeypatch):
    settle(served, served, monkeypatch)
    package = tmp_path / "package"
    package.mkdir()
    (package / "other_letters_run.json").write_text("stays")
    for name, value in (("SHIPPED", package), ("MOST_CLASSES", 3), ("SHOTS", (1, 2))):
        monkeypatch.setattr(ship, name, value)
    record = next(one for one in store.read_all(Path("results"))[0] if one.method == "nearest_centroid")
    assert ship.ship(record.run_id) == package
    folder = package / record.run_id
    assert {path.name for path in package.iterdir()} == {
        "other_letters_run.json", f"{record.run_id}.json", record.run_id
    }  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == Path(
        "runs", record.run_id, "model.safetensors"
    ).read_bytes()
    calibrations = json.loads((folder / "calibration.json").read_text())["calibrations"]
    assert {"2w1s", "2w2s", "3w1s", "3w2s"} <= calibrations.keys()


def test_images_that_cannot_be_read_are_named(monkeypatch):
    run = str(shipped().folder)

    def asked():
        with pytest.raises(UserError) as caught:
            predict_files(run, Path("support"), [Path("query.png")], Path(), None, "cpu")
        return str(caught.value)

    Path("query.png").write_bytes(b"broken")
    assert asked().startswith("--query query.png: cannot be read: query.png ")
    Path("support/class1.png").write_bytes(b"broken")
    assert asked().startswith("--support support: cannot be read: support/class1.png ")

    def refuse(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    assert asked() == "--support support: cannot be read (Permission denied)"


def test_a_calibration_needs_the_images_and_classes_of_the_run(monkeypatch, tiny):
    predictor = load(shipped().folder, device="cpu")
    monkeypatch.setattr(calibration.sources, "load", lambda *_, **__: tiny)
    with pytest.raises(UserError, match=f": {predictor.card.dataset} has changed since the run"):
        calibration.calibrate(predictor, 3, 99)
    same = {"fingerprint": tiny.fingerprint, "split": "50-50"}
    predictor.card = predictor.card.model_copy(update=same)
    with pytest.raises(UserError, match="the split 50-50 has changed since the run"):
        calibration.calibrate(predictor, 3, 99)


def test_the_start_of_several_runs_names_none(tmp_path):
    for name in ("protonet_a", "protonet_b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").touch()
    with pytest.raises(UserError, match=r"^--run proto: must be one run; 2 start with this; .*protonet_a"):
        find_folder("proto", tmp_path)
