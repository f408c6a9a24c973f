"""`bench.evaluate` without base classes: encoders are identified by features of novel images."""

from pathlib import Path

import pytest
from command_line import write_images

import bench
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


def test_episodes_need_base_classes_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("few"), classes=3, each=3)
    with pytest.raises(UserError, match=r"^split all-novel: leaves no training images of base classes"):
        bench.Episodes("all-novel", 2, 1, 1, part="novel", dataset="folder:few")
