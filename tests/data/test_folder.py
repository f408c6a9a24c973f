"""Folders of images: layouts, formats, damage."""

import errno
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bench.common.errors import UserError
from bench.config import run_config
from bench.data import inspect, listing, photos, sources
from bench.data.images import ImageSet, pixel_digests
from bench.data.listing import default_split
from bench.data.pixels import formats, to_square
from bench.data.splits import resolve

SIZE = 8


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path) -> Path:
    return tmp_path / "pictures"


def random_pixels(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def fill(path: Path, count: int, first: int = 0, suffix: str = ".png") -> None:
    """`count` images of random pixels, seeds `first` and up."""
    path.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        Image.fromarray(random_pixels(seed)).save(path / f"{seed:03d}{suffix}")


def load(path: Path, size: int = SIZE) -> ImageSet:
    return sources.load(f"folder:{path}", image_size=size)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"--dataset folder:{path}: ")
    return str(caught.value)


def test_classes_are_the_folders_and_pixels_are_kept(pictures):
    fill(pictures / "b", 3, first=0)
    fill(pictures / "a", 2, first=10)
    data = load(pictures)
    assert (
        data.name == f"folder:{pictures}" and data.class_names == ("a", "b") and data.superclass == ("", "")
    )
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    expected = {random_pixels(seed).transpose(2, 0, 1).tobytes(): seed >= 10 for seed in (0, 1, 2, 10, 11)}
    found = {
        image.numpy().tobytes(): bool(label == 0)
        for image, label in zip(data.images, data.labels, strict=True)
    }
    assert found == expected


def test_another_size_gives_the_same_images_in_the_same_order(pictures):
    for number, name in enumerate("ab"):
        fill(pictures / name, 14, first=20 * number)
    shutil.copy(pictures / "a" / "000.png", pictures / "b" / "copy.png")
    small, large = load(pictures), load(pictures, 3 * SIZE)
    assert small.fingerprint == large.fingerprint and torch.equal(small.digests, large.digests)
    assert torch.equal(small.held_out, large.held_out) and torch.equal(small.labels, large.labels)
    for one, other in zip(small.images.float(), large.images.float(), strict=True):
        shrunk = F.interpolate(other[None], size=(SIZE, SIZE), mode="area")[0]
        assert torch.corrcoef(torch.stack([one.flatten(), shrunk.flatten()]))[0, 1] > 0.9


def test_lowest_digests_are_held_out(pictures):
    """A sixth, but four of 12 to 23 images, so that pairs can be drawn of both halves."""
    sizes = {2: 0, 5: 0, 6: 1, 11: 1, 12: 4, 13: 4, 24: 4, 30: 5}
    for count in sizes:
        fill(pictures / f"{count:02}", count, first=100 * count)
    data = load(pictures)
    for label, (count, held_out) in enumerate(sizes.items()):
        # The canonical order is by digest, so the lowest come first.
        expected = [True] * held_out + [False] * (count - held_out)
        assert data.held_out[data.labels == label].tolist() == expected
    assert data.chosen


def test_lowest_digests_by_hand():
    images = np.stack([random_pixels(seed) for seed in range(12)])
    labels = np.arange(12) % 2
    made = pixel_digests(images)
    chosen, digests = photos.lowest_digests(made, labels), [bytes(digest) for digest in made]
    for label in (0, 1):
        lowest = min(range(label, 12, 2), key=digests.__getitem__)
        assert np.flatnonzero(chosen & (labels == label)).tolist() == [lowest]


def seeds_of(images: torch.Tensor) -> set[int]:
    """The seeds of images of random pixels."""
    known = {random_pixels(seed).transpose(2, 0, 1).tobytes(): seed for seed in range(500)}
    return {known[image.numpy().tobytes()] for image in images}


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Valid", "Testing")])
def test_train_val_and_test_of_the_same_classes(pictures, names, capsys):
    """As ImageNet has them: validation images choose the threshold, test images are base-test images."""
    for first, name in enumerate(names):
        for second, own in enumerate("abcd"):
            fill(pictures / name / own, 4, first=100 * first + 10 * second)
    data = load(pictures)
    assert data.class_names == ("a", "b", "c", "d") and len(data) == 48 and data.part == ("",) * 4
    split = resolve(data, "50-50")
    parts = (split.train, split.validation_images, split.base_test)
    for first, part in enumerate(parts):
        assert seeds_of(data.images[part]) == {100 * first + c + i for c in (0, 10) for i in range(4)}
    assert len(split.novel_images) == 24 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["val", "test"])
