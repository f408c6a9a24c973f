"""`bench.evaluate` without base classes: encoders are identified by features of novel images."""

from pathlib import Path

import pytest
import torch
from command_line import bench as command
from command_line import write_images
from torch import nn

import bench
from bench.api import encoders, runs
from bench.common import environment
from bench.common.errors import UserError
from bench.run import runner


class Made(Exception):
    """The run is prepared; its work would begin here."""


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A function that prepares the run of an encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("few"), classes=3, each=3)

    def stop(run, *_):
        raise Made(run)

    monkeypatch.setattr(runner, "run", stop)

    def prepare(encoder, transform=lambda images: images.float()):
        with pytest.raises(Made) as made:
            bench.evaluate(
                encoder, "all-novel", name="x", dataset="folder:few", transform=transform, device="cpu"
            )
        return made.value.args[0]

    return prepare


def test_two_encoders_of_one_name_are_two_runs(prepared):
    one, again, other = (
        prepared(lambda images, factor=factor: factor * images.flatten(1)[:, :9]) for factor in (1, 1, 2)
    )
    assert one.run_id == again.run_id != other.run_id and one.weights_sha256 != other.weights_sha256
    assert one.normalise.mean.isfinite().all() and one.normalise.std.isfinite().all()


def test_without_a_transform_there_is_nothing_to_normalise_with(prepared):
    with pytest.raises(UserError, match=r"^split all-novel: leaves no training images .* with a transform$"):
        prepared(lambda images: images.flatten(1), transform=None)


@pytest.mark.parametrize("parts", ["", "train test"])
def test_a_folder_has_one_default_split_on_the_command_line_and_in_python(parts, prepared, monkeypatch):
    """Those that `split` names where they differ; of frozen encoders all classes."""
    write_images(Path("own"), classes=5, each=3)
    for number, part in enumerate(parts.split()):
        for c in range(5)[number::2]:
            Path("own", part).mkdir(exist_ok=True)
            Path("own", f"class{c}").rename(Path("own", part, f"class{c}"))

    def stop(configs, *_):
        raise Made(next(iter(configs)))

    monkeypatch.setattr(runs, "run_all", stop)
    monkeypatch.setattr(runner, "run_all", stop)

    def split_of(call, *given, **more):
        with pytest.raises(Made) as made:
            call(*given, **more)
        found = made.value.args[0]
        return getattr(found, "config", found).split

    trained = ["run", "--method", "protonet", "--dataset", "folder:own"]
    frozen = [*trained[:2], "nearest_centroid", *trained[3:], "--backbone", "timm:resnet18", "--no-train"]
    assert split_of(command, *trained) == split_of(bench.run, "protonet", dataset="folder:own")
    how = {"name": "x", "transform": lambda images: images.float(), "device": "cpu"}
    found = split_of(bench.evaluate, lambda images: images[:, 0, 0], dataset="folder:own", **how)
    assert split_of(command, *frozen) == found == ("own" if parts else "all-novel")


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.frozen = nn.Dropout().eval()

    def forward(self, images):
        return self.weight * images.flatten(1)[:, :9]


@pytest.mark.parametrize("error", [Made, KeyboardInterrupt])
def test_a_module_is_lent_only_for_the_evaluation(error, prepared, monkeypatch):
    """Whatever happens, it is on its own device and trains as before; `meta` stands for a GPU."""
    module, moves = Held(), []

    def inside(*_):
        assert moves == [torch.device("meta")] and not module.training
        raise error

    monkeypatch.setattr(environment, "pick_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(module, "to", moves.append)
    monkeypatch.setattr(encoders, "_features", lambda *_: torch.zeros(2, 9))
    monkeypatch.setattr(runner, "run", inside)
    how = {"transform": lambda images: images.float(), "precision": "fp32"}
    with pytest.raises(error):
        bench.evaluate(module, dataset="folder:few", **how)
    assert moves[1:] == [torch.device("cpu")] and module.training and not module.frozen.training


def test_a_function_around_a_model_on_another_device_is_told_what_to_do(prepared, monkeypatch):
    def closure(images):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {images.device} and cpu!"
        )

    monkeypatch.setattr(environment, "pick_device", lambda _: torch.device("meta"))
    with pytest.raises(
        UserError, match=r'^device meta: x has tensors on another device; allowed: device="cpu"'
    ):
        prepared(closure)


def test_episodes_leave_out_small_classes_as_the_protocol_does(tmp_path, monkeypatch):
    """Two of three base classes have seven training images each, the other has two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("uneven"), classes=6, each=8)
    for path in sorted(Path("uneven/class1").iterdir())[2:]:
        path.unlink()
    given = {"way": 2, "shot": 1, "query": 3, "dataset": "folder:uneven"}
    episodes = bench.Episodes("50-50", episodes=20, **given)
    assert 1 not in episodes.pool.classes[episodes.drawn.classes] and len(episodes[0].query_labels) == 6
    with pytest.raises(
        UserError, match=r"^shot \+ query 4: must be 2 to 2, for 3 of the base classes of 50-50$"
    ):
        bench.Episodes("50-50", **given | {"way": 3})


def test_episodes_need_base_classes_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("few"), classes=3, each=3)
    with pytest.raises(UserError, match=r"^split all-novel: leaves no training images of base classes"):
        bench.Episodes("all-novel", 2, 1, 1, part="novel", dataset="folder:few")
