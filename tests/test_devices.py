"""One training on several devices: the same losses and weights as on one, shown with processes on the CPU."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import bench, complaint, descendants, write_images
from fitting import fit
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from bench.common import environment
from bench.common.environment import available_cores
from bench.common.errors import UserError
from bench.config.run_config import resolve
from bench.records import store
from bench.run import learning
from bench.run.devices import check_devices
from bench.run.processes import start_method
from bench.training import devices
from bench.training.checkpoints import CheckedFiles
from methods.anil import ANIL
from methods.backbones import Conv4
from methods.base_classifier import BaseClassifier
from methods.easy import Easy
from methods.pair_classifier import PairClassifier
from methods.pretraining import Pretraining
from methods.protonet import ProtoNet
from methods.siamese_triplet import SiameseTriplet

STEPS = 3
METHODS = {
    "protonet": lambda: (ProtoNet, ProtoNet.Hyperparameters(steps=STEPS, train_way=5)),
    "siamese_triplet": lambda: (
        SiameseTriplet,
        SiameseTriplet.Hyperparameters(steps=STEPS, classes=5, images=3),  # 15 images: not equal parts
    ),
    "classifier": lambda: (BaseClassifier, Pretraining(STEPS, images=16)),
    "easy": lambda: (Easy, Easy.Hyperparameters(steps=STEPS, images=16, crops=1)),
    "pair_classifier": lambda: (PairClassifier, PairClassifier.Hyperparameters(steps=STEPS)),
    "anil": lambda: (ANIL, ANIL.Hyperparameters(steps=STEPS, train_way=5)),
}
MORE = ["pair_classifier", "anil"]


def made(name: str):
    method_class, hp = METHODS[name]()
    torch.manual_seed(0)
    return method_class(Conv4(filters=8, image_size=16), hp, 8).to(memory_format=torch.channels_last)


def result(name, data, split, folder, rank: int = 0, count: int = 1):
    """Train; the loss curve, and the weights and running statistics."""
    method = made(name)
    torch.manual_seed(1)
    trained = fit(method, data, split, folder, rank=rank, devices=count)
    return trained.curves["loss"], method.state_dict()


def process(rank: int, port: int, names, data, split, folder) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ.update({key: str(value) for key, value in where.items()})
    torch.set_num_threads(1)
    for name in names:
        torch.save(result(name, data, split, folder / name, rank, 2), folder / f"{name}{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [[name for name in METHODS if name not in MORE], pytest.param(MORE, marks=pytest.mark.soak)]
)
def test_two_processes_train_as_one(tiny, tiny_split, tmp_path, names):
    given = (find_free_network_port(), names, tiny, tiny_split, tmp_path)
    torch.multiprocessing.start_processes(process, given, nprocs=2, start_method=start_method())
    for name in names:
        curve, weights = result(name, tiny, tiny_split, tmp_path / "one" / name)
        for rank in range(2):
            own_curve, own_weights = torch.load(tmp_path / f"{name}{rank}.pt", weights_only=False)
            torch.testing.assert_close(own_curve, curve, rtol=1e-3, atol=1e-4, msg=name)
            for key, value in weights.items():
                torch.testing.assert_close(own_weights[key], value, rtol=1e-2, atol=1e-3, msg=f"{name} {key}")


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
    "run", "--dataset", "folder:images", "--split", "50-50", "--steps", "4", "--backbone", "conv4",
    "--image-size", "16", "--device", "cpu", "--measure", "5w1s",
]  # fmt: skip


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 12, 24)


def record_of(*flags: str) -> store.Record:
    answer = bench(*RUN, *flags)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_a_run_and_what_it_starts_from_are_trained_on_two_devices(images):
    flags = ["--method", "protonet", "--set", "init=pretrained", "--preset", "smoke"]
    one = record_of(*flags)
    two = record_of(*flags, "--devices", "2", "--results", "two", "--runs", "runs2")
    assert two.environment.devices == 2 and "2 x cpu" in two.pretraining.where
    assert two.run_id == one.run_id and two.timings.steps == one.timings.steps
    assert two.metrics["fewshot/5w1s"].value == pytest.approx(one.metrics["fewshot/5w1s"].value, abs=0.5)


def test_devices_that_are_not_alike_resume_at_the_same_step(monkeypatch, tmp_path):
    """The checkpoint is that of the first one."""
    stamps, method = set(), made("protonet")
    config = resolve({"method": "protonet", "preset": "smoke"}, {}, {})
    run = SimpleNamespace(config=config, method=method, precision="32-true", data=None, split=None)
    run.identity, run.normalise = SimpleNamespace(sha256="a"), None
    monkeypatch.setattr(environment, "device_name", lambda device: f"the GPU number {device.index}")
    monkeypatch.setattr("bench.training.loop.train", lambda *_, stamp, **__: stamps.add(stamp))
    for rank in range(2):
        run.device = torch.device("cuda", rank)
        learning._train(run, rank, tmp_path, False, "", devices=2)
    assert len(stamps) == 1
    learning._train(run, 0, tmp_path, False, "", devices=1)
    assert len(stamps) == 2 and any("number 1" in stamp for stamp in stamps), "one device is the one named"


MINE = """
import os

