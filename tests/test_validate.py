"""`validate`: real records are clean, and whatever is changed in their numbers and answers is named."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command_line import bench, complaint
from damaged_records import Json

from bench.records import validation

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[1]


def test_real_records_are_clean_and_every_number_is_recomputed(folder):
    record = json.loads(folder.first.read_text())
    assert {"fewshot/allw1s", "fewshot/3w2s5q", "base/pair_auc", "generalized/6+6/20s/all"} <= set(
        record["metrics"]
    )
    answer = bench("validate", "--results", folder.path)
    assert answer == (0, "2 records: no problems\n", "")


def test_a_record_of_this_repository_is_clean(tmp_path):
    """One with few episodes; `tox -e leaderboard` validates all of them, which takes a minute."""
    record = min((REPOSITORY / "results").glob("reptile_*.json"))
    for path in (record, record.with_suffix(".npz")):
        (tmp_path / path.name).symlink_to(path)
    answer = bench("validate", "--results", tmp_path)
    assert answer.code == 0, answer.out


def test_no_folder_and_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint("validate").startswith("--results results: must be a folder of records (No such file")
    assert bench("validate", "--results", tmp_path) == (0, "0 records: no problems\n", "")


def test_compare_imports_nothing_heavy(two_runs):
    runs = sorted(path.stem for path in two_runs.glob("*.json"))
    code = f"""
import sys
from bench.__main__ import main
for arguments in (["compare", *{runs}],):
    sys.argv = ["bench", *arguments, "--results", {str(two_runs)!r}]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, arguments
assert not {{"torch", "pandas", "matplotlib", "scipy.stats"}} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL)


# Numbers


def test_every_number_is_checked(folder):
    expected = set()

    def change(record: Json) -> None:
        owners = [("", record["metrics"]), *((f"{name}: ", own) for name, own in record["per_class"].items())]
        for owner, metrics in owners:
            for key, metric in metrics.items():
                changed = {"n": metric["n"] + 1}
                # A little, and so that the interval still holds the value.
                if metric["low"] > 0:
                    changed["low"] = metric["low"] - 2e-9
                if metric["high"] < 1:
                    changed["high"] = metric["high"] + 2e-9
                if metric["high"] - metric["value"] > 1e-6:
                    changed["value"] = metric["value"] + 2e-9
                if "std" in metric:
                    changed["std"] = metric["std"] + 2e-9
                metric |= changed
                expected.update(f"{owner}{key} {name}" for name in changed)
        record["constant_answer"]["novel/unbalanced_pair_accuracy"] += 2e-9
        expected.add("constant_answer novel/unbalanced_pair_accuracy")

    folder.edit(change)
    found = folder.of_first()
    # One of a few-shot metric's numbers is the number of episodes, which is checked twice.
    doubled = [line for line in found if line.endswith(" episodes")]
    assert len(doubled) == 4
    assert {line.rpartition(":")[0] for line in found if line not in doubled} == expected
    assert len(found) == len(expected) + 4 and len(expected) > 300


@pytest.mark.parametrize(
    ("owner", "key"), [("metrics", "fewshot/5w1s"), ("metrics", "novel/pair_auc"), ("per_class", "class7")]
)
def test_a_changed_value_is_named_with_the_true_one(folder, owner, key):
    def change(record: Json) -> None:
        metric = record[owner][key] if owner == "metrics" else record[owner][key]["fewshot/5w1s"]
        true, metric["value"] = metric["value"], (metric["value"] + metric["low"]) / 2
        name = key if owner == "metrics" else f"{key}: fewshot/5w1s"
        expected.append(f"{name} value: {metric['value']}, recomputed {true}")

    expected: list[str] = []
    folder.edit(change)
    (line,) = folder.of_first()
    assert line.startswith(expected[0][:-4])


def test_numbers_that_are_missing(folder):
    def change(record: Json) -> None:
        del record["metrics"]["novel/pair_eer"], record["per_class"]["class8"]

    folder.edit(change)
    found = folder.of_first()
    assert found[0].startswith("novel/pair_eer: is missing; recomputed 0.")
    assert len(found) > 3 and all(line.startswith("class8: ") for line in found[1:])