def test_train_and_one_other_part_of_the_same_classes(pictures, name):
    for first, part in enumerate(("train", name)):
        fill(pictures / part / "a", 4, first=100 * first)
        fill(pictures / part / "b", 4, first=100 * first + 10)
    data = load(pictures)
    assert seeds_of(data.images[data.held_out]) == {100, 101, 102, 103, 110, 111, 112, 113}
    split = resolve(data, "100-0")
    assert len(split.train) == 8 and len(split.validation_images) == len(split.base_test) == 4


@pytest.mark.parametrize("place", ["test", "test/unknown", "val/images"])
def test_train_beside_unlabelled_test_images(pictures, capsys, place):
    """As in competitions: test images without classes are counted, and others are held out and said to be."""
    for first, own in enumerate("ab"):
        fill(pictures / "train" / own, 24, first=100 * first)
    fill(pictures / place, 4, first=300)
    data = load(pictures)
    assert data.class_names == ("a", "b") and data.held_out.sum() == 8
    said = capsys.readouterr().err
    unused = "; ".join(f"{place}/{number}.png" for number in (300, 301, 302))
    assert f"left out 4 files that do not belong to a class: {unused}; ..." in said
    assert "has no labelled test images, so some images of each class are held out" in said


def test_images_in_the_only_folder_of_their_class(pictures, capsys):
    """As Tiny ImageNet has them: train/<class>/images/."""
    for first, own in enumerate("ab"):
        fill(pictures / "train" / own / "images", 24, first=100 * first)
        (pictures / "train" / own / "boxes.txt").touch()
    data = load(pictures)
    assert data.class_names == ("a", "b") and len(data) == 48
    assert "left out 2 files that do not belong to a class: train/a/boxes.txt" in capsys.readouterr().err


def disjoint(pictures: Path, *names: str) -> None:
    for first, name in enumerate(names):
        for second in range(2):
            fill(pictures / name / f"{name}{second}", 6, first=100 * first + 10 * second)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("base", "validation", "novel")])
def test_parts_of_different_classes_are_base_validation_and_novel(pictures, names):
    """As few-shot data sets have them."""
    disjoint(pictures, *names)
    assert default_split(f"folder:{pictures}") == "own"
    data = load(pictures)
    split = resolve(data, "own")
    found = [[data.class_names[c] for c in part] for part in (split.base, split.validation, split.novel)]
    assert found == [[f"{name}0", f"{name}1"] for name in names]
    parts = (split.train, split.validation_images, split.novel_images)
    for first, part in enumerate(parts):
        assert seeds_of(data.images[part]) == {100 * first + c + i for c in (0, 10) for i in range(6)}
    assert not len(split.base_test)


def test_two_parts_of_different_classes_are_base_and_novel(pictures):
    disjoint(pictures, "train", "test")
    data = load(pictures)
    split = resolve(data, "own")
    assert [len(part) for part in (split.base, split.validation, split.novel)] == [2, 0, 2]
    # Without validation classes some base images are held out.
    assert len(split.train) == 10 and split.novel_images.tolist() == list(range(12))


def test_novel_classes_beside_test_images_of_base_classes(pictures):
    disjoint(pictures, "train", "test")
    for second in range(2):
        fill(pictures / "test" / f"train{second}", 4, first=300 + 10 * second)
    data = load(pictures)
    split = resolve(data, "own")
    assert seeds_of(data.images[split.train]) == {c + i for c in (0, 10) for i in range(6)}
    held_out = torch.cat([split.validation_images, split.base_test])
    assert seeds_of(data.images[held_out]) == {c + i for c in (300, 310) for i in range(4)}
    assert seeds_of(data.images[split.novel_images]) == {c + i for c in (100, 110) for i in range(6)}


