"""CIFAR-100 in small, written to disk in the ways it is stored."""

import io
import json
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bench.data import cifar100

TRAIN, TEST = 20, 8


class Content:
    """A few labelled images in no particular order, the same however they are stored."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.images = rng.integers(0, 256, (TRAIN + TEST, 32, 32, 3), dtype=np.uint8)
        self.fine = rng.integers(0, 100, TRAIN + TEST)
        self.coarse = self.fine % 20
        self.parts = {"train": slice(0, TRAIN), "test": slice(TRAIN, TRAIN + TEST)}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(content: Content, chosen: slice, names: bool = True) -> pa.Table:
    blobs = [{"bytes": png(pixels), "path": None} for pixels in content.images[chosen]]
    columns = {"img": blobs, "fine_label": content.fine[chosen], "coarse_label": content.coarse[chosen]}
    made = pa.table(columns)
    if not names:
        return made
    features = {
        "img": {"_type": "Image"},
        "fine_label": {"names": cifar100.FINE_NAMES, "_type": "ClassLabel"},
        "coarse_label": {"names": cifar100.COARSE_NAMES, "_type": "ClassLabel"},
    }
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(root: Path, content: Content, shards: int = 2, names: bool = True) -> Path:
    folder = root / "cifar100"
    folder.mkdir(parents=True)
    write_shard(table(content, content.parts["test"], names), folder / "test-00000-of-00001.parquet")
    edges = np.linspace(0, TRAIN, shards + 1).astype(int)
    for i in range(shards):
        name = f"train-{i:05d}-of-{shards:05d}.parquet"
        write_shard(table(content, slice(edges[i], edges[i + 1]), names), folder / name)
    return root


def write_shard(rows: pa.Table, path: Path) -> None:
    pq.write_table(rows, path, compression="none", use_dictionary=False)  # as the published ones


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, whose only string type is bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_pickles(root: Path, content: Content, dump=python2_pickle) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, chosen in content.parts.items():
        images = content.images[chosen]
        value = {
            "filenames": [f"{part}_{i}.png" for i in range(len(images))],
            "batch_label": f"{part}ing batch 1 of 1",
            "fine_labels": content.fine[chosen].tolist(),
            "coarse_labels": content.coarse[chosen].tolist(),
            "data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072),
        }
        (folder / part).write_bytes(dump(value))
    names = {"fine_label_names": cifar100.FINE_NAMES, "coarse_label_names": cifar100.COARSE_NAMES}
    (folder / "meta").write_bytes(dump(names))
    return root
