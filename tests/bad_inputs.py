"""What the tests of bad input share: a folder of very small images, and the one line that answers."""

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command_line import bench, files_in
from PIL import Image

CLASSES, EACH = 8, 6
TOO_LONG = "a" * 300
"""No file has so long a name."""

RUN = [
    "run", "--method", "siamese_triplet", "--dataset", "folder:images", "--preset", "smoke",
    "--device", "cpu",
]  # fmt: skip


def write_tiny(folder: Path, classes: int = CLASSES, each: int = EACH) -> Path:
    """Classes ``c0``, ``c1``, ... of images ``00.png``, ``01.png``, ... of 8 x 8 random pixels."""
    content = _pictures(classes * each)
    for number in range(classes):
        place = folder / f"c{number}"
        place.mkdir(parents=True)
        for image in range(each):
            (place / f"{image:02}.png").write_bytes(content[number * each + image])
    return folder


@contextmanager
def with_images(folder: Path) -> Iterator[None]:
    """The folder as working directory, with decoded images in ``images``."""
    write_tiny(folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        assert bench("data", "info", "--dataset", "folder:images").code == 0
        yield


@functools.cache
def _pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
        made.append(file.getvalue())
    return made


def refusal(*arguments: object) -> str:
    """As `complaint`, of commands that may have looked at images: they say so on a line of its own."""
    before = files_in(Path())
    answer = bench(*arguments)
    assert answer.code == 2 and answer.out == "", answer
    *looked_at, said = answer.err.splitlines()
    assert all(line.startswith(("decoding ", "reading ")) for line in looked_at), answer.err
    assert said.startswith("error: ") and answer.err.endswith("\n"), answer.err
    assert files_in(Path()) == before
    return said.removeprefix("error: ")