def test_lists_of_files(pictures):
    """train.csv, val.csv and test.csv beside images, as for mini-ImageNet."""
    fill(pictures / "images", 24)
    for first, part in enumerate(("train", "val", "test")):
        lines = [f"{8 * first + i:03d}.png,{part}{i % 2}" for i in range(8)]
        (pictures / f"{part}.csv").write_text("\n".join(["filename,label", *lines]))
    assert default_split(f"folder:{pictures}") == "own"
    data = load(pictures)
    split = resolve(data, "own")
    assert [len(part) for part in (split.base, split.validation, split.novel)] == [2, 2, 2]
    assert seeds_of(data.images[split.novel_images]) == set(range(16, 24))


def test_own_split_of_a_folder_without_one(pictures):
    disjoint(pictures, "x")
    fill(pictures / "a", 3)
    fill(pictures / "b", 3, first=10)
    assert default_split(f"folder:{pictures}") == "90-10" == default_split("folder:nowhere")
    with pytest.raises(UserError, match="its train and test parts need at least 2 classes each"):
        resolve(load(pictures), "own")


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ({"backbone": "resnet18", "train": False}, "all-novel"),
        ({"backbone": "resnet18"}, "90-10"),
        ({"weights": "x", "train": False}, "90-10"),
        ({"backbone": "resnet18", "train": False, "split": "50-50"}, "50-50"),
        ({"backbone": "resnet18", "train": False, "measure": "5w1s,pairs"}, "90-10"),
    ],
)
def test_without_training_a_model_of_timm_is_tested_on_all_classes(given, split):
    config = run_config.resolve({"method": "nearest_centroid", "dataset": "folder:nowhere"} | given, {}, {})
    assert config.split == split


def test_classes_that_are_called_train_and_test(pictures):
    fill(pictures / "train", 2, first=0)
    fill(pictures / "test", 2, first=10)
    data = load(pictures)
    assert data.class_names == ("test", "train") and not data.held_out.any()


def test_files_that_are_not_used_are_counted_and_named(pictures, capsys):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
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


def test_what_systems_leave_behind_is_no_class(pictures, capsys):
    fill(pictures / "a", 4)
    fill(pictures / "b", 4, first=10)
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


def test_every_format_that_pillow_decodes_itself(pictures):
    endings = formats()
    assert {".png", ".jfif", ".tga", ".jp2", ".pgm", ".ico", ".qoi"} <= endings.keys()
    assert not {".eps", ".ps", ".mpg", ".h5", ".pdf", ".txt", ".csv"} & endings.keys()
    for name, first in (("a", 0), ("b", 10)):
        for suffix in (".tga", ".pgm", ".pcx", ".sgi", ".jfif"):
            fill(pictures / name, 1, first=first, suffix=suffix)
            first += 1
    assert len(load(pictures)) == 10


def test_links_to_folders_elsewhere(pictures, tmp_path):
    fill(tmp_path / "elsewhere" / "x", 2)
    fill(pictures / "b", 2, first=10)
    (pictures / "a").symlink_to(tmp_path / "elsewhere" / "x", target_is_directory=True)
    (tmp_path / "link").symlink_to(pictures, target_is_directory=True)
    assert load(tmp_path / "link").class_names == ("a", "b")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".PNG"])
def test_lossless_formats_give_the_same_set(tmp_path, suffix):
    for name, kind in (("one", ".png"), ("two", suffix)):
        fill(tmp_path / name / "a", 2, suffix=kind)
        fill(tmp_path / name / "b", 2, first=10, suffix=kind)
    assert load(tmp_path / "one").fingerprint == load(tmp_path / "two").fingerprint


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".gif", ".webp"])
def test_lossy_formats_come_close(tmp_path, suffix):
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    smooth = np.stack([rows * 20, columns * 20, rows + columns + 100], axis=-1).astype(np.uint8)
    options = {} if suffix == ".gif" else {"quality": 95}
    Image.fromarray(smooth).save(tmp_path / f"x{suffix}", **options)
    difference = to_square(lambda: tmp_path / f"x{suffix}", SIZE).transpose(1, 2, 0).astype(int) - smooth
    assert abs(difference).mean() < 12


def square_of(
    image: Image.Image, tmp_path: Path, name: str = "x.png", size: int = SIZE, **options
) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return to_square(lambda: tmp_path / name, size).transpose(1, 2, 0)


