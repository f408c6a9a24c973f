"""`compare`: which runs and methods its operands mean, and which it refuses to compare."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from command_line import bench, complaint
from compared_runs import answers, compared, episode_info, write, write_seeds
from record_factory import make_record, record_fields

from bench.records import store

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_runs_by_id_by_path_and_as_lists_of_seeds(tmp_path):
    ours, theirs = write_seeds("protonet", [40, 42, 44]), write_seeds("matching", [50, 52, 54])
    paths = [Path("results", f"{run}.json") for run in theirs]
    found = compared(",".join(ours), ",".join(map(str, paths)))
    assert [side["runs"] for side in found["sides"]] == [ours, theirs]
    assert found["comparisons"][0]["over_training"] is True
    found = compared(ours[1], paths[2])
    assert [side["runs"] for side in found["sides"]] == [[ours[1]], [theirs[2]]]
    (tmp_path / "elsewhere").mkdir()
    found = compared(paths[0].absolute(), "protonet", "--results", tmp_path / "results")
    assert [side["runs"] for side in found["sides"]] == [theirs[:1], ours]
    found = compared(ours[0], ours[1])
    assert [side["name"] for side in found["sides"]] == [
        "protonet (quick), seed 0", "protonet (quick), seed 1"
    ]  # fmt: skip


def test_the_beginning_of_one_run_id_means_that_run():
    write(answers(0.6), method="matching", run_id="matching-cafe0123")
    write(answers(0.6), method="protonet_x", run_id="protonet-beef0123")
    write(answers(0.6), method="protonet", run_id="other")
    sides = compared("matching-cafe", "protonet-b")["sides"]
    assert [side["runs"] for side in sides] == [["matching-cafe0123"], ["protonet-beef0123"]]
    assert compared("matching-cafe", "protonet")["sides"][1]["runs"] == ["other"]  # the method
    write(answers(0.6), method="matching", run_id="matching-cafe4567")
    assert "must be one run; 2 start with this" in complaint("compare", "matching-cafe", "protonet")


def test_a_method_s_table_is_chosen_by_flags():
    names = "method", "preset", "split", "dataset"
    sides = ("protonet", "matching"), ("quick", "standard"), ("90-10", "50-50"), ("cifar100", "glyphs")
    for values in itertools.product(*sides):
        write(answers(0.6), run_id="-".join(values), **dict(zip(names, values, strict=True)))
    flags = ["--preset", "standard", "--split", "50-50", "--dataset", "glyphs"]
    found = compared("protonet", "matching", *flags)
    assert [side["runs"] for side in found["sides"]] == [
        ["protonet-standard-50-50-glyphs"], ["matching-standard-50-50-glyphs"]
    ]  # fmt: skip
    problem = complaint("compare", "protonet", "matching", *flags[:4])
    assert problem.startswith(
        "compare protonet: has several configurations; choose with --dataset cifar100 or glyphs, "
        "run ids instead: protonet-standard-50-50-cifar100, protonet-standard-50-50-glyphs"
    )
    problem = complaint("compare", "protonet", "matching")
    assert (
        "--dataset cifar100 or glyphs, --split 50-50 or 90-10, --preset quick or standard, run ids" in problem
    )
    presets = compared("protonet-quick-90-10-glyphs", "protonet-standard-90-10-glyphs")
    assert [side["name"] for side in presets["sides"]] == ["protonet (quick)", "protonet (standard)"]


def test_a_method_of_several_hyperparameters_needs_run_ids():
    write(answers(0.6), method="matching")
    write(answers(0.6), run_id="one", hyperparameters={"lr": 0.1})
    write(answers(0.6), run_id="two", hyperparameters={"lr": 0.2})
    assert complaint("compare", "protonet", "matching") == (
        "compare protonet: has several configurations; choose with run ids instead: one, two"
    )
    names = [side["name"] for side in compared("one", "two")["sides"]]
    assert names == ["one", "two"]


def test_both_starts_of_a_method_are_chosen_by_their_row_s_name():
    for start in ("scratch", "pretrained"):
        write(answers(0.6), method="maml", run_id=start, hyperparameters={"init": start})
    names = ["maml (quick, from scratch)", "maml (quick, pretrained)"]
    sides = compared(*names)["sides"]
    assert [(side["name"], side["runs"]) for side in sides] == [
        (names[0], ["scratch"]),
        (names[1], ["pretrained"]),
    ]
    assert "has several configurations" in complaint("compare", "maml", "scratch")


def test_splits_of_one_name_and_other_classes_do_not_compare():
    for method, split in (("protonet", "1"), ("matching", "2")):
        sources = {"split": split * 64, "method": "0" * 64, "bench": "0" * 64}
        write(answers(0.6), method=method, sources=sources)
    write(answers(0.6), method="older")
    problem = complaint("compare", "protonet", "matching")
    assert "the classes or images of their splits differ" in problem
    assert compared("protonet", "older")["comparisons"]


@pytest.mark.parametrize(("novel", "train_on"), [("3", "base+val"), ("4", "base+val"), ("3", None)])
def test_validation_classes_in_the_training_are_said(novel, train_on):
    """Novel images must be the same, and nothing else may differ."""
    config = record_fields()["config"]
    for method, split, of_novel, own in (("protonet", "1", "3", None), ("matching", "2", novel, train_on)):
        sources = {"split": split * 64, "method": "0" * 64, "bench": "0" * 64, "novel": of_novel * 64}
        write(answers(0.6), method=method, sources=sources, config=config | {"train_on": own})
    if (novel, train_on) != ("3", "base+val"):
        assert "the classes or images of their splits differ" in complaint("compare", "protonet", "matching")
        return
    marks = ["trained on validation classes"]
    assert [side["marks"] for side in compared("protonet", "matching")["sides"]] == [[], marks]
    assert bench("compare", "protonet", "matching").out.count(marks[0]) == 1


def test_an_additional_setting_is_the_same_configuration():
    write(answers(0.6), method="matching")
    config = record_fields()["config"]
    write(answers(0.6), seed=0)
    write(answers(0.6), seed=1, config=config | {"seed": 1, "way": 3, "shot": 2, "query": 5, "episodes": 50})
    assert compared("protonet", "matching")["comparisons"][0]["seeds"] == [2, 1]


def test_of_two_runs_of_one_seed_the_later_counts():
    write(answers(0.6), method="matching")
    write(answers(0.6), run_id="old", created="2025-01-01T00:00:00Z")
    write(answers(0.6), run_id="new", created="2025-02-01T00:00:00Z")
    assert compared("protonet", "matching")["sides"][0]["runs"] == ["new"]


def test_damaged_records_are_named_and_the_others_compared(tmp_path):
    write(answers(0.6), method="matching"), write(answers(0.5))
    (tmp_path / "results" / "bad.json").write_text("{")
    answer = bench("compare", "protonet", "matching")
    assert answer.code == 1 and "is better than" in answer.out
    assert answer.err.count("\n") == 1 and "bad.json" in answer.err.removeprefix("warning: ")


def test_names_are_shown_as_text_and_a_terminal_obeys_none_of_them():
    html, escape = "<script>alert(1)</script>", "**x** | y\x1b[2J\u202e"
    write(answers(0.6), method=html, run_id="html", split="<b>\x1b[31m")
    write(answers(0.5), method=escape, run_id="escape", split="<b>\x1b[31m")
    answer = bench("compare", html, escape)
    assert answer.code == 0
    shown = "**x** | y\\x1b[2J\\u202e"
    assert (
        f"{html} (quick) is better than {shown} (quick) by" in answer.out
        and "of <b>\\x1b[31m (p" in answer.out
    )
    assert all(character.isprintable() for character in answer.out.replace("\n", ""))
    assert [side["name"] for side in compared(html, escape)["sides"]] == [
        f"{html} (quick)",
        f"{shown} (quick)",
    ]
    assert "\x1b" not in bench("compare", escape, "nothing").err


# What it refuses


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("protonett", "compare protonett: no such run or method; did you mean protonet? allowed: "),
        ("cifar100-protonet-quick-3", "did you mean cifar100-protonet-quick-"),
        ("", "compare: no such run or method; allowed: matching, protonet, "),
        ("../protonet", "no such run or method; did you mean protonet?"),
        ("cifar100-protonet-quick-0,cifar100-protonet-quik-1", "did you mean cifar100-protonet-quick-1?"),
        ("cifar100-protonet-quick-0,", "'' is not a recorded run; allowed: "),
        ("protonet,matching", "no such run or method; "),
        ("cifar100-protonet-quick-0,cifar100-protonet-quick-0", "must be runs with different seeds"),
        ("cifar100-protonet-quick-0,cifar100-matching-quick-1", "must be runs that differ only in the seed"),
        ("nowhere.json", "--results nowhere.json: No such file or directory"),
        ("cifar100-matching-quick-1", "must not share runs; cifar100-matching-quick-1 is in both"),
        (
            "results/cifar100-matching-quick-1.json",
            "must not share runs; cifar100-matching-quick-1 is in both",
        ),
        ("matching", "must not share runs; cifar100-matching-quick-0 is in both"),
    ],
)
def test_operands_that_are_nothing_to_compare(name, expected):
    write_seeds("protonet", [40, 42]), write_seeds("matching", [50, 52])
    assert expected in complaint("compare", name, "matching")


def test_too_few_operands_and_no_folder():
    assert complaint("compare").startswith("A B [...]: is missing; Run ids")
    assert complaint("compare", "protonet", "matching").startswith(
        "--results results: must be a folder of records"
    )
    write(answers(0.6))
    assert complaint("compare", "protonet") == "compare protonet: needs two or more runs or methods"
    assert "no such run or method" in complaint("compare", "protonet", "x", "--split", "50-50")


def test_a_setting_that_is_not_there():
    write(answers(0.6)), write(answers(0.6), method="matching")
    assert complaint("compare", "protonet", "matching", "--setting", "5w1") == (
        "--setting 5w1: protonet has no such setting; did you mean 5w1s? allowed: 5w1s"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol_version": 2}, "they have protocol versions 1 and 2, whose numbers are not"),
        (
            {"fingerprint": "cd" * 32, "dataset": "glyphs"},
            "their images differ: cifar100 and glyphs, fingerprints abababababab and cdcdcdcdcdcd",
        ),
        (
            {"split": "50-50", "episodes": episode_info(sha256="1" * 64)},
            "their splits differ, 90-10 and 50-50",
        ),
        (
            {"episodes": episode_info(sha256="1" * 64, seed=3)},
            "their episodes of 5w1s differ in seed: 0 and 3",
        ),
        (
            {"episodes": episode_info(sha256="1" * 64, query=14)},
            "their episodes of 5w1s differ in query: 15 and 14",
        ),
        (
            {"episodes": episode_info(sha256="1" * 64)},
            "their episodes of 5w1s differ: the hashes are different",
        ),
        (
            {"episodes": episode_info(sha256="1" * 64, count=20)},
            "one answered 40 and the other 20 episodes of 5w1s, and neither has the class sizes",
        ),
    ],
)
def test_runs_whose_episodes_differ_are_refused_with_the_reason(changes, reason):
    write(answers(0.6))
    count = changes.get("episodes", episode_info())["5w1s"]["count"]
    write(answers(0.5)[:count], method="matching", **changes)
    found = complaint("compare", "protonet", "matching")
    assert found.startswith(f"compare protonet matching: {reason}")


def test_every_two_sides_are_checked():
    write(answers(0.6)), write(answers(0.5), method="matching")
    write(answers(0.5), method="maml", episodes=episode_info(sha256="1" * 64))
    assert complaint("compare", "protonet", "matching", "maml").startswith("compare protonet maml: their")


def test_seeds_that_answered_different_episodes_are_refused():
    write(answers(0.6)), write(answers(0.5), method="matching")
    write(answers(0.6), seed=1, episodes=episode_info(sha256="1" * 64))
    assert complaint("compare", "protonet", "matching") == (
        "compare cifar100-protonet-quick-0: its seeds were evaluated on different 5w1s episodes"
    )
    write(answers(0.6)[:20], seed=1, episodes=episode_info(count=20))  # which cannot have the same hash
    assert "its seeds were evaluated on different 5w1s episodes" in complaint(
        "compare", "protonet", "matching"
    )


def test_runs_without_their_answers_are_refused(tmp_path):
    write(answers(0.6)), write(answers(0.5), method="matching")
    npz = tmp_path / "results" / "cifar100-matching-quick-0.npz"
    npz.write_bytes(npz.read_bytes()[:-10])
    assert "does not belong to the record: its SHA-256 differs" in complaint(
        "compare", "protonet", "matching"
    )
    npz.unlink()
    assert complaint("compare", "protonet", "matching").endswith("No such file or directory")
    store.write(make_record(method="maml"), tmp_path / "results")
    assert complaint("compare", "protonet", "maml") == (
        "compare cifar100-maml-quick-0: has no file of per-episode answers"
    )


def test_answers_packed_in_a_way_that_zipfile_does_not_know(tmp_path):
    write(answers(0.6)), write(answers(0.5), method="matching")
    npz = tmp_path / "results" / "cifar100-matching-quick-0.npz"
    content = bytearray(npz.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 99  # the compression method of the first member
    npz.write_bytes(content)
    path = npz.with_suffix(".json")
    digest = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"episode_file_sha256": digest}))
    assert "cannot be read as npz (" in complaint("compare", "protonet", "matching")


def test_one_episode_tells_nothing():
    for method in ("protonet", "matching"):
        write(answers(0.6)[:1], method=method, episodes=episode_info(count=1))
    assert "has only one episode" in complaint("compare", "protonet", "matching")
