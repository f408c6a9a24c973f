"""Split files that are pipes or devices are refused; images of more than 8 bits keep their contrast."""

import os
import sys

import numpy as np
import pytest
from command_line import bench
from PIL import Image

from bench.common.errors import UserError
from bench.data import inspect
from bench.data.folder import read
from bench.data.listing import scan
from bench.data.photos import image_set
from bench.data.splits import resolve


@pytest.mark.skipif(sys.platform == "win32", reason="has neither")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_split_file_must_be_a_regular_file(tiny, tmp_path, kind):
    path = tmp_path / "split.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"split\.csv: cannot be read as UTF-8 text: not a regular file$"):
        resolve(tiny, str(path))
    answer = bench("run", "--method", "protonet", "--dataset", "glyphs", "--split", str(path))
    assert answer.code == 2 and "must be a CSV file" in answer.err


def test_outliers_that_flatten_all_other_values_are_said(tmp_path):
    """A hot pixel of a sensor."""
    rng = np.random.default_rng(0)
    values = rng.random((6, 8, 8)).astype(np.float32)
    for hot in (False, True):
        values[:, 0, 0] = 1e6 if hot else 1
        for i, grey in enumerate(values):
            place = tmp_path / f"hot {hot}" / f"c{i % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(place / f"{i}.tiff")
        folder = tmp_path / f"hot {hot}"
        data = image_set(read(scan(folder), 8))
        said = "6 of 6 images have nearly one colour after scaling to 8 bits"
        assert any(said in note for note in data.notes) == hot
        assert any(said in line for line in inspect.verify(f"folder:{folder}", image_size=8)) == hot


def test_thin_strokes_on_white_are_not_taken_for_outliers(tmp_path):
    for i in range(4):
        paper = np.full((32, 32), 65535, np.uint16)
        paper[4:28, 8 + i] = 0  # 2.3% of the pixels
        place = tmp_path / "thin" / f"c{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paper).save(place / f"{i}.png")
    assert inspect.verify(f"folder:{tmp_path / 'thin'}", image_size=32) == []


def test_floating_point_and_whole_numbers_have_their_own_range(tmp_path):
    """One folder with values of 0 to 1, of 0 to 4,000, and an image of NaN: none becomes one colour."""
    rng = np.random.default_rng(0)
    for c in range(2):
        place = tmp_path / "deep" / f"c{c}"
        place.mkdir(parents=True)
        grey = rng.random((8, 8)) * 0.5 + 0.5
        Image.fromarray(grey.astype(np.float32)).save(place / "float.tiff")
        Image.fromarray((grey * 4000).astype(np.uint16)).save(place / "whole.png")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "deep" / "c0" / "nan.tiff")
    found = read(scan(tmp_path / "deep"), 8)
    spread = {found.name_of(i): int(np.ptp(image)) for i, image in enumerate(found.images)}
    assert not found.unreadable and spread.pop("c0/nan.tiff") == 0
    assert all(own > 150 for own in spread.values()), spread
