"""mini-ImageNet from learn2learn's files: read without running them, damaged, absent, downloaded."""

import pickle
from functools import partial

import numpy as np
import pytest
from cifar100_files import python2_pickle
from command_line import bench
from published_files import MINI_CLASSES, MINI_EACH, mini_part, refused, write_mini

from bench.common.errors import UserError
from bench.data import inspect, mini_imagenet, sources
from bench.data.images import ImageSet
from bench.data.splits import resolve

pytestmark = pytest.mark.usefixtures("isolated")

PARTS = {"train": "base", "validation": "validation", "test": "novel"}
IMAGES = MINI_EACH * sum(map(len, MINI_CLASSES.values()))


load = partial(sources.load, "mini-imagenet")


def described(data: ImageSet) -> list[tuple[bytes, str, str]]:
    """Pixels, class and part of each image, in no order."""
    rows = zip(data.images, data.labels.tolist(), strict=True)
    return sorted((image.numpy().tobytes(), data.class_names[c], data.part[c]) for image, c in rows)


def expected() -> list[tuple[bytes, str, str]]:
    return sorted(
        (images[i].transpose(2, 0, 1).tobytes(), name, PARTS[mode])
        for mode in MINI_CLASSES
        for images, classes in [mini_part(mode)]
        for name, indices in classes.items()
        for i in indices
    )


def dump_arrays(value: dict) -> bytes:
    classes = {name: np.array(index) for name, index in value["class_dict"].items()}
    return pickle.dumps({**value, "class_dict": classes}, 4)


def dump_numpy_integers(value: dict) -> bytes:
    classes = {name: list(np.array(index)) for name, index in value["class_dict"].items()}
    return pickle.dumps({**value, "class_dict": classes}, 2)


@pytest.mark.parametrize(
    "dump",
    [
        *(partial(pickle.dumps, protocol=p) for p in range(6)),
        python2_pickle,
        dump_arrays,
        dump_numpy_integers,
    ],
)
def test_every_image_is_there_under_its_class_and_part(tmp_path, dump):
    data = load(write_mini(tmp_path, dump))
    assert described(data) == expected()
    assert data.name == "mini-imagenet" and data.images.shape == (IMAGES, 3, 84, 84)
    assert data.held_out.sum() == len(data.class_names) * (MINI_EACH // 6)


def test_learn2learn_reads_the_same_images_and_labels_from_the_same_files(tmp_path):
    from learn2learn.vision.datasets import MiniImagenet

    write_mini(tmp_path)
    theirs = []
    for mode, part in PARTS.items():
        dataset = MiniImagenet(str(tmp_path), mode)
        names = {label: name for name, label in dataset.class_idx.items()}
        theirs += [(image.byte().numpy().tobytes(), names[label], part) for image, label in dataset]
    assert described(load(tmp_path)) == sorted(theirs)


def test_the_files_are_the_split(tmp_path):
    data = load(write_mini(tmp_path))
    split = resolve(data, "mini-imagenet")
    for mode, part in PARTS.items():
        assert [data.class_names[c] for c in getattr(split, part)] == sorted(MINI_CLASSES[mode])
    sizes = [
        len(index) for index in (split.train, split.validation_images, split.base_test, split.novel_images)
    ]
    assert sizes == [3 * MINI_EACH, 2 * MINI_EACH, 0, 2 * MINI_EACH]


def test_ratio_splits_go_by_name_whatever_the_file(tmp_path):
    split = resolve(load(write_mini(tmp_path)), "60-40")
    assert (split.base, split.validation, split.novel) == ((0, 1, 2, 3), (), (4, 5, 6))


def test_the_split_is_of_this_data_set_alone(tmp_path):
    data = load(write_mini(tmp_path))
    with pytest.raises(
        UserError, match=r"^--split omniglot: can only be used with --dataset omniglot, not with mini-"
    ):
        resolve(data, "omniglot")
    with pytest.raises(UserError, match=r"^--split fc100: needs 100 classes in 20 superclasses"):
        resolve(data, "fc100")


def test_progress_of_each_file(tmp_path):
    seen = []
    load(write_mini(tmp_path), progress=lambda *step: seen.append(step))
    assert seen == [("reading mini-imagenet", done, 3) for done in (1, 2, 3)]


# Damage


def test_truncated_files_are_all_named(tmp_path):
    write_mini(tmp_path)
    paths = [tmp_path / f"mini-imagenet-cache-{mode}.pkl" for mode in ("train", "test")]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1000])
    assert refused("mini-imagenet", tmp_path).startswith(
        f"--dataset mini-imagenet: {paths[0]} cannot be read: "
    )
    assert "(and 1 more: `data verify` lists all)" in refused("mini-imagenet", tmp_path)
    lines = inspect.verify("mini-imagenet", tmp_path)
    assert [line.split(" cannot be read: ")[0] for line in lines] == [str(path) for path in paths]
    answer = bench("data", "verify", "--dataset", "mini-imagenet", "--data-root", tmp_path)
    assert answer.code == 1 and answer.out.splitlines() == lines