def test_grey_and_bilevel(tmp_path):
    grey = random_pixels(0)[..., 0]
    np.testing.assert_array_equal(square_of(Image.fromarray(grey), tmp_path), np.stack([grey] * 3, axis=-1))
    bits = square_of(Image.fromarray(grey > 127), tmp_path)
    np.testing.assert_array_equal(bits, np.stack([(grey > 127) * 255] * 3, axis=-1))


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_become_eight(tmp_path, name):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    deep[0, 0], deep[7, 7] = 0, 65535
    found = square_of(Image.fromarray(deep), tmp_path, name)
    np.testing.assert_array_equal(found, np.stack([deep >> 8] * 3, axis=-1))


def test_floats(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for scale in (1, 255):
        found = square_of(Image.fromarray(values * np.float32(scale)), tmp_path, "x.tif")
        assert abs(found[..., 0].astype(int) - values * 255).max() <= 1


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[4:, :, 3] = 255
    pixels[0, :, 3] = 51  # a fifth
    found = square_of(Image.fromarray(pixels), tmp_path)
    assert (found[1:4] == 255).all() and (found[4:] == [200, 0, 0]).all()
    assert (found[0] == [244, 204, 204]).all()
    palette = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8), 8).reshape(8, 8), "L").convert("P")
    found = square_of(palette, tmp_path, transparency=3)
    assert (found[3] == 255).all() and (found[4] != 255).any()


