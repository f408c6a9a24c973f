"""What `data info` and `data verify` find."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cifar100_files import TEST, TRAIN, Content, png, write_parquet, write_pickles
from PIL import Image

from bench.common.errors import UserError
from bench.data import cache, cifar100, glyphs, inspect, sources
from bench.data.images import ImageSet
from bench.data.inspect import remarks


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def published(monkeypatch) -> Content:
    """Four classes of five training and two test images, which `verify` takes for the published CIFAR-100."""
    content = Content()
    content.fine = np.arange(TRAIN + TEST) % 4
    content.coarse = content.fine.copy()
    monkeypatch.setattr(cifar100, "FINE_NAMES", cifar100.FINE_NAMES[:4])
    monkeypatch.setattr(cifar100, "IMAGES", {"train": TRAIN, "test": TEST})
    images = content.images.transpose(0, 3, 1, 2)
    prints = ImageSet.build("x", images, content.fine, content.fine > 9, cifar100.FINE_NAMES).fingerprint
    monkeypatch.setattr(cifar100, "FINGERPRINT", prints)
    return content


def of_colours(*colours: int) -> Image.Image:
    """Two halves, so that it is of no single colour."""
    made = Image.new("RGB", (9, 9), (*colours, 0))
    made.paste((*colours, 200), (0, 0, 4, 9))
    return made


def build(pixels: list[int], labels: list[int], held_out: list[int]) -> ImageSet:
    """One-colour images: equal numbers are equal pixels."""
    images = np.array(pixels, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 8, 8), dtype=np.uint8)
    return ImageSet.build("x", images, np.array(labels), np.array(held_out, dtype=bool), ["a", "b", "c"])


def test_duplicates_are_counted_by_kind():
    # pixel, class, held out: three in one class; two classes and both sides; all kinds; two alone
    rows = [
        (1, 0, 0),
        (1, 0, 0),
        (1, 0, 0),
        (2, 0, 0),
        (2, 1, 1),
        (3, 1, 0),
        (3, 1, 1),
        (3, 2, 0),
        (4, 2, 1),
        (5, 2, 0),
    ]
    data = build(*(list(column) for column in zip(*rows, strict=True)))
    assert inspect.duplicates(data) == {
        "within_class": {"groups": 2, "images": 5},
        "across_classes": {"groups": 2, "images": 5},
        "train_and_held_out": {"groups": 2, "images": 5},
    }


def test_no_duplicates():
    found = inspect.duplicates(build([1, 2, 3], [0, 1, 2], [0, 1, 0]))
    assert set(found) == {"within_class", "across_classes", "train_and_held_out"}
    assert all(kind == {"groups": 0, "images": 0} for kind in found.values())


def test_duplicates_against_a_slow_count():
    rng = np.random.default_rng(0)
    pixels, labels, held_out = rng.integers(0, 40, 120), rng.integers(0, 3, 120), rng.integers(0, 2, 120)
    groups: dict[int, list[tuple[int, int]]] = {}
    for pixel, label, side in zip(pixels.tolist(), labels.tolist(), held_out.tolist(), strict=True):
        groups.setdefault(pixel, []).append((label, side))
    classes = [[sum(label == c for label, _ in group) for c in range(3)] for group in groups.values()]
    across = [group for group in groups.values() if len({label for label, _ in group}) > 1]
    sides = [group for group in groups.values() if len({side for _, side in group}) > 1]
    within = [count for counts in classes for count in counts if count > 1]
    assert inspect.duplicates(build(pixels.tolist(), labels.tolist(), held_out.tolist())) == {
        "within_class": {"groups": len(within), "images": sum(within)},
        "across_classes": {"groups": len(across), "images": sum(map(len, across))},
        "train_and_held_out": {"groups": len(sides), "images": sum(map(len, sides))},
    }


def test_info_of_cifar100(tmp_path):
    content = Content()
    content.images[1] = content.images[0]
    content.fine[1] = content.fine[0]
    content.coarse[1] = content.coarse[0]
    found = inspect.info("cifar100", write_parquet(tmp_path, content))
    counts = np.bincount(content.fine, minlength=100)
    data = sources.load("cifar100", tmp_path)
    assert found == {
        "name": "cifar100",
        "where": str(tmp_path / "cifar100"),
        "cache_file": found["cache_file"],
        "images": TRAIN + TEST,
        "held_out": TEST,
        "classes": 100,
        "superclasses": len(set(content.coarse.tolist())),
        "image_shape": [3, 32, 32],
        "images_per_class": {"min": int(counts.min()), "max": int(counts.max())},
        "left_out": 0,
        "left_out_classes": 0,
        "one_colour": 0,
        "fingerprint": data.fingerprint,
        "duplicates": {**inspect.duplicates(data), "within_class": {"groups": 1, "images": 2}},
    }
    assert Path(found["cache_file"]).is_file()


def test_info_of_a_folder(tmp_path):
    for name, count in (("a", 6), ("b", 2)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (9, 9), (i, 7 * count, 0)).save(tmp_path / "own" / name / f"{i}.png")
    found = inspect.info(f"folder:{tmp_path / 'own'}", image_size=16)
    assert (found["images"], found["held_out"], found["classes"], found["superclasses"]) == (8, 1, 2, 0)
    assert found["image_shape"] == [3, 16, 16] and found["where"] == str(tmp_path / "own")


# verify: CIFAR-100


@pytest.mark.parametrize("write", [write_parquet, write_pickles])
def test_sound_set_has_no_problems_before_and_after_caching(tmp_path, published, write, capsys):
    write(tmp_path, published)
    assert inspect.verify("cifar100", tmp_path) == []
    sources.load("cifar100", tmp_path)
    assert inspect.verify("cifar100", tmp_path) == []
    assert capsys.readouterr().err == ""


def test_wrong_counts(tmp_path):
    content = Content()
    content.fine[:] = 1
    assert inspect.verify("cifar100", write_parquet(tmp_path, content)) == [
        f"{TRAIN} readable train images, not 50000",
        f"100 classes do not have 500 readable train images: apple 0, aquarium_fish {TRAIN}, baby 0, ...",
        f"{TEST} readable test images, not 10000",
        f"100 classes do not have 100 readable test images: apple 0, aquarium_fish {TEST}, baby 0, ...",
    ]


def test_wrong_counts_of_single_classes(tmp_path, published):
    published.fine[0] = published.coarse[0] = 1
    assert inspect.verify("cifar100", write_parquet(tmp_path, published)) == [
        "2 classes do not have 5 readable train images: apple 4, aquarium_fish 6"
    ]


def test_other_pixels_are_noticed(tmp_path, published, capsys):
    published.images[0] += 1
    lines = inspect.verify("cifar100", write_parquet(tmp_path, published))
    assert lines == ["some pixels or labels differ from the published CIFAR-100"]
    sources.load("cifar100", tmp_path)
    assert "is not the published cifar100" in capsys.readouterr().err


def flip(path: Path, position: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])


def test_all_damage_is_named_not_only_the_first(tmp_path, published):
    folder = write_parquet(tmp_path, published, shards=4) / "cifar100"
    sound, cut, gone, _ = sorted(folder.glob("train-*"))
    for row in (1, 3):
        flip(sound, sound.read_bytes().index(png(published.images[row])) + 500)
    cut.write_bytes(cut.read_bytes()[:1000])
    gone.unlink()
    test = folder / "test-00000-of-00001.parquet"
    flip(test, test.read_bytes().index(png(published.images[TRAIN + 5])) + 60)
    lines = inspect.verify("cifar100", tmp_path)
    starts = [f"{gone} is missing", f"{sound}: row 1: ", f"{sound}: row 3: ", f"{cut} cannot be"]
    starts += [f"{test}: row 5: "]
    starts += ["8 readable train images, not 20", "4 classes do not have 5 readable train images: "]
    starts += [
        "7 readable test images, not 8",
        "1 classes do not have 2 readable test images: aquarium_fish 1",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_damaged_pickles_are_named(tmp_path, published):
    folder = write_pickles(tmp_path, published) / "cifar-100-python"
    for name in ("train", "test"):
        (folder / name).write_bytes((folder / name).read_bytes()[:5000])
    lines = inspect.verify("cifar100", tmp_path)
    assert [line for line in lines if line.startswith(f"{folder / 'train'} cannot be read: ")]
    assert [line for line in lines if line.startswith(f"{folder / 'test'} cannot be read: ")]
    (folder / "meta").unlink()
    assert inspect.verify("cifar100", tmp_path)[0] == f"{folder / 'meta'} is missing"


def test_cached_copy_is_compared(tmp_path, published):
    write_parquet(tmp_path, published)
    sources.load("cifar100", tmp_path)
    [path] = (tmp_path / "cache").glob("*.safetensors")
    flip(path, path.stat().st_size - 1000)
    [line] = inspect.verify("cifar100", tmp_path)
    assert line == f"{path}: its checksum does not match (the next run rebuilds it)"
    # A sound file that holds something else.
    images = published.images.transpose(0, 3, 1, 2).copy()
    images[3] += 1
    path.unlink()
    other = ImageSet.build("cifar100", images, published.fine, published.fine > 9, cifar100.FINE_NAMES)
    cache.open_or_build(cifar100.find(tmp_path).key, lambda: other)
    assert path.is_file()
    [line] = inspect.verify("cifar100", tmp_path)
    assert line.startswith(f"{path}: differs from the original images in images, ") and "fingerprint" in line


def test_absent_cifar100_is_an_error(tmp_path):
    with pytest.raises(UserError, match="not found"):
        inspect.verify("cifar100", tmp_path, offline=True)


# verify: the others


def test_unreadable_files_of_a_folder_are_all_named(tmp_path):
    own = tmp_path / "own"
    for name in ("a", "b"):
        (own / name).mkdir(parents=True)
        for i in range(8):
            of_colours(i, ord(name)).save(own / name / f"{i}.png")
    dataset = f"folder:{own}"
    assert inspect.verify(dataset) == []
    for i in range(4):
        (own / "b" / f"{i}.png").write_bytes(b"")
    lines = inspect.verify(dataset)
    assert [line.split(" (")[0] for line in lines] == [f"{dataset}: b/{i}.png" for i in range(4)]
    for i in range(4, 8):
        (own / "b" / f"{i}.png").write_bytes(b"")
    lines = inspect.verify(dataset)
    assert len(lines) == 10
    assert lines[8:] == [
        f"{dataset}: class b has 0 readable images, at least 2 needed",
        f"--dataset {dataset}: classes with fewer than 2 readable images: b (0)",
    ]


def test_images_that_show_nothing_and_copies_are_named(tmp_path, capsys):
    own = tmp_path / "own"
    for number, name in enumerate(("a", "b")):
        (own / name).mkdir(parents=True)
        for i in range(6):
            of_colours(i, number).save(own / name / f"{i}.png")
    dataset = f"folder:{own}"
    assert remarks(sources.load(dataset)) == "" and inspect.info(dataset)["one_colour"] == 0
    Image.new("RGB", (9, 9), "red").save(own / "a" / "red.png")
    shutil.copy(own / "a" / "1.png", own / "a" / "again.png")
    shutil.copy(own / "a" / "2.png", own / "b" / "other.png")
    assert inspect.verify(dataset) == [
        f"{dataset}: a/again.png has the pixels of a/1.png",
        f"{dataset}: a/red.png has a single colour",
        f"{dataset}: b/other.png has the pixels of a/2.png, of another class",
    ]
    found = "1 images of one colour, 2 images shared by classes, 1 copies within a class"
    assert remarks(sources.load(dataset)) == found == remarks(sources.load(dataset))  # cached too
    facts = inspect.info(dataset)
    assert facts["one_colour"] == 1 and facts["duplicates"]["within_class"] == {"groups": 1, "images": 2}


def test_cached_glyphs_are_compared_with_new_ones(monkeypatch):
    sets = [build([1, 2, 3], [0, 1, 2], [0, 0, 1]), build([1, 2, 4], [0, 1, 2], [0, 0, 1])]
    monkeypatch.setattr(glyphs, "generate", lambda progress: sets[0])
    sources.load("glyphs")
    assert inspect.verify("glyphs") == []
    monkeypatch.setattr(glyphs, "generate", lambda progress: sets[1])
    [line] = inspect.verify("glyphs")
    assert line.endswith("differs from the original images in images, digests, drawn_by, fingerprint")


def test_image_size_is_refused_as_in_load(tmp_path):
    with pytest.raises(UserError, match="--image-size"):
        inspect.verify("cifar100", write_parquet(tmp_path, Content()), image_size=32)
