"""`predict` and `similarity` without `--run`: the model of the package answers."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import bench, write_images

from bench.serving import calibration
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
