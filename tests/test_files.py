"""Outputs go through links and keep permissions; only regular files are read and replaced."""

import errno
import os
import stat
from pathlib import Path

import pytest
from bad_inputs import TOO_LONG
from command_line import bench, complaint, write_images
from record_factory import make_episodes, make_record

from bench.common.errors import UserError
from bench.common.files import check_regular, check_writable, write_files
from bench.records import store

OTHERS = ["a folder", "a pipe", "a device", "a link to a pipe", "a link to itself"]
WRITES = {
    "leaderboard": ["leaderboard", "--output"],
    "report": ["report", "--output"],
}


def put(kind: str, path: Path) -> Path:
    """Something that is not a regular file; a device by a link, because only root makes others."""
    match kind:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a link to a pipe":
            os.mkfifo(path.with_name("pipe"))
            path.symlink_to("pipe")
        case "a link to itself":
            path.symlink_to(path.name)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store.write(make_record(), tmp_path / "results", make_episodes())
    return tmp_path


@pytest.mark.parametrize("kind", OTHERS)
def test_only_regular_files_are_read(tmp_path, kind):
    with pytest.raises(OSError):
        check_regular(put(kind, tmp_path / "x"))


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("kind", OTHERS)
def test_only_regular_files_are_replaced(folder, kind, command):
    path = put(kind, Path("out"))
    before = path.lstat()
    said = complaint(*WRITES[command], path)
    assert said.startswith("--output out: must be writable (")
    assert path.lstat().st_ino == before.st_ino and path.lstat().st_mode == before.st_mode
    assert not list(folder.glob(".*.tmp"))


def test_the_working_directory_is_not_taken_for_a_file(folder):
    assert complaint("leaderboard", "--output", ".") == "--output .: must be writable (Is a directory)"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(folder, exists):
    (folder / "far").mkdir()
    target, link = folder / "far" / "board.md", folder / "board.md"
    if exists:
        target.write_text("old")
    link.symlink_to("far/board.md")
    assert bench("leaderboard", "--output", "board.md").code == 0
    assert link.is_symlink() and target.read_text().startswith("# Leaderboard")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_stay(folder, mode):
    path = folder / "leaderboard.md"
    path.write_text("old")
    path.chmod(mode)
    assert bench("leaderboard").code == 0
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_text() != "old"


def test_a_new_file_has_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_files({tmp_path / "x": b"x"}, "--output")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_dangling_link_is_not_taken_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gone").symlink_to("nowhere")
    for path in ("gone", "gone/inner"):
        with pytest.raises(UserError) as error:
            check_writable(Path(path), "--results")
        assert str(error.value).startswith(f"--results {path}: must be a writable folder (")
        assert str(error.value).endswith("gone is a dangling link)")


def test_a_folder_on_a_broken_disk(monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "exists", broken)
    with pytest.raises(UserError, match=r"^--runs x: must be a writable folder \(Input/output error\)$"):
        check_writable(Path("x"), "--runs")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["bad.json", "cifar100-protonet-quick-0.npz"])
def test_a_record_or_its_answers(folder, kind, name):
    path = folder / "results" / name
    path.unlink(missing_ok=True)
    put(kind, path)
    for command in (["validate"], ["leaderboard", "--show"], ["compare", "protonet", "mtl"]):
        answer = bench(*command)
        assert answer.code in (0, 1, 2) and "Traceback" not in answer.err
    assert bench("validate").code == 1


@pytest.mark.parametrize("kind", OTHERS)
def test_a_configuration(folder, kind):
    put(kind, Path("run.yaml"))
    assert complaint("run", "--config", "run.yaml").startswith("--config run.yaml: ")
    assert complaint("sweep", "run.yaml").startswith("--config run.yaml: ")


@pytest.mark.slow
def test_paths_that_are_not_utf8(tmp_path, unquestioned, monkeypatch):
    here = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.setenv("FEWSHOT_CACHE", str(here / "cache"))
    images, results, runs = (os.fsdecode(name + b"\xff") for name in (b"images", b"results", b"runs"))
    write_images(here / images, 8, 24)
    monkeypatch.chdir(here)
    command = [
        "run", "--method", "siamese_triplet", "--dataset", f"folder:{images}", "--split", "50-50",
        "--preset", "smoke", "--steps", "3", "--set", "classes=4", "--image-size", "16",
        "--device", "cpu", "--runs", runs,
    ]  # fmt: skip
    answer = bench(*command, "--results", results)
    assert answer.code == 0, answer.err
    assert "is already recorded" in bench(*command, "--results", results).err
    for command in (["validate"], ["leaderboard", "--output", os.fsdecode(b"\xff.md")], ["list", "runs"]):
        answer = bench(*command, "--results", results)
        assert answer.code == 0, (command, answer)


@pytest.mark.parametrize("path", ["x" * 300, f"{TOO_LONG}/board.md"])
def test_names_that_no_file_has(folder, path):
    assert complaint("leaderboard", "--output", path).startswith("--output ")
