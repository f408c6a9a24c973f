"""Folders of images with files and classes that cannot be used, or cannot be read at the moment."""

import errno
import os
from pathlib import Path

import pytest
from image_folders import fill, load, refused, two_classes
from PIL import Image

from bench.data import inspect
from bench.data.images import ImageSet


def test_files_that_are_not_used_are_counted_and_named(pictures, capsys):
    two_classes(pictures)
    fill(pictures / ".hidden", 2, first=20)
    (pictures / "a" / ".thumbnail.png").write_bytes(b"no image")
    (pictures / "LICENSE").write_text("of nobody's class")
    assert len(load(pictures)) == 4 and capsys.readouterr().err == ""
    (pictures / "a" / "photo.heic").write_bytes(b"of another kind")
    fill(pictures / "b" / "deeper", 1, first=30)
    fill(pictures, 1, first=40)
    assert len(load(pictures)) == 4
    unused = ["040.png", "a/photo.heic", "b/deeper/030.png"]
    said = f"left out 3 files that do not belong to a class: {'; '.join(unused)}"
    assert capsys.readouterr().err == f"warning: folder:{pictures}: {said}\n"
    problems = inspect.verify(f"folder:{pictures}")
    assert problems == [f"folder:{pictures}: {name} does not belong to a class" for name in unused]


def test_files_of_operating_systems_are_not_classes(pictures, capsys):
    two_classes(pictures, 4, 4)
    (pictures / "__MACOSX" / "a").mkdir(parents=True)
    (pictures / "__MACOSX" / "a" / "._000.png").write_bytes(b"x")
    fill(pictures / "@eaDir" / "000.png", 1, first=20)
    assert load(pictures).class_names == ("a", "b")
    said = capsys.readouterr().err
    assert "left out 2 of 4 classes with fewer than 2 readable images: @eaDir (0); __MACOSX (0)" in said
    problems = inspect.verify(f"folder:{pictures}")
    assert [line.split(": ")[1] for line in problems] == [
        "class @eaDir has 0 readable images, at least 2 needed",
        "class __MACOSX has 0 readable images, at least 2 needed",
        "@eaDir/000.png/020.png does not belong to a class",
    ]


def damage(path: Path) -> None:
    """Four kinds in the class folder `path`, which holds at least four PNGs."""
    files = sorted(path.glob("*.png"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_bytes(b"something else")
    files[3].unlink()
    files[3].symlink_to("nowhere")


def test_classes_without_enough_readable_images_are_left_out(pictures, capsys):
    two_classes(pictures, 4, 9)
    damage(pictures / "a")
    assert "classes with fewer than 2 readable images: a (0)" in refused(pictures)
    fill(pictures / "c", 3, first=30)
    for number in range(20):
        fill(pictures / f"d{number:02}", 1, first=40 + number)
    data = load(pictures)
    assert data.class_names == ("b", "c") and len(data) == 12 and data.left_out == 4
    said = capsys.readouterr().err
    assert "left out 21 of 23 classes with fewer than 2 readable images: a (0); d00 (1); d01 (1); ..." in said
    problems = inspect.verify(f"folder:{pictures}")
    assert sum("readable images, at least 2 needed" in line for line in problems) == 21


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *((OSError(code, os.strerror(code)), f"cannot be read ({os.strerror(code)})") for code in (
            errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM
        )),
        (MemoryError(), "out of memory at "),
    ],
)  # fmt: skip
def test_what_may_pass_is_not_damage(pictures, monkeypatch, error, said):
    """Such a run stops and leaves nothing in the cache, so that the next one has all images."""
    two_classes(pictures, 8)

    def fails(file, **options):
        if Path(file).name == "005.png":
            raise error
        return opened(file, **options)

    opened = Image.open
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fails)
        message = refused(pictures)
    assert said in message and "a/005.png" in message
    data = load(pictures)
    assert len(data) == 10 and data.left_out == 0


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_an_input_output_error_of_the_system(pictures):
    two_classes(pictures, 8)
    (pictures / "a" / "100.png").symlink_to("/proc/self/mem")  # nothing is mapped where it begins
    assert "a/100.png cannot be read (Input/output error)" in refused(pictures)


def test_no_memory_for_all_images(pictures, monkeypatch):
    two_classes(pictures)

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr(ImageSet, "build", fails)
    assert "out of memory; free some, or lower --image-size" in refused(pictures)
