"""`--train-on base+val`: validation classes become base classes; novel classes stay unseen."""

from pathlib import Path

import pytest
from command_line import bench, write_images

from bench.common.errors import UserError
from bench.config.run_config import method_info
from bench.config.run_config import resolve as configured
from bench.data.images import ImageSet
from bench.data.names import BASE_AND_VALIDATION
from bench.data.splits import resolve
from bench.records import identity, store
from bench.records.tracks import partition_by_track
from bench.run.run_id import identify


@pytest.fixture(scope="module")
def case(tiny, tmp_path_factory):
    """`tiny` with a novel image that is also a validation image, and its split in a file."""
    images = tiny.images.numpy().copy()
    images[14 * 30] = images[9 * 30]
    data = ImageSet.build(
        tiny.name, images, tiny.labels.numpy(), tiny.held_out.numpy(), list(tiny.class_names)
    )
    path = tmp_path_factory.mktemp("splits") / "own.csv"
    parts = ["base"] * 8 + ["validation"] * 5 + ["novel"] * 6
    lines = [f"{name},{part}" for name, part in zip(data.class_names, parts, strict=True)]
    path.write_text("\n".join(["class,part", *lines]))
    return data, str(path)


def test_all_images_of_both_parts_are_trained_on_and_no_novel_one(case):
    data, spec = case
    usual, more = resolve(data, spec), resolve(data, spec, train_on=BASE_AND_VALIDATION)
    assert (more.base, more.validation, more.novel) == (tuple(range(13)), (), usual.novel)
    assert set(data.labels[more.train].tolist()) == set(range(13)) and len(more.train) == 13 * 30
    assert len(more.validation_images) == len(more.base_test) == 0
    seen = {bytes(digest) for digest in data.digests[more.train].numpy()}
    assert not any(bytes(digest) in seen for digest in data.digests[more.novel_images].numpy())
    assert (usual.dropped, more.dropped) == (0, 1)
    assert usual.name == more.name


def test_splits_without_validation_classes_are_refused(tiny):
    with pytest.raises(UserError, match=r"--train-on base\+val: 47-53 has no validation classes"):
        resolve(tiny, "47-53", train_on=BASE_AND_VALIDATION)


def config_of(spec: str, **given):
    return configured({"method": "protonet", "split": spec, "preset": "smoke", **given}, {}, {})


def test_it_is_a_change_with_another_run_id(case):
    data, spec = case
    usual, named, more = (
        config_of(spec, **own) for own in ({}, {"train_on": "base"}, {"train_on": "base+val"})
    )
    assert usual == named and more.overrides == {"train_on": "base+val"}
    info = method_info("protonet")
    ids = {
        identify(c, info, data, resolve(data, spec, train_on=c.train_on), None).run_id for c in (usual, more)
    }
    assert len(ids) == 2


def test_other_values_are_refused(case):
    with pytest.raises(UserError, match=r"--train-on base\+vla: did you mean base\+val\? allowed: base"):
        config_of(case[1], train_on="base+vla")


@pytest.mark.slow
def test_the_record_is_valid_and_never_ranked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 12, 20)
    names = sorted(path.name for path in Path("images").iterdir())
    parts = ["base"] * 4 + ["validation"] * 3 + ["novel"] * 5
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    Path("own.csv").write_text("\n".join(["class,part", *lines]))
    run = [
        "run",
        "--method",
        "protonet",
        "--dataset",
        "folder:images",
        "--split",
        "own.csv",
        "--preset",
        "smoke",
        "--image-size",
        "16",
    ]
    made = bench(*run, "--set", "train_way=3", "--train-on", "base+val")
    assert made.code == 0, made.err
    assert "too few validation images: the last step is kept" in " ".join(made.err.split())
    record = store.read(Path(made.out.splitlines()[-1]))
    assert (record.classes.base, record.classes.validation, record.kept_step) == (7, 0, record.timings.steps)
    assert "train_on=base+val" in identity.name_of(record)
    tracks, variations = partition_by_track([record])
    assert not tracks and variations == [record]
    assert bench("validate").code == 0
    again = bench("run", "--config", f"runs/{record.run_id}/config.yaml")
    assert "is already recorded" in again.err