def test_a_changed_threshold_changes_numbers(folder):
    folder.edit(lambda record: record["thresholds"].update(similarity=0.99))
    assert any(line.startswith("novel/pair_accuracy value: ") for line in folder.of_first())
    folder.edit(lambda record: record.update(thresholds={}))
    assert set(folder.of_first()) == {"thresholds.similarity: is missing, but the record has scored pairs"}


# The per-episode file


@pytest.mark.parametrize("damage", ["truncated", "of another run", "hash"])
def test_a_file_that_is_not_the_record_s(folder, damage):
    npz = folder.first.with_suffix(".npz")
    if damage == "truncated":
        npz.write_bytes(npz.read_bytes()[:-1])
    elif damage == "hash":
        folder.edit(lambda record: record.update(episode_file_sha256="0" * 64))
    else:
        shutil.copy(folder.second.with_suffix(".npz"), npz)
    assert folder.of_first() == [f"{npz.name}: does not belong to the record: its SHA-256 differs"]


def test_a_file_that_is_missing_and_one_that_is_a_folder(folder):
    npz = folder.first.with_suffix(".npz")
    npz.unlink()
    assert folder.of_first() == [f"{npz.name}: No such file or directory"]
    npz.mkdir()
    assert folder.of_first() == [f"{npz.name}: Is a directory"]


def shuffled_hits(arrays: Json) -> None:
    arrays["5w1s/hits"] = arrays["5w1s/hits"][:, ::-1]


def one_answer_less(arrays: Json) -> None:
    episode, place = np.argwhere(arrays["5w1s/hits"] > 0)[0]
    arrays["5w1s/hits"][episode, place] -= 1
    arrays["5w1s"][episode] -= 1


REWRITTEN = {
    "one answer less": (one_answer_less, "fewshot/5w1s value: "),
    "another class's hits": (shuffled_hits, ": fewshot/5w1s value: "),
    "hits do not add up": (lambda a: a["5w1s/hits"].fill(1), "5w1s/hits: do not add up to the correct"),
    "more than asked": (lambda a: a["5w1s"].fill(76), "5w1s: must be from 0 to the number of queries"),
    "other queries": (
        lambda a: a.update({"5w1s/queries": np.array(80)}),
        "5w1s/queries: differ from the number",
    ),
    "no queries": (lambda a: a.pop("5w1s/queries"), "5w1s/queries: is missing from the per-episode file"),
    "no answers": (lambda a: a.pop("5w5s"), "5w5s: is missing from the per-episode file"),
    "too few": (lambda a: a.update({"5w1s": a["5w1s"][:9]}), "5w1s: uint8 numbers [9], not [300]"),
    "fractions": (lambda a: a.update({"5w1s": a["5w1s"] / 75}), "5w1s: float64 numbers [300], not [300]"),
    "text": (lambda a: a.update({"5w1s": np.full(300, "a")}), "5w1s is not an array of numbers"),
    "scores": (lambda a: a["novel/pair_scores"].sort(), "novel/pair_auc value: "),
    "not a number": (lambda a: a["base/pair_scores"].fill(np.nan), "base/pair_scores: 200 of 200 scores are"),
    "no pairs": (
        lambda a: a.update({"base/pair_scores": np.zeros(0)}),
        "base/pair_scores: pairs of both kinds, same and different, are needed",
    ),
    "a triplet": (lambda a: a["novel/triplets_won"].fill(3), "novel/triplets_won: must be 0, 1 or 2"),
    "triplets": (lambda a: a.pop("novel/triplets_won"), "novel/triplets_won: is missing from the per-ep"),
    "a join": (
        lambda a: a["generalized/6+1/5s/novel"].fill(0.5),
        "generalized/6+1/5s/harmonic value: ",
    ),
    "too accurate": (
        lambda a: a["generalized/6+6/5s/base"].fill(1.5),
        "generalized/6+6/5s: must be accuracies between 0 and 1",
    ),
    "no joins": (
        lambda a: a.update({f"generalized/6+1/5s/{part}": np.zeros((0, 10)) for part in ("novel", "base")}),
        "generalized/6+1/5s: must be accuracies between 0 and 1 of two or more joins",
    ),
    "one number": (
        lambda a: a.update({"generalized/6+6/5s/novel": np.array(0.5)}),
        "generalized/6+6/5s/base: float64 numbers [10], not []",
    ),
    "joined classes": (
        lambda a: a["generalized/6+1/classes"].fill(6),
        "generalized/6+1/20s: 6 classes joined, of 6 novel ones",
    ),
    "fewer classes": (
        lambda a: a.update({"generalized/6+1/classes": a["generalized/6+1/classes"][:5]}),
        "generalized/6+1/20s: 6 classes joined, not 5",
    ),
    "impossible draws": (
        lambda a: a["novel/unbalanced_pair_accuracy"].fill(2),
        "novel/unbalanced_pair_accuracy: must be accuracies between 0 and 1 of two or more draws",
    ),
    "before joining": (
        lambda a: a["generalized/6+1/0s/base"].fill(99),
        "generalized/6+1/0s/base: must be from 0 to the number of images",
    ),
    "before joining others": (
        lambda a: a.update({"generalized/7+1/0s/base": a["generalized/6+1/0s/base"]}),
        "generalized/7+1/0s/base: must be generalized/6+1/0s/base",
    ),
    "other classes": (
        lambda a: a.update({"generalized/7+6/5s/novel": a["generalized/6+6/5s/novel"]}),
        "generalized/7+6/5s: must be 1 or 6 classes that join 6 base classes",
    ),
}


