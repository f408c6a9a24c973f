"""Settings of a run that change its training or its classes: --augment and --novel-dataset."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from command_line import bench, complaint, write_images

from bench.common.errors import UserError
from bench.config.run_config import resolve as configured
from bench.data import sources
from bench.data.images import ImageSet
from bench.data.joined import joined
from bench.data.splits import resolve
from bench.records import identity, store
from bench.run.preparation import Options, prepare

pytestmark = pytest.mark.slow
RUN = [
    "run", "--method", "protonet", "--dataset", "folder:images", "--split", "50-50", "--steps", "6",
    "--preset", "smoke", "--backbone", "conv4", "--image-size", "16", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("settings")
    write_images(made / "images", 12, 40)
    write_images(made / "others", 6, 30, tint=5)
    return made


@pytest.fixture(autouse=True)
def workspace(folder, monkeypatch, unquestioned):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FEWSHOT_CACHE", str(folder / "cache"))


def made(*flags: str) -> store.Record:
    answer = bench(*RUN, *flags)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


def test_augmentation_is_part_of_the_configuration_and_recorded():
    usual, none = made(), made("--augment", "none")
    assert usual.model != none.model  # trained on other images
    given = {"method": "protonet", "preset": "smoke", "dataset": "folder:images", "split": "50-50"}
    given |= {"image_size": 16, "augment": ["jitter", "crop"]}
    options = Options(Path("results"), Path("runs"), "", device="cpu")
    other = prepare(configured(given, {}, {"steps": "6"}), options)
    more = usual.model_copy(update={"config": other.config.model_dump(), "run_id": other.run_id})
    assert [record.config["augment"] for record in (usual, none, more)] == [None, [], ["crop", "jitter"]]
    assert len({record.run_id for record in (usual, none, more)}) == 3
    assert len({identity.configuration(record) for record in (usual, none, more)}) == 3
    names = [identity.name_of(record) for record in (usual, none, more)]
    assert "augment" not in names[0] and "augment=none" in names[1] and "augment=crop,jitter" in names[2]
    assert "is already recorded" in bench(*RUN, "--augment", "flip,crop").err  # the usual ones
    again = bench("run", "--config", f"runs/{none.run_id}/config.yaml", "--device", "cpu")
    assert "is already recorded" in again.err
    assert bench("validate").code == bench("leaderboard").code == 0


@pytest.mark.parametrize("names", ["zoom", "crop,none"])
def test_unknown_augmentations(names):
    said = complaint(*RUN, "--augment", names)
    assert said.endswith("allowed: crop, flip, jitter, or none alone")


def test_novel_classes_of_another_data_set():
    record = made("--novel-dataset", "folder:others", "--split", "100-0")
    assert record.dataset == "folder:images -> folder:others"
    assert (record.classes.base, record.classes.novel) == (12, 6)
    assert list(record.pools["novel"]) == [f"class{number} (folder:others)" for number in range(6)]
    assert {"fewshot/5w1s", "base/pair_accuracy", "novel/triplet_accuracy"} <= record.metrics.keys()
    again = bench("run", "--config", f"runs/{record.run_id}/config.yaml", "--device", "cpu")
    assert "is already recorded" in again.err
    assert "is already recorded" in bench(*RUN, "--novel-dataset", "folder:./others/", "--split", "100-0").err
    assert bench("validate").code == bench("leaderboard").code == 0
    assert "folder:images -> folder:others" in bench("show", record.run_id).out


@pytest.mark.parametrize("size", [16, 32])
def test_joined_sets_keep_every_image_and_the_base_side_of_the_split(folder, size):
    one, other = (sources.load(f"folder:{name}", image_size=size) for name in ("images", "others"))
    both = joined(one, other)
    assert both.drawn_by == sources.load("folder:images -> folder:others").drawn_by
    assert len(both) == len(one) + len(other)
    assert both.notes == (
        "folder:others and folder:images have classes of the same name: class0; class1; class2; ...",
    )
    alone, split = resolve(one, "50-50"), resolve(both, "50-50")
    for part in ("train", "validation_images", "base_test"):
        mine, theirs = both.images[getattr(split, part)], one.images[getattr(alone, part)]
        assert mine.equal(theirs)
    assert both.images[split.novel_images].equal(other.images)


def test_a_data_set_is_not_novel_to_itself(folder):
    one = sources.load("folder:images")
    with pytest.raises(UserError, match=r"^--novel-dataset again: has the images of --dataset folder:images"):
        joined(one, dataclasses.replace(one, name="again"))


def test_images_of_two_sizes_are_refused():
    small = ImageSet.build(
        "small", np.zeros((4, 3, 8, 8), dtype=np.uint8), np.arange(4) % 2, np.zeros(4, dtype=bool), ["a", "b"]
    )
    with pytest.raises(UserError, match="--novel-dataset small: its images are 8x8 pixels, those of folder:"):
        joined(sources.load("folder:images"), small)


def test_a_novel_data_set_that_is_not_there():
    assert complaint(*RUN, "--novel-dataset", "folder:nowhere").startswith(
        "--novel-dataset folder:nowhere: no such folder"
    )
    assert "did you mean omniglot?" in complaint(*RUN, "--novel-dataset", "omniglott")
