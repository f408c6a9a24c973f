"""Code of the user's own runs for `run --method FILE` alone, which says so; archives stay in their folder."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from bad_inputs import write_tiny
from command_line import bench, complaint
from record_factory import make_episodes, make_record
from safetensors.torch import save_file

from bench.common.errors import UserError
from bench.config.run_config import method_info, resolve
from bench.data import download
from bench.records import store
from methods import backbones

CODE = '''
import os
from dataclasses import dataclass

from methods.siamese_triplet import SiameseTriplet


class Mine(SiameseTriplet):
    """Leaves a folder where it is imported."""

    presets = {"standard": {"steps": 2}, "smoke": {"steps": 2}}

    @dataclass(frozen=True)
    class Hyperparameters(SiameseTriplet.Hyperparameters):
        steps: int = 2


os.makedirs("made", exist_ok=True)
'''


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_tiny(Path("images"))
    Path("mine.py").write_text(CODE)
    method_info.cache_clear()
    return Path()


def test_a_file_is_run_only_where_it_is_named(workspace):
    assert "runs with your permissions" in " ".join(bench("run", "--help").out.replace("│", " ").split())
    assert bench("list", "methods").code == 0
    assert complaint("run", "--method", "mine.py", "--split", "fc-100").startswith("--split fc-100: ")
    assert not Path("made").exists()
    assert bench("list", "methods", "--method", "mine.py").code == 0
    assert Path("made").exists()


@pytest.mark.slow
def test_a_run_says_that_it_runs_the_file(workspace, unquestioned):
    save_file(backbones.build("conv4").state_dict(), "weights.safetensors")
    images = ["--dataset", "folder:images", "--split", "50-50", "--device", "cpu", "--preset", "smoke"]
    images += ["--image-size", "16", "--no-train", "--weights", "weights.safetensors"]
    answer = bench("run", "--method", "mine.py", *images)
    assert answer.code == 0 and Path("made").exists()
    assert "code      mine.py runs with your permissions" in answer.err
    plain = bench("run", "--method", "siamese_triplet", *images)
    assert plain.code == 0 and "runs with your" not in plain.err


def test_code_that_a_record_names_is_not_run(workspace):
    """Not even where its author has given the record the name that the file leads to."""
    from bench.reporting.figures.trained import Trained

    given = {"dataset": "folder:images", "split": "50-50"}
    config = resolve(given | {"method": "siamese_triplet"}, {}, {}).model_copy(update={"method": "mine.py"})
    fields = {"dataset": config.dataset, "split": config.split, "method": "mine", "preset": config.preset}
    run_id = "mine_folder-images_50-50_standard_s0_01234567"
    record = make_record(run_id=run_id, config=config.model_dump(), **fields)
    store.write(record, Path("results"), make_episodes())
    (Path("runs") / run_id).mkdir(parents=True)
    (Path("runs") / run_id / "model.safetensors").touch()
    for command in (["leaderboard"], ["validate"], ["show", run_id], ["list", "runs"]):
        assert bench(*command).code in (0, 1)
    with pytest.raises(UserError, match=r"is the Python file mine\.py.*figures do not run"):
        Trained(record, Path("runs"), None)
    assert not Path("made").exists()


# Archives

OUTSIDE = ["../made", "a/../../made", "/made", "./../made"]


def tar_of(members: list[tarfile.TarInfo], content: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


TARS = {
    **{name: [tarfile.TarInfo(name)] for name in OUTSIDE if not name.startswith("/")},
    "a link to a folder above, and a file through it": [link("up", ".."), tarfile.TarInfo("up/made")],
    "a link to an absolute place": [link("up", "/tmp"), tarfile.TarInfo("up/made")],
    "a hard link to a file above": [link("made", "../secret", tarfile.LNKTYPE)],
    "a device": [link("made", "", tarfile.CHRTYPE)],
    "a pipe": [link("made", "", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", TARS)
def test_a_tar_file_writes_nothing_outside_its_folder(tmp_path, name):
    folder = tmp_path / "into" / "folder"
    folder.mkdir(parents=True)
    (tmp_path / "into" / "secret").write_text("secret")
    file = tmp_path / "archive.tar.gz"
    file.write_bytes(tar_of(TARS[name]))
    with pytest.raises(tarfile.TarError):
        download._unpack(file, folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive.tar.gz", "folder", "into", "secret"]


def test_an_absolute_path_in_a_tar_file_stays_in_the_folder(tmp_path):
    file = tmp_path / "archive.tar.gz"
    target = tmp_path / "made"
    file.write_bytes(tar_of([tarfile.TarInfo(str(target))]))
    (tmp_path / "folder").mkdir()
    download._unpack(file, tmp_path / "folder")
    assert not target.exists() and (tmp_path / "folder" / str(target).lstrip("/")).exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_file_writes_nothing_outside_its_folder(tmp_path, name):
    file = tmp_path / "archive.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    folder = tmp_path / "into" / "folder"
    folder.mkdir(parents=True)
    download._unpack(file, folder)
    outside = [path for path in tmp_path.rglob("made") if folder not in path.parents]
    assert not outside and not Path("/made").exists()


def test_a_downloaded_archive_that_would_is_refused_whole(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    root = tmp_path / "data"
    root.mkdir()
    inside = tarfile.TarInfo("cifar-100-python/train")
    content = tar_of([inside, tarfile.TarInfo("../../made")])
    (root / "cifar-100-python.tar.gz").write_bytes(content)
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(content).hexdigest())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = complaint("data", "info", "--data-root", root, "--offline")
    assert said.startswith("--dataset cifar100: not found in ") and "outside the destination" in said
    assert [path.name for path in root.iterdir()] == ["cifar-100-python.tar.gz"] and not (
        tmp_path / "made"
    ).exists()
