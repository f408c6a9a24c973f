"""Files are data: code that hides in one is not run, wherever the file is read."""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_inputs import refusal, write_tiny
from command_line import bench, complaint
from record_factory import make_episodes, make_record

from bench.common.errors import UserError
from bench.data import cache
from bench.records import store
from bench.records.arrays import read_arrays
from bench.training import checkpoints
from methods import backbones
from methods.weight_files import load_weights

DATA = ["--dataset", "folder:images", "--split", "50-50"]
RUN = ["run", "--method", "siamese_triplet", "--preset", "smoke", "--steps", "2", "--device", "cpu", *DATA]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def torch_file(content: object, *, archive: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=archive)
    return file.getvalue()


def npz(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **(make_episodes() | {"5w1s": array, "novel/pair_scores": array}))
    return file.getvalue()


FORMS: dict[str, Callable[[Payload], bytes]] = {
    "pickle, protocol 0": lambda payload: pickle.dumps(payload, 0),
    "pickle, protocol 2": lambda payload: pickle.dumps({"data": payload, "image_data": payload}, 2),
    "pickle, protocol 5": lambda payload: pickle.dumps([payload], 5),
    "checkpoint": lambda payload: torch_file(
        {"state_dict": backbones.build("conv4").state_dict(), "global_step": 1, "hook": payload}, archive=True
    ),
    "old checkpoint": lambda payload: torch_file({"w": torch.ones(1), "hook": payload}, archive=False),
    "array": lambda payload: npz(np.array([payload] * 40, dtype=object)),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A finished run on a folder of images."""
    folder = tmp_path_factory.mktemp("trust") / "here"
    write_tiny(folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder.parent / "cache"))
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "user-cache"))
        assert bench(*RUN).code == 0
        yield folder


@pytest.fixture(params=FORMS)
def harmful(request, workspace, tmp_path):
    """Bytes with code in them, which does run where it is let, and has not run when the test is over."""
    content = FORMS[request.param](Payload(tmp_path / "made"))
    if request.param.startswith("pickle"):
        pickle.loads(content)
        (tmp_path / "made").rmdir()
    yield content
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights(harmful, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(harmful)
    with pytest.raises(ValueError, match="is not a safetensors file or plain PyTorch checkpoint"):
        load_weights(backbones.build("conv4"), str(path))


@pytest.mark.slow
@pytest.mark.parametrize("harmful", ["checkpoint"], indirect=True)
def test_weights_of_a_run(harmful, workspace):
    path = workspace / "weights.pt"
    path.write_bytes(harmful)
    said = complaint(*RUN, "--weights", path)
    assert said.startswith(f"--weights {path}: is not a safetensors file or plain PyTorch checkpoint")


def test_a_checkpoint(harmful, tmp_path):
    """With its SHA-256, as whoever writes one can compute."""
    (tmp_path / "last.ckpt").write_bytes(hashlib.sha256(harmful).digest() + harmful)
    assert checkpoints.saved_step(tmp_path / "last.ckpt", "") == 0


@pytest.mark.slow
@pytest.mark.parametrize("harmful", ["checkpoint"], indirect=True)
def test_the_last_checkpoint_of_a_run(harmful, workspace):
    (record,) = (workspace / "results").rglob("*.json")
    before = json.loads(record.read_text())["metrics"]
    last = workspace / "runs" / record.stem / "checkpoints" / "last.ckpt"
    last.parent.mkdir(exist_ok=True)
    last.write_bytes(harmful)
    assert bench(*RUN, "--overwrite").code == 0  # from the start
    assert json.loads(record.read_text())["metrics"] == before and not last.exists()


def test_the_model_of_a_run(harmful, workspace, tmp_path):
    from bench.reporting.figures.trained import Trained

    (path,) = (workspace / "results").rglob("*.json")
    record = store.read(path)
    folder = tmp_path / record.run_id
    shutil.copytree(workspace / "runs" / record.run_id, folder)
    (folder / "model.safetensors").write_bytes(harmful)
    # Whoever writes the one file writes the others, with its SHA-256.
    sha256 = hashlib.sha256(harmful).hexdigest()
    card = json.loads((folder / "model.json").read_text()) | {"weights_sha256": sha256}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="not a safetensors file"):
        Trained(record.model_copy(update={"model": sha256}), tmp_path, None)


def test_the_cache_of_decoded_images(harmful, workspace):
    (path,) = cache.directory().glob("*.safetensors")
    path.write_bytes(harmful)
    answer = bench("data", "info", "--dataset", "folder:images")
    assert answer.code == 0 and f"warning: the cache file {path} is damaged" in answer.err
    assert cache.read(path).name == "folder:images"


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_pickles_of_cifar100(harmful, tmp_path, name):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    harmless = {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1], "coarse_labels": [0, 0]}
    names = {"fine_label_names": ["a", "b"], "coarse_label_names": ["c"]}
    for other, content in (("train", harmless), ("test", harmless), ("meta", names)):
        (folder / other).write_bytes(harmful if other == name else pickle.dumps(content))
    said = refusal("data", "info", "--data-root", tmp_path, "--offline")
    assert f"cannot be read: {name}: " in said
    assert bench("data", "verify", "--data-root", tmp_path, "--offline").code == 1


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_pickles_of_mini_imagenet(harmful, tmp_path, name):
    for mode in ("train", "validation", "test"):
        (tmp_path / f"mini-imagenet-cache-{mode}.pkl").write_bytes(harmful)
    said = refusal("data", "info", "--dataset", "mini-imagenet", "--data-root", tmp_path, "--offline")
    assert "mini-imagenet-cache-train.pkl cannot be read: " in said and "(and 2 more" in said


def with_answers(content: bytes, folder: Path) -> Path:
    """The second of two records, whose answers are this file."""
    for method in ("protonet", "mtl"):
        path = store.write(make_record(method=method), folder, make_episodes())
    record = json.loads(path.read_text())
    # Whoever writes the one file writes the other, with its SHA-256.
    record["episode_file_sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(record))
    path.with_suffix(".npz").write_bytes(content)
    return path


def test_answers_of_a_record(harmful, tmp_path):
    path = with_answers(harmful, tmp_path)
    with pytest.raises(UserError):
        read_arrays(store.read(path), tmp_path, lambda name: True)


@pytest.mark.slow
@pytest.mark.parametrize("harmful", ["array", "pickle, protocol 2"], indirect=True)
def test_commands_that_read_answers(harmful, tmp_path):
    path = with_answers(harmful, tmp_path)
    assert bench("validate", "--results", tmp_path).code == 1
    assert complaint("compare", "protonet", "mtl", "--results", tmp_path).startswith("--results ")
    for command in (["leaderboard", "--show"], ["show", path], ["list", "runs"]):
        assert bench(*command, "--results", tmp_path).code in (0, 1)


def test_records_configurations_and_splits(harmful, workspace, tmp_path):
    for name in ("run.json", "run.yaml", "mine.csv"):
        (tmp_path / name).write_bytes(harmful)
    assert complaint("show", tmp_path / "run.json").startswith("--results ")
    assert complaint("run", "--config", tmp_path / "run.yaml").startswith("--config ")
    assert complaint(*RUN, "--split", tmp_path / "mine.csv").startswith("--split ")


def test_images(harmful, workspace, tmp_path):
    shutil.copytree("images", tmp_path / "images")
    (tmp_path / "images" / "c0" / "bad.png").write_bytes(harmful)
    answer = bench("data", "info", "--dataset", f"folder:{tmp_path / 'images'}")
    assert answer.code == 0 and "left out 1 of 49 images cannot be read: c0/bad.png" in answer.err