@pytest.mark.parametrize("damage", REWRITTEN)
def test_answers_and_hash_rewritten_together(folder, damage):
    change, expected = REWRITTEN[damage]
    folder.rewrite(change)
    assert any(expected in line for line in folder.of_first()), folder.of_first()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "cannot be read as npz ("),
        (b"nothing", "cannot be read as npz ("),
        (npy(np.zeros(3)), "cannot be read as npz (it is one array)"),
    ],
)
def test_another_kind_of_file_with_its_hash(folder, content, expected):
    folder.replace(content)
    assert folder.of_first()[0].startswith(f"{folder.first.stem}.npz: {expected}")


def test_members_that_are_not_arrays(folder):
    with zipfile.ZipFile(folder.first.with_suffix(".npz"), "a") as file:
        file.writestr("novel/pair_scores", "text")
    folder.rehash()
    expected = "cannot be read as npz (novel/pair_scores is not an array of numbers)"
    assert folder.of_first() == [f"{folder.first.stem}.npz: {expected}"]


def test_flipped_bytes_with_their_hash_are_survived(folder):
    original = bytearray(folder.first.with_suffix(".npz").read_bytes())
    chance = random.Random(0)
    for _ in range(15):
        content = bytearray(original)
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        folder.replace(bytes(content))
        assert bench("validate", "--results", folder.path).code in (0, 1)


def test_what_cannot_be_recomputed_is_noted(folder):
    folder.without_npz(folder.second)
    assert folder.lines(0) == [
        f"note: {folder.second.stem}: not recomputed: everything: it has no per-episode file"
    ]
    folder.rewrite(lambda arrays: [arrays.pop(f"novel/{name}") for name in ("pair_scores", "triplets_won")])
    note = folder.lines(0)[0]
    assert note.startswith(f"note: {folder.first.stem}: not recomputed: novel/pair_accuracy, ")
    assert "novel/triplet_accuracy of each class" in note and "fewshot" not in note


def test_hits_that_are_missing_cost_only_the_numbers_of_each_class(folder):
    folder.rewrite(lambda arrays: [arrays.pop(name) for name in list(arrays) if name.endswith("/hits")])
    (note,) = folder.lines(0)
    assert "fewshot/5w1s of each class" in note and "pair" not in note


def test_many_records_are_checked_at_once_with_the_same_answer(folder, monkeypatch):
    """Here in threads: processes take seconds to start."""
    folder.rewrite(one_answer_less)
    folder.without_npz(folder.second)
    one_by_one = bench("validate", "--results", folder.path)
    monkeypatch.setattr(validation, "SEVERAL", 1)
    monkeypatch.setattr(validation, "ProcessPoolExecutor", lambda count, _: ThreadPoolExecutor(count))
    at_once = bench("validate", "--results", folder.path)
    assert at_once[:2] == one_by_one[:2] and one_by_one.code == 1


def test_a_file_that_no_record_names(folder):
    shutil.copy(folder.first.with_suffix(".npz"), folder.path / "alone.npz")
    assert folder.lines() == ["alone.npz: does not belong to any record"]
    (folder.path / "alone.npz").unlink()
    folder.edit(lambda record: record.update(episode_file=None, episode_file_sha256=None))
    assert folder.of_first() == [f"{folder.first.stem}.npz exists, but the record does not name it"]
