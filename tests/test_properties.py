"""What holds for every configuration, split, list of episodes and record, tried on drawn ones."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from record_factory import make_record

from bench.common.errors import UserError
from bench.config.run_config import RunConfig, resolve
from bench.config.yaml_files import read_yaml
from bench.data.names import TENS, check_split, parse_ratio
from bench.data.splits import resolve as resolve_split
from bench.records import store
from bench.records.arrays import read_episodes
from bench.records.schema import RUN_ID
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw, stream
from methods.registry import available

few = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Configurations: defaults < preset < file < flags

METHOD = available()["siamese_triplet"]
NUMBERS = {
    "learning_rate": st.floats(0, 1e6, allow_subnormal=False),
    "margin": st.floats(0, 1e6),
    "classes": st.integers(1, 10**6),
    "triplets": st.integers(1, 10**6),
    "mining": st.sampled_from(["soft", "all", "semihard", "hard", "random"]),
}


def some(values: dict) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({}, optional=values)


FIELDS = {
    "seed": st.integers(0, 2**32 - 1),
    "backbone": st.sampled_from(["conv4", "resnet12", "resnet12-48", "resnet20", "timm:resnet18"]),
    "split": st.sampled_from(["90-10", "50-50@7", "cifar-fs", "fc100"]),
    "precision": st.sampled_from(["auto", "fp32", "bf16"]),
    "image_size": st.integers(8, 1024),
    "train": st.booleans(),
}
RUNS = some(FIELDS).map(lambda own: own if own.get("train", True) else own | {"weights": "trained.pt"})


@pytest.mark.slow
@few
@given(st.sampled_from(list(METHOD.presets)), some(NUMBERS), some(NUMBERS))
def test_each_hyperparameter_comes_from_the_last_place_that_names_it(preset, in_file, in_flags):
    made = resolve(
        {"method": "siamese_triplet", "preset": preset, "hyperparameters": in_file},
        {},
        {name: repr(value) if not isinstance(value, str) else value for name, value in in_flags.items()},
    )
    of_preset = {name: value for name, value in METHOD.presets[preset].items() if name != "backbone"}
    for name, parameter in METHOD.parameters.items():
        expected = parameter.default
        for place in (of_preset, in_file, in_flags):
            expected = place.get(name, expected)
        assert made.hyperparameters[name] == expected
        assert type(made.hyperparameters[name]) is type(parameter.default)
    without = resolve({"method": "siamese_triplet", "preset": preset}, {}, {}).hyperparameters
    changed = {name for name in without if made.hyperparameters[name] != without[name]}
    assert made.overrides.keys() - {"backbone"} == changed


@few
@given(RUNS, st.tuples(st.integers(2, 99), st.integers(1, 99)) | st.none(), some(NUMBERS))
def test_a_resolved_configuration_written_down_is_the_same_one(fields, own, hyperparameters):
    setting = {} if own is None else {"way": own[0], "shot": own[1]}
    made = resolve(
        {"method": "siamese_triplet", "hyperparameters": hyperparameters} | fields | setting, {}, {}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.yaml")
        path.write_text(made.to_yaml())
        again = resolve(read_yaml(path), {}, {})
    assert again == made
    assert RunConfig.model_validate(made.model_dump()) == made
    assert all(getattr(made, name) == value for name, value in fields.items())


@pytest.mark.slow
@few
@given(st.dictionaries(st.text(max_size=20), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
), max_size=4))  # fmt: skip
def test_whatever_a_file_says_is_resolved_or_refused_in_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.yaml")
        path.write_text(
            yaml.safe_dump({"method": "protonet", **content}, allow_unicode=True), encoding="utf-8"
        )
        try:
            resolve(read_yaml(path), {}, {})
        except UserError as error:
            assert str(error).isprintable() and "\n" not in str(error)


# Splits


@few
@given(st.integers(0, 120), st.integers(0, 120), st.none() | st.integers(0, 10**9 - 1))
def test_a_ratio_is_two_percentages_that_make_100(base, novel, seed):
    text = f"{base}-{novel}" + ("" if seed is None else f"@{seed}")
    if base + novel == 100 and base:
        assert parse_ratio(text) == (base, seed)
        check_split(text)
    else:
        with pytest.raises(UserError) as caught:
            parse_ratio(text)
        assert str(caught.value).startswith(f"--split {text}: ")


@few
@given(st.sampled_from([f"{base}-{100 - base}" for base in TENS]), st.text(min_size=1, max_size=4))
def test_nothing_may_stand_beside_a_ratio(ratio, more):
    assume(not more.endswith(".csv"))
    for text in (f"{ratio}{more}", f"{more}{ratio}"):
        try:
            parsed = parse_ratio(text)
        except UserError:
            continue
        assert f"{parsed[0]}-{100 - parsed[0]}" + ("" if parsed[1] is None else f"@{parsed[1]}") == text


@few
@given(st.integers(11, 89), st.none() | st.integers(0, 99))
def test_a_ratio_shares_out_the_classes(tiny, base, seed):
    split = resolve_split(tiny, f"{base}-{100 - base}" + ("" if seed is None else f"@{seed}"))
    total = len(tiny.class_names)
    assert sorted(split.base + split.novel) == list(range(total)) and split.validation == ()
    assert len(split.base) == round(total * base / 100)
    parts = [split.train, split.validation_images, split.base_test, split.novel_images]
    images = np.concatenate([part.numpy() for part in parts])
    assert len(set(images.tolist())) == len(images) == len(tiny) - split.dropped
    owners = [set(tiny.labels[part].tolist()) for part in parts]
    assert owners[0] == owners[1] == owners[2] == set(split.base) and owners[3] == set(split.novel)


@few
@given(st.lists(st.sampled_from(["base", "validation", "novel", None]), min_size=19, max_size=19))
def test_a_file_of_classes_is_followed_or_refused(tiny, tmp_path, parts):
    path = tmp_path / "mine.csv"
    lines = [f"{name},{part}" for name, part in zip(tiny.class_names, parts, strict=True) if part]
    path.write_text("\n".join(["class,part", *lines]))
    counts = {part: parts.count(part) for part in ("base", "validation", "novel")}
    if counts["base"] < 2 or 1 in counts.values():
        with pytest.raises(UserError, match=r"needs at least 2 base|must have 0 or at least 2"):
            resolve_split(tiny, str(path))
        return
    split = resolve_split(tiny, str(path))
    for part in counts:
        assert getattr(split, part) == tuple(i for i, own in enumerate(parts) if own == part)


# Episodes

POOLS = st.lists(st.integers(4, 9), min_size=2, max_size=7).map(
    lambda sizes: ClassPool(np.repeat(np.arange(len(sizes)), sizes))
)


@st.composite
def drawn(draw_one) -> tuple[ClassPool, Setting, str]:
    """A pool, a setting that it has enough for, and a key."""
    pool = draw_one(POOLS)
    shot = draw_one(st.integers(1, pool.smallest - 1))
    query = draw_one(st.integers(0, pool.smallest - shot))
    way = draw_one(st.just(0) | st.integers(1, len(pool.classes)))
    return pool, Setting(way, shot, query, draw_one(st.integers(1, 20))), draw_one(st.text(max_size=9))


def same(a: EpisodeList, b: EpisodeList) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


@few
@given(drawn())
def test_an_episode_has_distinct_classes_and_no_image_twice(case):
    pool, setting, key = case
    way = setting.way or len(pool.classes)
    found = draw(pool, key, setting)
    assert found.classes.shape == (setting.count, way)
    assert found.support.shape == (setting.count, way, setting.shot)
    assert found.query.shape == found.labels.shape == (setting.count, way * setting.query)
    owner = np.repeat(np.arange(len(pool.counts)), pool.counts)
    for classes, support, query, labels in zip(
        found.classes, found.support, found.query, found.labels, strict=True
    ):
        assert len(set(classes.tolist())) == way
        images = [*support.ravel().tolist(), *query.tolist()]
        assert len(set(images)) == len(images)
        assert (owner[support] == classes[:, None]).all() and (owner[query] == classes[labels]).all()
        assert np.bincount(labels, minlength=way).tolist() == [setting.query] * way


@few
@given(drawn(), st.integers(1, 40), st.integers(1, 9))
def test_a_list_depends_on_its_key_alone(case, more, chunk):
    pool, setting, key = case
    found = draw(pool, key, setting)
    assert same(found, draw(pool, key, setting)) and found.sha256() == draw(pool, key, setting).sha256()
    longer = draw(pool, key, Setting(setting.way, setting.shot, setting.query, setting.count + more))
    assert same(found, EpisodeList(**{name: part[: setting.count] for name, part in vars(longer).items()}))
    pieces = list(stream(pool, key, setting, chunk))
    assert same(
        found,
        EpisodeList(
            *(np.concatenate(part) for part in zip(*(vars(p).values() for p in pieces), strict=True))
        ),
    )


# Records

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FRACTION = st.floats(0, 1)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)


@st.composite
def interval(draw_one) -> dict:
    low, value, high = sorted(draw_one(st.lists(FRACTION, min_size=3, max_size=3)))
    return {"value": value, "low": low, "high": high, "n": draw_one(st.integers(1, 10**9))}


@few
@given(
    st.from_regex(RUN_ID, fullmatch=True),
    some({"method": TEXT, "paper": TEXT, "command": TEXT, "dataset": TEXT, "preset": TEXT}),
    st.dictionaries(TEXT, SCALAR | st.lists(SCALAR, max_size=3), max_size=3),
    st.dictionaries(TEXT, st.fixed_dictionaries({"novel/pair_auc": interval()}), max_size=3),
    st.datetimes().map(lambda time: f"{time.isoformat()}+00:00"),
)
def test_a_record_comes_back_as_it_was(run_id, texts, hyperparameters, per_class, created):
    made = make_record(
        run_id=run_id, hyperparameters=hyperparameters, per_class=per_class, created=created, **texts
    )
    with tempfile.TemporaryDirectory() as folder:
        path = store.write(made, Path(folder))
        assert path.name == f"{run_id}.json" and store.read(path) == made
        text = path.read_bytes()
        store.write(store.read(path), Path(folder))
        assert path.read_bytes() == text


@few
@given(st.lists(st.integers(0, 75), min_size=2, max_size=50))
def test_answers_come_back_as_accuracies(correct):
    info = {"way": 5, "shot": 1, "query": 15, "count": len(correct), "seed": 0, "sha256": "0" * 64}
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": len(correct)}
    made = make_record(episodes={"5w1s": info}, metrics={"fewshot/5w1s": value})
    arrays = {"5w1s": np.array(correct, np.uint16), "5w1s/queries": np.array(75)}
    with tempfile.TemporaryDirectory() as folder:
        found = store.read(store.write(made, Path(folder), arrays))
        content = Path(folder, found.episode_file).read_bytes()
        assert found.episode_file_sha256 == hashlib.sha256(content).hexdigest()
        assert read_episodes(found, Path(folder), ["5w1s"])["5w1s"].tolist() == [n / 75 for n in correct]
