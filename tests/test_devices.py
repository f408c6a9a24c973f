"""One training on several devices: the same losses and weights as on one, shown with processes on the CPU."""

import io
import os
from pathlib import Path

import pytest
import torch
from command_line import bench, complaint, write_images
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.records import store
from bench.training import devices
from bench.training.loop import train
from methods.backbones import Conv4
from methods.base_classifier import BaseClassifier
from methods.pretraining import Pretraining
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

STEPS = 8
METHODS = {
    "protonet": lambda: (ProtoNet, ProtoNet.Hyperparameters(steps=STEPS, train_way=5)),
    "siamese_triplet": lambda: (
        SiameseTriplet,
        SiameseTriplet.Hyperparameters(steps=STEPS, classes=5, images=3),  # 15 images: not equal parts
    ),
    "classifier": lambda: (BaseClassifier, Pretraining(STEPS, images=16)),
}


def made(name: str):
    method_class, hp = METHODS[name]()
    torch.manual_seed(0)
    return method_class(Conv4(filters=8, image_size=16), hp, 8).to(memory_format=torch.channels_last)


def fit(name, data, split, folder, count: int = 1):
    """Train; the loss curve, and the weights and running statistics."""
    method = made(name)
    torch.manual_seed(1)
    trained = train(
        method,
        data,
        split,
        Normaliser(data.images, split.train),
        seed=0,
        precision="32-true",
        device=torch.device("cpu"),
        run_dir=folder,
        progress=Progress(io.StringIO()),
        devices=count,
    )
    return trained.curves["loss"], method.state_dict()


def process(rank: int, port: int, name, data, split, folder) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ.update({key: str(value) for key, value in where.items()})
    torch.set_num_threads(1)
    found = fit(name, data, split, folder / "two", 2)
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one(name, tiny, tiny_split, tmp_path):
    curve, weights = fit(name, tiny, tiny_split, tmp_path / "one")
    given = (find_free_network_port(), name, tiny, tiny_split, tmp_path)
    torch.multiprocessing.spawn(process, given, nprocs=2)
    for rank in range(2):
        own_curve, own_weights = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        torch.testing.assert_close(torch.tensor(own_curve), torch.tensor(curve), rtol=1e-4, atol=1e-5)
        for key, value in weights.items():
            torch.testing.assert_close(own_weights[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_a_single_process_is_left_alone():
    backbone = Conv4(filters=8, image_size=16)
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = backbone.eval()(images)
        with devices.shared_forward(backbone):
            assert torch.equal(backbone(images), expected)
    assert "forward" not in vars(backbone)
    assert all("forward" not in vars(module) for module in backbone.modules())


RUN = [
    "run", "--dataset", "folder:images", "--split", "50-50", "--steps", "6", "--backbone", "conv4",
    "--device", "cpu", "--measure", "5w1s",
]  # fmt: skip


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 12, 40)


def record_of(*flags: str) -> store.Record:
    answer = bench(*RUN, *flags)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_run_and_what_it_starts_from_are_trained_on_two_devices(images):
    flags = ["--method", "protonet", "--set", "init=pretrained"]
    one = record_of(*flags)
    two = record_of(*flags, "--devices", "2", "--results", "two", "--runs", "runs2")
    assert "2 x cpu" in two.training.where and "2 x cpu" in two.pretraining.where
    assert two.run_id == one.run_id and two.training.steps == one.training.steps
    assert two.metrics["fewshot/5w1s"].value == pytest.approx(one.metrics["fewshot/5w1s"].value, abs=0.5)


def test_what_cannot_train_on_two_devices_is_refused(images):
    assert "--devices 1000" in complaint(*RUN, "--method", "protonet", "--devices", "1000")
    assert "--devices 0" in complaint(*RUN, "--method", "protonet", "--devices", "0")
    if (os.cpu_count() or 1) > 1:
        assert "must be 1: maml trains on one" in complaint(*RUN, "--method", "maml", "--devices", "2")
