"""`validate`: episodes, class sizes and other fields; test_bad_input_records.py has what is no record."""

import copy
import json
import random
import shutil
from typing import Any

import pytest
from command_line import bench
from damaged_records import Json

pytestmark = pytest.mark.slow


# Episodes and class sizes


def test_a_changed_hash_of_episodes(folder):
    true = json.loads(folder.first.read_text())["episodes"]["5w1s"]["sha256"]
    folder.edit(lambda record: record["episodes"]["5w1s"].update(sha256="0" * 64))
    assert folder.of_first() == [f"episodes.5w1s: the redrawn list has another SHA-256, {true}"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 1}, "episodes.5w1s: the redrawn list has another SHA-256"),
        ({"shot": 2}, "episodes.5w1s: the redrawn list has another SHA-256"),
        ({"query": 10}, "episodes.5w1s: the redrawn list has another SHA-256"),
        ({"query": 10**12}, "episodes.5w1s: cannot be drawn from the novel classes ("),
        ({"count": 299}, "5w1s: uint8 numbers [300], not [299]"),
        ({"count": 299}, "fewshot/5w1s n: 300, but 299 episodes"),
    ],
)
def test_another_list_of_episodes(folder, change, expected):
    folder.edit(lambda record: record["episodes"]["5w1s"].update(change))
    assert any(line.startswith(expected) for line in folder.of_first())


def test_class_sizes_that_do_not_add_up(folder):
    folder.edit(lambda record: record["pools"]["novel"].update(class5=41))
    # Numbers are recomputed from the sizes of the other record then, and are right.
    assert folder.of_first() == ["pools.novel: 6 classes of 241 images, not 6 of 240"]
    folder.edit(lambda record: record["pools"].update(novel={}))
    assert "pools.novel: 0 classes of 0 images, not 6 of 240" in folder.of_first()
    folder.without_npz(folder.second)
    folder.edit(lambda record: record["pools"]["base"].update(class0=10**13))
    folder.edit(lambda record: record.update(pools={}), folder.second)
    assert any("pools base: more than 20,000,000 images" in line for line in folder.lines())


@pytest.mark.parametrize("which", ["first", "second"])
def test_class_sizes_of_which_only_one_is_right(folder, which):
    damaged = getattr(folder, which)
    folder.edit(lambda record: record["pools"]["novel"].update(class4=41, class5=39), damaged)
    lines = folder.lines()
    differ = f"{folder.second.stem}: its class sizes differ from those of {folder.first.stem}, on the same "
    assert sum(line.startswith(differ) for line in lines) == 1
    others = [line for line in lines if not line.startswith((differ, "note: "))]
    assert others and all(line.startswith(f"{damaged.stem}: ") for line in others)
    assert f"{damaged.stem}: episodes.5w1s: the redrawn list has another SHA-256" in "".join(others)


def test_records_without_class_sizes_are_checked_by_those_of_another(folder):
    folder.edit(lambda record: record.update(pools={}))
    assert folder.lines(0) == []
    folder.edit(lambda record: record.update(pools={}), folder.second)
    assert "pools.novel: is missing, but the record has pairs of this part" in "".join(folder.lines())


def test_one_class_has_no_pairs(folder):
    def change(record: Json) -> None:
        record["classes"]["base_test_images"] = 5
        record["pools"]["base"] = {"class0": 5}

    folder.edit(change)
    for what in ("pairs", "triplets"):
        expected = f"pools.base: no {what} can be drawn from classes of these sizes"
        assert f"{folder.first.stem}: {expected}" in folder.lines()


# Other things


def set_metric(record: Json, key: str, value: float) -> None:
    record["metrics"][key] = {"value": value, "low": value, "high": value, "n": 400}


