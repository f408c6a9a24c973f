"""mini-ImageNet, Omniglot and MNIST in small, written to disk as learn2learn and torchvision store them."""

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.common.errors import UserError
from bench.data import sources

MINI_CLASSES = {
    "train": ["n03", "n01", "n07"],
    "validation": ["n02", "n05"],
    "test": ["n06", "n04"],
}
MINI_EACH = 6

ALPHABETS = {
    "images_background": {"Greek": 3, "Latin": 2, "Tagalog": 2},
    "images_evaluation": {"Avesta": 2, "ULOG": 3},
}
DRAWINGS = 20

MNIST_IMAGES = {"train": 40, "t10k": 20}


def refused(*arguments, **options) -> str:
    """The one line with which `sources.load` refuses."""
    with pytest.raises(UserError) as caught:
        sources.load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mini_part(mode: str) -> tuple[np.ndarray, dict[str, list[int]]]:
    """Images uint8 ``[N, 84, 84, 3]`` and class -> indices, the classes' images mixed with each other."""
    names = MINI_CLASSES[mode]
    rng = np.random.default_rng(len(mode))
    owner = rng.permutation(np.repeat(names, MINI_EACH))
    images = rng.integers(0, 256, (len(owner), 84, 84, 3), dtype=np.uint8)
    return images, {name: np.flatnonzero(owner == name).tolist() for name in names}


def write_mini(root: Path, dump=pickle.dumps) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for mode in MINI_CLASSES:
        images, classes = mini_part(mode)
        content = dump({"image_data": images, "class_dict": classes})
        (root / f"mini-imagenet-cache-{mode}.pkl").write_bytes(content)
    return root


def drawing(rng: np.random.Generator) -> Image.Image:
    """Black strokes on white, one bit a pixel, as Omniglot's are."""
    image = Image.new("1", (105, 105), 1)
    points = [tuple(point) for point in rng.integers(5, 100, (5, 2)).tolist()]
    ImageDraw.Draw(image).line(points, fill=0, width=3)
    return image


def write_omniglot(root: Path) -> Path:
    for name, content in _drawings().items():
        path = root / "omniglot-py" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@cache
def _drawings() -> dict[str, bytes]:
    """Relative path -> PNG."""
    rng, made = np.random.default_rng(0), {}
    for part, alphabets in ALPHABETS.items():
        number = 0
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                number += 1
                for drawer in range(1, DRAWINGS + 1):
                    file = io.BytesIO()
                    drawing(rng).save(file, "PNG")
                    name = f"{part}/{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png"
                    made[name] = file.getvalue()
    return made


def zip_omniglot(root: Path, folder: Path) -> dict[str, str]:
    """torchvision's two archives of what `write_omniglot` wrote into `root`, and their MD5 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for part in ALPHABETS:
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for path in sorted((root / "omniglot-py" / part).rglob("*.png")):
                archive.write(path, path.relative_to(root / "omniglot-py"))
        sums[part] = md5(folder / f"{part}.zip")
    return sums


def digits(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 28, 28]`` and labels uint8 ``[N]``, all ten digits among them."""
    count = MNIST_IMAGES[part]
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, rng.permutation(np.arange(count) % 10).astype(np.uint8)


def idx(values: np.ndarray) -> bytes:
    """The format of LeCun's files: type and number of axes, sizes, then the bytes."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_mnist(root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in MNIST_IMAGES:
        images, labels = digits(part)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return root


def gzip_mnist(root: Path, folder: Path) -> list[tuple[str, str]]:
    """torchvision's four archives of what `write_mnist` wrote into `root`: names and MD5 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for path in sorted((root / "MNIST" / "raw").glob("*-ubyte")):
        packed = folder / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        sums.append((packed.name, md5(packed)))
    return sums


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