from methods.protonet import ProtoNet


class Mine(ProtoNet):
    def training_step(self, batch, batch_idx):
        if batch_idx == 2:
            {problem}
        return super().training_step(batch, batch_idx)
"""


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
@pytest.mark.parametrize(
    ("problem", "flags", "said"),
    [
        ("raise ValueError('not today')", [], "raised ValueError: not today (mine.py, line 10)"),
        (
            "self.global_rank and os.kill(os.getpid(), 9)",
            [],
            "ended with SIGKILL; perhaps out of memory; lower --set train_way",
        ),
        pytest.param("pass", ["--set", "learning_rate=1e30"], "diverged in", marks=pytest.mark.soak),
    ],
)
def test_what_happens_in_a_process_is_told_in_one_line(images, problem, flags, said):
    Path("mine.py").write_text(MINE.format(problem=problem))
    answer = bench(*RUN, "--method", "mine.py", *flags, "--devices", "2")
    assert answer.code == 2 and "Traceback" not in answer.err, answer.err
    assert said in answer.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_a_stopped_run_ends_its_processes_and_resumes(images, monkeypatch):
    root = Path(store.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    flags = [*RUN, "--method", "protonet", "--devices", "2", "--steps", "1000"]
    run = subprocess.Popen([sys.executable, "-m", "bench", *flags], stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 300
        while not (last := list(Path("runs").glob("*/checkpoints/last.ckpt"))):
            assert time.monotonic() < end and run.poll() is None
            time.sleep(0.1)
        family = [pid for pid, _ in descendants(run.pid)]
        run.terminate()
        run.wait(60)
    finally:
        run.kill()
    end = time.monotonic() + 60  # the training would take longer
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < end
        time.sleep(0.1)
    step = CheckedFiles().load_checkpoint(last[0])["global_step"]
    answer = bench(*flags)
    assert answer.code == 0, answer.err
    assert list(last[0].parents[1].glob("logs/from-*")), step


@pytest.mark.slow
def test_what_cannot_train_on_two_devices_is_refused(images):
    bench("data", "info", *RUN[1:3], "--image-size", "16")  # decodes the images
    assert "--devices 1000" in complaint(*RUN, "--method", "protonet", "--devices", "1000")
    assert "--devices 0" in complaint(*RUN, "--method", "protonet", "--devices", "0")
    if available_cores() > 1:
        assert "must be 1 with maml: the method trains on one device only" in complaint(
            *RUN, "--method", "maml", "--devices", "2"
        )


def test_one_device_that_is_named_cannot_be_two(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = r"^--devices 2: must be 1 with --device cuda:1, which is a single device$"
    with pytest.raises(UserError, match=said):
        check_devices(SimpleNamespace(device=torch.device("cuda", 1)), "cuda:1", 2)


def test_another_batch_norm_trains_on_one_device():
    method = made("protonet")
    assert devices.obstacle(method) == ""
    method.backbone.append(torch.nn.BatchNorm1d(32, momentum=None))  # a mean over all batches
    assert devices.obstacle(method) == "the batch norm of the backbone"