def test_a_white_pictogram_stays_visible(tmp_path):
    """It would vanish on white."""
    pixels = np.full((8, 8, 4), 255, dtype=np.uint8)
    pixels[:4, :, 3] = 0
    found = square_of(Image.fromarray(pixels), tmp_path)
    assert (found[:4] == 0).all() and (found[4:] == 255).all()


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow can read but not write."""
    height, width, channels = values.shape
    header = struct.pack(">II5B", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_deep(path: Path, kind: str, values: np.ndarray) -> None:
    """Grey `values` in a file with more than 8 bits."""
    if kind.startswith("PNG"):
        channels = int(kind[-1])
        stacked = np.repeat(values[..., None], channels, axis=2).astype(np.uint16)
        stacked[..., 3:] = 65535
        path.with_suffix(".png").write_bytes(png16(stacked))
    else:
        Image.fromarray(values.astype(kind)).save(path.with_suffix(".tif"))


UNSIGNED = [(0, 1), (0, 16), (3, 200)]
DEEP = [
    *((kind, *way) for kind in ("PNG 1", "PNG 3", "PNG 4", "uint16", "int32", "float32") for way in UNSIGNED),
    ("int32", -4e5, 3e3),
    ("float32", -4e5, 3e3),
    ("float32", 0, 1e-3),
]


@pytest.mark.parametrize(("kind", "offset", "scale"), DEEP)
def test_deep_images_are_scaled_by_the_range_of_all(pictures, capsys, kind, offset, scale):
    """8-bit values in a deeper file, sensors of 12 bits, heights, shares: each would be one colour."""
    levels = {}
    for name, first in (("a", 0), ("b", 10)):
        (pictures / name).mkdir(parents=True)
        for seed in range(first, first + 3):
            grey = random_pixels(seed)[..., 0] // 2 + (127 if name == "b" else 0)
            grey[0, 0] = {0: 0, 10: 254}.get(seed, grey[0, 0])  # the extremes are in two of the images
            write_deep(pictures / name / str(seed), kind, offset + scale * grey.astype(np.float64))
            levels[seed] = grey * 255.0 / 254
    data = load(pictures)
    nearest = [
        min(levels, key=lambda seed: abs(image - levels[seed]).max())
        for image in data.images.numpy().astype(float)
    ]
    assert sorted(nearest) == sorted(levels)
    for image, seed in zip(data.images.numpy().astype(float), nearest, strict=True):
        assert abs(image - levels[seed]).max() <= 1.01
    assert capsys.readouterr().err.startswith(f"note: folder:{pictures}: 6 images have more than 8 bits; ")


def test_numbers_that_are_none_in_a_deep_image(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1], values[0, 2], values[0, 3] = np.nan, np.inf, -np.inf
    found = square_of(Image.fromarray(values), tmp_path, "x.tif")[..., 0]
    assert found[0, :4].tolist() == [0, 0, 255, 0] and found[7, 7] == 255


def test_cmyk_jpeg(tmp_path):
    found = square_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path, "x.jpg", quality=95)
    assert abs(found.astype(int) - [255, 0, 0]).max() < 8


def test_orientation_in_exif_is_honoured(tmp_path):
    pixels = random_pixels(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the left
    found = square_of(Image.fromarray(pixels), tmp_path, exif=exif)
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    found = square_of(frames[0], tmp_path, "x.gif", save_all=True, append_images=frames[1:])
    assert (found == [255, 0, 0]).all()


def test_resizing_is_antialiased_and_crops_the_centre(tmp_path):
    pixels = random_pixels(0, size=64)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(square_of(Image.fromarray(pixels), tmp_path, size=32), expected)
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    wide = square_of(Image.fromarray(ramp), tmp_path, size=10)
    # The middle hundred columns, ten to a pixel.
    assert abs(wide[:, :, 0].astype(int) - (np.arange(50, 150).reshape(10, 10).mean(axis=1))).max() <= 1
    tall = square_of(Image.fromarray(ramp.transpose(1, 0, 2)), tmp_path, size=10)
    np.testing.assert_array_equal(tall, wide.transpose(1, 0, 2))


def test_small_images_are_enlarged_and_long_ones_cropped(tmp_path):
    assert (square_of(Image.new("RGB", (1, 1), "red"), tmp_path) == [255, 0, 0]).all()
    assert (square_of(Image.new("RGB", (20000, 2), "red"), tmp_path) == [255, 0, 0]).all()


def test_large_jpegs_look_like_fully_decoded_ones(tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((800, 600))
    found = square_of(smooth, tmp_path, "x.jpg", size=32, quality=95).astype(int)
    whole = (
        Image.open(tmp_path / "x.jpg").crop((100, 0, 700, 600)).resize((32, 32), Image.Resampling.BILINEAR)
    )
    assert abs(found - np.asarray(whole)).max() <= 6


def test_other_formats_are_not_opened_whatever_their_name(tmp_path):
    """PostScript would be handed to an outside program."""
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / "x.eps")
    shutil.move(tmp_path / "x.eps", tmp_path / "x.png")
    with pytest.raises(OSError):
        to_square(lambda: tmp_path / "x.png", SIZE)


def damage(path: Path) -> None:
    """Four kinds in the class folder `path`, which holds at least four PNGs."""
    files = sorted(path.glob("*.png"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_bytes(b"something else")
    files[3].unlink()
    files[3].symlink_to("nowhere")


def test_unreadable_images_are_left_out_and_named(pictures, capsys):
    fill(pictures / "a", 8)
    fill(pictures / "b", 2, first=10)
    damage(pictures / "a")
    data = load(pictures)
    assert torch.bincount(data.labels).tolist() == [4, 2]
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "left out 4 of 10 images" in message
    assert all(f"a/00{i}.png (" in message for i in range(3)) and "a/003.png" not in message
    assert data.left_out == 4 and len(data.notes) == 1
    # The cache serves the images now, and those that are not there are still counted.
    assert load(pictures).left_out == 4
    assert capsys.readouterr().err == message


def test_a_file_replaced_by_another_of_its_name_size_and_time(pictures):
    """As tools that copy and unpack make them: the old pixels are not served."""
    fill(pictures / "a", 2, suffix=".bmp")
    fill(pictures / "b", 2, first=10, suffix=".bmp")
    first = load(pictures)
    replaced, times = pictures / "a" / "000.bmp", (pictures / "a" / "000.bmp").stat()
    Image.fromarray(random_pixels(99)).save(pictures / "new.bmp")
    (pictures / "new.bmp").replace(replaced)
    os.utime(replaced, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert replaced.stat().st_size == times.st_size and replaced.stat().st_mtime_ns == times.st_mtime_ns
    second = load(pictures)
    assert second.fingerprint != first.fingerprint
    replaced.write_bytes((pictures / "a" / "001.bmp").read_bytes())  # the same inode, written in place
    os.utime(replaced, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(pictures).fingerprint not in (first.fingerprint, second.fingerprint)


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
    fill(pictures / "a", 8)
    fill(pictures / "b", 2, first=10)

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
    fill(pictures / "a", 8)
    fill(pictures / "b", 2, first=10)
    (pictures / "a" / "100.png").symlink_to("/proc/self/mem")  # nothing is mapped where it begins
    assert "a/100.png cannot be read (Input/output error)" in refused(pictures)


def test_no_memory_for_all_images(pictures, monkeypatch):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr(ImageSet, "build", fails)
    assert "out of memory; free some, or lower --image-size" in refused(pictures)


def test_mostly_unreadable_is_refused(pictures):
    fill(pictures / "a", 4)
    fill(pictures / "b", 2, first=10)
    damage(pictures / "a")
    assert "4 of 6 images cannot be read: a/000.png" in refused(pictures)


@pytest.mark.parametrize(
    "names",
    [
        ("Cat", "cat"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301"), ("\u00e9", "e\u0301"),
        ("cat", "cat "), ("cat", "ca\u200bt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("places", [("train", "test"), ("", "")])
def test_two_names_of_one_class_are_refused(pictures, names, places):
    """They would be two classes, of which one may be base and the other novel."""
    for first, (place, name) in enumerate(zip(places, names, strict=True)):
        fill(pictures / place / name, 2, first=10 * first)
        fill(pictures / place / "dog", 2, first=10 * first + 5)
    message = refused(pictures)
    assert all(ascii(name) in message or repr(name) in message for name in names)


def test_two_names_of_the_only_test_class_are_refused(pictures):
    for first, place in enumerate(("train/Cat", "train/dog", "test/cat")):
        fill(pictures / place, 2, first=10 * first)
    message = refused(pictures)
    assert "'Cat'" in message and "'cat'" in message


def test_characters_may_differ_in_case_alone(pictures):
    names = ("\u200b", "A", "a", "x2", "x\u00b2", "\ufeff")
    for first, name in enumerate(names):
        fill(pictures / name, 2, first=10 * first)
    assert load(pictures).class_names == tuple(sorted(names))


def test_one_folder_has_one_name(pictures, monkeypatch):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
    monkeypatch.chdir(pictures.parent)
    names = {sources.load(f"folder:{place}", image_size=SIZE).name for place in (
        "pictures", "pictures/", "./pictures", ".//pictures/."
    )}  # fmt: skip
    assert names == {"folder:pictures"}


def test_classes_without_enough_readable_images_are_left_out(pictures, capsys):
    fill(pictures / "a", 4)
    fill(pictures / "b", 9, first=10)
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


def test_wrong_paths_are_refused(pictures, tmp_path):
    assert "no such folder" in refused(pictures)
    pictures.mkdir()
    assert "has 0 classes" in refused(pictures)
    fill(pictures / "a", 3)
    assert "has 1 classes" in refused(pictures)
    (tmp_path / "file").touch()
    assert "a file" in refused(tmp_path / "file")


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_that_are_not_utf8(pictures):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
    strange = os.fsdecode(os.fsencode(pictures / "b") + b"/\xe9.png")
    Image.fromarray(random_pixels(20)).save(strange)
    assert len(load(pictures)) == 5
    (pictures / "b").rename(os.fsdecode(os.fsencode(pictures) + b"/\xe9"))
    assert "is not UTF-8" in refused(pictures)


def test_key_follows_files_place_and_size(pictures, tmp_path):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
    keys = {listing.scan(pictures).key(8), listing.scan(pictures).key(16)}
    os.utime(pictures / "a" / "000.png", ns=(1, 1))
    keys.add(listing.scan(pictures).key(8))
    fill(pictures / "b", 1, first=20)
    keys.add(listing.scan(pictures).key(8))
    shutil.copytree(pictures, tmp_path / "copy")
    keys.add(listing.scan(tmp_path / "copy").key(8))
    assert len(keys) == 5
    assert listing.scan(pictures).key(8) == listing.scan(pictures).key(8)


def test_reopening_does_not_decode(pictures, monkeypatch):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
    first = load(pictures)
    monkeypatch.setattr(photos, "to_square", None)
    assert load(pictures).fingerprint == first.fingerprint


def test_progress_ends_at_the_total(pictures):
    fill(pictures / "a", 30)
    fill(pictures / "b", 30, first=50)
    seen = []
    sources.load(f"folder:{pictures}", image_size=8, progress=lambda *step: seen.append(step))
    assert seen == [(f"decoding {pictures}", 32, 60), (f"decoding {pictures}", 60, 60)]


def test_default_size_is_32(pictures):
    fill(pictures / "a", 2)
    fill(pictures / "b", 2, first=10)
    assert sources.load(f"folder:{pictures}").images.shape == (4, 3, 32, 32)