IMPOSSIBLE = {
    "future": (
        lambda r: r.update(created="2999-01-01T00:00:00Z"),
        "created: 2999-01-01, in the future",
    ),
    "longer": (
        lambda r: r["timings"].update(evaluate_s=50.0, total_s=40.0),
        "timings: the parts take longer than the whole, 40.0 s",
    ),
    "oracle": (
        lambda r: [set_metric(r, f"base/pair_accuracy{end}", v) for end, v in (("", 0.9), ("_oracle", 0.8))],
        "base/pair_accuracy: 0.9, more than the best threshold's 0.8",
    ),
    "way": (
        lambda r: r["episodes"]["5w1s"].update(way=9),
        "episodes.5w1s: way 9 with 6 novel classes",
    ),
    "queries": (
        lambda r: r["episodes"]["5w1s"].update(query=5),
        "episodes.5w1s: way, shot and query say 5w1s5q",
    ),
    "episodes": (
        lambda r: r["metrics"]["fewshot/5w5s"].update(n=10_000),
        "fewshot/5w5s n: 10000, but 300 episodes",
    ),
    "class": (
        lambda r: r["per_class"].update({"\x1b[2J": {}}),
        "per_class: \\x1b[2J is not a novel class",
    ),
    "seed": (lambda r: r.update(seed=4), "seed: 4, but config says 0"),
    "split": (lambda r: r["config"].update(split="\x1b"), "split: 50-50, but config says \\x1b"),
    "steps": (lambda r: r["timings"].update(steps=3), "images: 0, in 3 steps"),
    "no steps": (
        lambda r: r["timings"].update(train_s=9.0, total_s=99.0),
        "timings.train_s: 9.0 s, but there were 0 steps",
    ),
    "trained": (
        lambda r: r.update(trained=False, pretraining=None),
        "trained: False, but config says True",
    ),
    "untrained": (
        lambda r: (r.update(trained=False), r["config"].update(train=False)),
        "trained: False, but it has a pretraining",
    ),
    "protocol": (lambda r: r.update(protocol_version=2), "protocol version 2; this bench measures 1"),
}


@pytest.mark.parametrize("damage", IMPOSSIBLE)
def test_impossible_values(folder, damage):
    change, expected = IMPOSSIBLE[damage]
    folder.without_npz(folder.first)
    folder.edit(change)
    assert folder.of_first() == [expected]


def test_a_run_that_is_there_twice(folder):
    for suffix in (".json", ".npz"):
        shutil.copy(folder.first.with_suffix(suffix), folder.path / f"twice{suffix}")
    twice = folder.path / "twice.json"
    folder.edit(lambda record: record.update(run_id="twice", episode_file="twice.npz"), twice)
    assert folder.lines() == [f"twice: the same configuration and seed as {folder.first.stem}"]
    # The same images in a folder of another name are the same run, which was honestly made twice.
    named = json.loads(twice.read_text())["dataset"]
    for name, code in (("folder:copied", 0), (named, 1)):
        folder.edit(lambda r, name=name: (r.update(dataset=name), r["config"].update(dataset=name)), twice)
        assert len(folder.lines(code)) == code
    # The code in a user's file may have been another each time.
    for path in (folder.first, twice):
        folder.edit(lambda r: (r.update(method="own"), r["config"].update(method="own.py:Own")), path)
    assert folder.lines(0) == []


def test_names_of_files_are_shown_as_text(folder):
    (folder.path / "<b>\x1b[2J.json").write_text("")
    (folder.path / "a\nb.npz").write_text("")
    lines = folder.lines()
    assert lines[0].startswith("<b>\\x1b[2J.json: Invalid JSON")
    assert lines[1] == "a b.npz: does not belong to any record"


# Anything at all

ODD = [
    None, True, -1, 0, 1, 7, 0.5, -0.5, 2**31, 2**63, 10**30, 1e308, -1e308, "", "x", "\x1b[2J\n", "0" * 64,
    "2024-01-01", "nan", [], [None], {}, {"": 0}, {"a": {"b": 1}}, "x" * 5000,
]  # fmt: skip


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every field, of maps and of what is in them."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    return found


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 20))])
def test_any_one_field_may_be_anything(folder, seed):
    original = json.loads(folder.first.read_text())
    by_part: dict[str, list] = {}
    for path in places(original):
        by_part.setdefault(path[0], []).append(path)
    chance = random.Random(seed)
    codes = {0: 0, 1: 0}
    for part in chance.sample(sorted(by_part), len(by_part)):
        path = chance.choice(by_part[part])
        record = copy.deepcopy(original)
        owner: Any = record
        for key in path[:-1]:
            owner = owner[key]
        odd = chance.choice(["delete", "rename", *ODD])
        if odd == "delete":
            del owner[path[-1]]
        elif odd == "rename":
            owner[f"{path[-1]}\x1b"] = owner.pop(path[-1])
        else:
            owner[path[-1]] = odd
        folder.first.write_text(json.dumps(record))
        compare = ["compare", folder.first.stem, folder.second.stem]
        for arguments in (["validate"], compare) if chance.random() < 0.25 else (["validate"],):
            answer = bench(*arguments, "--results", folder.path)  # fails with whatever is not an exit code
            assert answer.code in ((0, 1) if arguments == ["validate"] else (0, 2)), (path, odd, answer)
            assert "\x1b" not in answer.out + answer.err, (path, odd)
            if arguments == ["validate"]:
                codes[answer.code] += 1
    assert codes[0] >= 2 and codes[1] >= 40
