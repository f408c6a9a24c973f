"""Image folders that cannot be used; and a few images among many that cannot, which are counted and named."""

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from bad_inputs import CLASSES, EACH, refusal, write_tiny
from command_line import bench, write_images
from PIL import Image
from safetensors.torch import save_file

from bench.records import store
from methods.backbones import build

LAYOUT = "a folder with PATH/<class>/<image> or PATH/{train,val,test}/<class>/<image>"
FEW = "classes with fewer than 2 readable images:"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, packed: bytes) -> bytes:
    """A PNG that claims a size, whatever it holds."""
    header = _chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(packed)) + _chunk(b"IEND", b"")


def encoded(mode: str, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, kind)
    return file.getvalue()


WHOLE = encoded("RGB", "PNG")

DAMAGED = {
    "zero bytes": b"",
    "text": b"hello",
    "half a PNG": WHOLE[: len(WHOLE) // 2],
    "a PNG without its end": WHOLE[:-25],
    "half a JPEG": encoded("RGB", "JPEG")[:200],
    "half a GIF": encoded("P", "GIF")[:20],
    "half a TIFF": encoded("RGB", "TIFF")[:60],
    "3.6 gigapixels": png(60_000, 60_000, bytes(1000)),
    "144 megapixels of nothing": png(12_000, 12_000, bytes(1000)),
    "no width": png(0, 8, b""),
    "PostScript": b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a web page": b"<!DOCTYPE html>",
}  # fmt: skip
"""Of a file among good ones; each is left out."""

READABLE = {
    "grey": ("L", "PNG"), "palette": ("P", "PNG"), "16 bits": ("I;16", "PNG"), "RGBA": ("RGBA", "PNG"),
    "grey with transparency": ("LA", "PNG"), "one bit": ("1", "PNG"), "CMYK": ("CMYK", "JPEG"),
    "floats": ("F", "TIFF"), "Lab": ("LAB", "TIFF"),
}  # fmt: skip


def keep(folder: Path, count: int, of: str = "c3") -> None:
    for image in sorted((folder / of).iterdir())[count:]:
        image.unlink()


def spoil(folder: Path, share: float) -> None:
    images = sorted(folder.rglob("*.png"))
    for image in images[: round(share * len(images))]:
        image.write_bytes(b"spoilt")


def renamed(folder: Path, suffix: str) -> None:
    for image in sorted(folder.rglob("*.png")):
        image.rename(image.with_suffix(suffix))


def hidden(folder: Path) -> None:
    for image in sorted(folder.rglob("*.png")):
        image.rename(image.with_name(f".{image.name}"))


def flat(folder: Path) -> None:
    for number, image in enumerate(sorted(folder.rglob("*.png"))):
        image.rename(folder / f"{number}.png")
    for place in folder.glob("c*"):
        place.rmdir()


def deep(folder: Path) -> None:
    (folder / "x").mkdir()
    for place in folder.glob("c*"):
        place.rename(folder / "x" / place.name)


def only(folder: Path, count: int) -> None:
    for place in sorted(folder.glob("c*"))[count:]:
        for image in place.iterdir():
            image.unlink()
        place.rmdir()


FOLDERS = {
    "no class": (lambda f: only(f, 0), f"has 0 classes, at least 2 needed; must be {LAYOUT}"),
    "one class": (lambda f: only(f, 1), f"has 1 classes, at least 2 needed; must be {LAYOUT}"),
    "images without classes": (flat, f"has 0 classes, at least 2 needed; must be {LAYOUT}"),
    "classes a folder too deep": (deep, f"has 1 classes, at least 2 needed; must be {LAYOUT}"),
    "files of another kind": (lambda f: renamed(f, ".txt"), f"{FEW} c0 (0); c1 (0); c2 (0); ..."),
    "hidden files": (hidden, f"{FEW} c0 (0); c1 (0); c2 (0); ..."),
    "more than half spoilt": (lambda f: spoil(f, 0.6), "29 of 48 images cannot be read: c0/00.png (cannot"),
    "all spoilt": (lambda f: spoil(f, 1), "48 of 48 images cannot be read: c0/00.png (cannot"),
    "a class whose name is not UTF-8": (
        lambda f: (f / "c0").rename(f / os.fsdecode(b"\xff")),
        "class name '\\udcff' is not UTF-8",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """A working directory with a folder of good images; the cache lies elsewhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return write_tiny(Path("images"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_used(workspace, name):
    change, expected = FOLDERS[name]
    change(workspace)
    for command in (["data", "info"], ["run", "--method", "mtl", "--split", "50-50"]):
        assert refusal(*command, "--dataset", "folder:images").startswith(
            f"--dataset folder:images: {expected}"
        )


CLASS_LEFT_OUT = {
    "a class with one image": (lambda f: keep(f, 1), "c3 (1)"),
    "a class without images": (lambda f: keep(f, 0), "c3 (0)"),
    "a class that is all spoilt": (lambda f: spoil(f, 1 / CLASSES), "c0 (0)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASS_LEFT_OUT)
def test_one_bad_class_is_left_out_and_named(workspace, name):
    change, named = CLASS_LEFT_OUT[name]
    change(workspace)
    answer = bench("data", "info", "--dataset", "folder:images")
    assert answer.code == 0 and f"classes                                 {CLASSES - 1}\n" in answer.out
    assert f"left out 1 of {CLASSES} {FEW} {named}\n" in answer.err
    found = bench("data", "verify", "--dataset", "folder:images")
    assert found.code == 1 and f"class {named.split()[0]} has {named[4]} readable images" in found.out


@pytest.mark.parametrize("name", DAMAGED)
def test_one_image_among_many_is_left_out_and_named(workspace, name):
    (workspace / "c1" / "bad.png").write_bytes(DAMAGED[name])
    answer = bench("data", "info", "--dataset", "folder:images")
    assert answer.code == 0
    warning = answer.err.splitlines()[-1]
    total = CLASSES * EACH + 1
    assert warning.startswith(
        f"warning: folder:images: left out 1 of {total} images cannot be read: c1/bad.png ("
    )
    assert f"images                                  {CLASSES * EACH}\n" in answer.out
    found = bench("data", "verify", "--dataset", "folder:images")
    assert (
        found.code == 1 and found.out.startswith("folder:images: c1/bad.png (") and found.out.count("\n") == 1
    )


@pytest.mark.slow
def test_every_run_says_how_many_and_the_record_holds_it(workspace):
    write_images(Path("photos"), 8, 20)
    Path("photos", "class1", "bad.png").write_bytes(b"spoilt")
    Path("photos", "class7", "copy.png").write_bytes(Path("photos", "class7", "00.png").read_bytes())
    save_file(build("conv4").state_dict(), "weights.safetensors")
    command = ["run", "--method", "nearest_centroid", "--dataset", "folder:photos", "--split", "50-50"]
    command += ["--preset", "smoke", "--weights", "weights.safetensors", "--no-train", "--device", "cpu"]
    for _ in range(2):
        answer = bench(*command, "--overwrite")
        assert answer.code == 0, answer.err
        assert "warning: folder:photos: left out 1 of 162 images cannot be read: class1/bad.png" in answer.err
        assert "images    1 copies within a class\n" in answer.err
        record = store.read(Path(answer.out.splitlines()[-1]))
        assert record.left_out_images == record.classes.dropped_copies == 1
        assert record.pools["novel"]["class7"] == 20


@pytest.mark.slow
def test_small_classes_cost_no_one_else_a_measurement(workspace):
    """A novel class of 8 images and base classes of 14: episodes and pairs of the classes that are enough."""
    write_images(Path("photos"), 10, 40)
    for name, count in (("class9", 8), ("class0", 14), ("class1", 14), ("class2", 3)):
        keep(Path("photos"), count, name)
    save_file(build("conv4").state_dict(), "weights.safetensors")
    command = ["run", "--method", "nearest_centroid", "--dataset", "folder:photos", "--split", "30-70"]
    command += ["--preset", "smoke", "--weights", "weights.safetensors", "--no-train", "--device", "cpu"]
    answer = bench(*command)
    assert answer.code == 0, answer.err
    said = " ".join(answer.err.split())
    assert "5w1s of 1 novel class with fewer than 16 images: class9 (8)" in said
    assert "5w5s of 1 novel class with fewer than 20 images: class9 (8)" in said
    assert "pairs and triplets of 1 base classes (fewer than 2 test images)" in said
    record = store.read(Path(answer.out.splitlines()[-1]))
    assert {"fewshot/5w1s", "fewshot/5w5s", "fewshot/allw1s", "base/pair_accuracy"} <= record.metrics.keys()
    assert list(record.pools["base"]) == ["class0", "class1"] and record.pools["novel"]["class9"] == 8
    shown = {name for name, metrics in record.per_class.items() if "fewshot/5w1s" in metrics}
    assert shown == {f"class{number}" for number in range(3, 9)}
    assert bench("validate").code == 0


def test_many_are_counted_and_verify_names_each(workspace):
    for number, content in enumerate(DAMAGED.values()):
        (workspace / f"c{number % CLASSES}" / f"bad{number}.png").write_bytes(content)
    answer = bench("data", "info", "--dataset", "folder:images")
    many, total = len(DAMAGED), CLASSES * EACH + len(DAMAGED)
    assert f"left out {many} of {total} images cannot be read: " in answer.err and answer.code == 0
    found = bench("data", "verify", "--dataset", "folder:images").out.splitlines()
    assert {line.split()[1].split("/")[1] for line in found} == {f"bad{number}.png" for number in range(many)}


@pytest.mark.parametrize("kind", ["pipe", "dead link", "link to itself", "device"])
def test_special_files_are_not_waited_for(workspace, kind):
    path = workspace / "c1" / "bad.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"dead link": "nowhere", "link to itself": "bad.png", "device": "/dev/zero"}[kind])
    answer = bench("data", "info", "--dataset", "folder:images")
    assert answer.code == 0 and "left out 1 of 49 images cannot be read: c1/bad.png (" in answer.err
    assert kind not in ("pipe", "device") or "bad.png (not a regular file)" in answer.err


@pytest.mark.parametrize("name", READABLE)
def test_images_of_other_kinds_are_read(workspace, name):
    mode, kind = READABLE[name]
    (workspace / "c1" / f"other.{kind.lower()}").write_bytes(encoded(mode, kind))
    answer = bench("data", "info", "--dataset", "folder:images")
    assert answer.code == 0 and "warning" not in answer.err
    assert f"images                                  {CLASSES * EACH + 1}\n" in answer.out