# verify and info


def test_other_counts_than_the_published_are_said(tmp_path, capsys):
    load(write_mini(tmp_path))
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {tmp_path} is not the published mini-imagenet")
    assert inspect.verify("mini-imagenet", tmp_path) == [
        "3 base classes, not 64",
        "3 base classes do not have 600 images: n01 6, n03 6, n07 6",
        "2 validation classes, not 16",
        "2 validation classes do not have 600 images: n02 6, n05 6",
        "2 novel classes, not 20",
        "2 novel classes do not have 600 images: n04 6, n06 6",
    ]


@pytest.fixture
def as_published(monkeypatch) -> None:
    published = {PARTS[mode]: (len(names), MINI_EACH) for mode, names in MINI_CLASSES.items()}
    monkeypatch.setattr(mini_imagenet, "MINI_IMAGENET", published)


def test_a_whole_set_has_no_problems_before_and_after_caching(tmp_path, as_published, capsys):
    write_mini(tmp_path)
    assert inspect.verify("mini-imagenet", tmp_path) == []
    load(tmp_path)
    assert inspect.verify("mini-imagenet", tmp_path) == []
    assert capsys.readouterr().err == ""


def test_cached_copy_is_compared(tmp_path, as_published):
    write_mini(tmp_path / "root")
    load(tmp_path / "root")
    [path] = (tmp_path / "cache").glob("*.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:])
    assert inspect.verify("mini-imagenet", tmp_path / "root") == [
        f"{path}: its checksum does not match (the next run rebuilds it)"
    ]


def test_info(tmp_path):
    found = inspect.info("mini-imagenet", write_mini(tmp_path))
    assert (found["images"], found["classes"], found["superclasses"]) == (IMAGES, 7, 0)
    assert found["image_shape"] == [3, 84, 84] and found["where"] == str(tmp_path)
    assert found["images_per_class"] == {"min": MINI_EACH, "max": MINI_EACH}


# Download


@pytest.fixture
def published(tmp_path, serve, monkeypatch):
    """The folder of a server of this machine that stands for learn2learn's record."""
    folder = write_mini(tmp_path / "served" / "files")
    monkeypatch.setattr(mini_imagenet, "RECORD", serve(tmp_path / "served"))
    return folder


def test_download_into_the_root(tmp_path, published, capsys):
    root = tmp_path / "new" / "root"
    assert described(load(root)) == expected()
    assert {path.name for path in root.iterdir()} == {f"mini-imagenet-cache-{mode}.pkl" for mode in PARTS}
    message = capsys.readouterr().err
    assert "downloading mini-ImageNet's train part (813 MB) from http://127.0.0.1:" in message
    assert "B/s" in message  # torchvision's bar


def test_only_what_is_missing_is_downloaded(tmp_path, published):
    root = write_mini(tmp_path / "root")
    (root / "mini-imagenet-cache-test.pkl").unlink()
    for mode in ("train", "validation"):
        (published / f"mini-imagenet-cache-{mode}.pkl").unlink()
    assert described(load(root)) == expected()


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html></html>", b"", pickle.dumps(list(range(99)))[:-9]]
)
def test_an_incomplete_pickle_is_not_kept(tmp_path, published, content):
    (published / "mini-imagenet-cache-train.pkl").write_bytes(content)
    assert "train.pkl: the download is not a complete pickle" in refused(
        "mini-imagenet", tmp_path / "new" / "root"
    )
    assert not (tmp_path / "new").exists()
