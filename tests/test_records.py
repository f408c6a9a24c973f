"""Records: their fields, and how they are written, found and read."""

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from record_factory import EPISODES, episode_info, make_episodes, make_record, metric, record_fields

from bench.common.errors import UserError
from bench.records import store
from bench.records.arrays import common_classes, pairs, read_episodes
from bench.records.parts import Metric
from bench.records.store import Record
from bench.records.validation import validate


def problem_of(**changes) -> str:
    with pytest.raises(ValidationError) as caught:
        make_record(**changes)
    return str(caught.value)


def test_round_trip_keeps_every_field(tmp_path):
    hostile = 'a|b`</script>\n"{{\\u0000 ü 漢 🙂'
    record = make_record(
        method=hostile, dataset=hostile, per_class={hostile: {"novel/pair_auc": metric(0.5)}}
    )
    path = store.write(record, tmp_path, make_episodes())
    again = store.read(path)
    assert path == tmp_path / f"{record.run_id}.json"
    assert again.episode_file == f"{record.run_id}.npz"
    assert again.model_dump(exclude={"episode_file", "episode_file_sha256"}) == record.model_dump(
        exclude={"episode_file", "episode_file_sha256"}
    )
    types = {key: type(value) for key, value in again.hyperparameters.items()}
    assert types == {"lr": float, "distance": str, "milestones": list, "bias": bool}


def test_a_command_that_is_not_utf8_is_still_recorded(tmp_path):
    latin1 = b"--data-root caf\xe9".decode("utf-8", "surrogateescape")  # as sys.argv holds it
    path = store.write(make_record(command=latin1), tmp_path)
    assert store.read(path).command == "--data-root caf?"


def test_the_file_is_sorted_readable_json_that_ends_its_last_line(tmp_path):
    text = store.write(make_record(), tmp_path).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.count("\n") > 50


def test_the_same_run_gives_the_same_bytes(tmp_path):
    written = []
    for folder in ("a", "b"):
        # The order in which settings were evaluated is not part of the result.
        episodes = dict(sorted(make_episodes().items(), reverse=folder == "b"))
        path = store.write(make_record(), tmp_path / folder, episodes)
        written.append((path.read_bytes(), path.with_suffix(".npz").read_bytes()))
    assert written[0] == written[1]


def test_created_is_kept_in_utc(tmp_path):
    record = make_record(created="2025-03-01T14:00:00+02:00")
    assert record.created == datetime(2025, 3, 1, 12, tzinfo=UTC)
    text = store.write(record, tmp_path).read_text()
    assert json.loads(text)["created"] == "2025-03-01T12:00:00Z"
    assert "timezone" in problem_of(created="2025-03-01T14:00:00")


@pytest.mark.parametrize(
    ("value", "low", "high", "valid"),
    [
        (0.5, 0.4, 0.6, True),
        (0.5, 0.5 + 1e-12, 0.6, True),
        (0.5, 0.51, 0.6, False),
        (0.5, 0.4, 0.49, False),
        (float("nan"), 0.4, 0.6, False),
        (0.5, 0.4, float("inf"), False),
    ],
)
def test_a_metric_lies_within_its_finite_interval(value, low, high, valid):
    if valid:
        assert Metric(value=value, low=low, high=high, n=1).value == value
    else:
        with pytest.raises(ValidationError):
            Metric(value=value, low=low, high=high, n=1)


def test_records_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        make_record().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "run_id", ["", ".hidden", "..", "a/b", "a\\b", "a b", "a\n", "a:b", "ü", "x" * 201, "../up", "con?"]
)
def test_unsafe_run_ids_are_refused(run_id, tmp_path):
    assert "run_id" in problem_of(run_id=run_id)
    assert store.find(tmp_path, run_id) is None


@pytest.mark.parametrize("run_id", ["a", "x" * 200, "cifar100+resnet12@3_s0-1.5"])
def test_safe_run_ids_are_accepted(run_id):
    assert make_record(run_id=run_id).run_id == run_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol_version": 0}, "protocol_version"),
        ({"parameters": -1}, "parameters"),
        ({"fingerprint": "AB" * 32}, "fingerprint"),
        ({"hyperparameters": {"lr": float("nan")}}, "finite"),
        ({"hyperparameters": {"lr": {"nested": 1}}}, "hyperparameters"),
        ({"hyperparameters": {"lr": 10**400}}, "finite"),
        ({"config": {"a": [{"b": -(10**400)}]}}, "finite"),
        ({"thresholds": {"pair": 1e300}}, "thresholds"),
        ({"images": 10**400}, "images"),
        ({"parameters": 2**63}, "parameters"),
        ({"metrics": {"other/number": {"value": 1e300, "low": 0, "high": 1.7e308, "n": 9}}}, "metrics"),
        ({"timings": record_fields()["timings"] | {"total_s": 1.7e308}}, "timings.total_s"),
        ({"episodes": {"5w1s": episode_info(5, 1, 15, count=10**9)}}, "answers"),
        ({"config": {"a": [{"b": float("inf")}]}}, "finite"),
        (
            {"per_class": {"whale": {"novel/pair_auc": {"value": 76.6, "low": 76, "high": 77, "n": 9}}}},
            "whale",
        ),
        ({"episode_file_sha256": "0" * 64}, "must be given together"),
        ({"kept_step": 3001}, "kept_step: 3001, but there were 3000 steps"),
        ({"metrics": {"open5w1s/auroc": metric(0.7)}}, "the episode list of open5w1s/auroc is missing"),
        (
            {"open_set": {"open5w1s": episode_info(5, 1, 15, count=10**7, others=10)}},
            "open_set open5w1s: more than 100,000,000 answers",
        ),
    ],
)
def test_wrong_fields_are_named(changes, message):
    """More of them are in test_bad_input_records.py."""
    assert message in problem_of(**changes)


def test_every_field_without_a_default_is_required():
    optional = {name for name, field in Record.model_fields.items() if not field.is_required()}
    for name in set(Record.model_fields) - optional:
        fields = record_fields()
        del fields[name]
        with pytest.raises(ValidationError, match=name):
            Record.model_validate(fields)


def test_read_all_skips_and_reports_what_is_not_a_record(tmp_path):
    for seed in (2, 0, 1):
        store.write(make_record(seed=seed), tmp_path, make_episodes())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "._copy.json").write_text("what a Mac leaves on a stick")
    (tmp_path / "notes.txt").write_text("not a record")
    found, problems = store.read_all(tmp_path)
    assert [record.seed for record in found] == [0, 1, 2]
    assert len(problems) == 2
    assert "broken.json" in problems[0] and "folder.json" in problems[1]


def test_read_all_wants_a_folder(tmp_path):
    with pytest.raises(UserError, match="--results"):
        store.read_all(tmp_path / "absent")


def test_find(tmp_path):
    path = store.write(make_record(), tmp_path)
    assert store.find(tmp_path, path.stem) == path
    assert store.find(tmp_path, "absent") is None
    assert store.find(tmp_path / "absent", path.stem) is None
    assert store.find(tmp_path / "inner", f"../{path.stem}") is None


def test_overwriting_replaces_both_files(tmp_path):
    path = store.write(make_record(), tmp_path, make_episodes(seed=1))
    store.write(make_record(command="again"), tmp_path, make_episodes(seed=2))
    record = store.read(path)
    assert record.command == "again"
    np.testing.assert_array_equal(
        read_episodes(record, tmp_path, ["5w1s"])["5w1s"], make_episodes(seed=2)["5w1s"] / 75
    )
    store.write(make_record(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, fails_at):
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"--results .*No space left on device"):
        store.write(make_record(), tmp_path, make_episodes())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_record(tmp_path, monkeypatch):
    path = store.write(make_record(), tmp_path, make_episodes(seed=1))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError):
        store.write(make_record(command="again"), tmp_path, make_episodes(seed=2))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert store.read(path).command != "again"


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(make_record(), tmp_path, make_episodes())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="--results"):
        store.write(make_record(), tmp_path / "file", make_episodes())
    record = make_record()
    (tmp_path / f"{record.run_id}.json").mkdir()
    with pytest.raises(UserError, match=f"--results .*{record.run_id}"):
        store.write(record, tmp_path, make_episodes())
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["file", f"{record.run_id}.json"])


def test_missing_folders_are_made_and_files_follow_the_umask(tmp_path):
    path = store.write(make_record(), tmp_path / "a" / "b", make_episodes())
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode
    assert Path(path).with_suffix(".npz").stat().st_mode == plain.stat().st_mode


def test_own_runs_are_shown_beside_the_committed_ones(tmp_path):
    """Readers show both; generated files and `validate` are about the committed ones if there are any."""
    own = store.write(make_record(run_id="own-run", seed=1), tmp_path / store.OWN, make_episodes())
    assert [record.run_id for record in store.read_all(tmp_path, own=False)[0]] == ["own-run"]
    assert validate(tmp_path).records == 1
    store.write(make_record(run_id="published"), tmp_path, make_episodes())
    assert [record.run_id for record in store.read_all(tmp_path)[0]] == ["own-run", "published"]
    assert [record.run_id for record in store.read_all(tmp_path, own=False)[0]] == ["published"]
    assert validate(tmp_path).records == 1
    assert store.find(tmp_path, "own-run") == own
    assert (
        store.find(tmp_path / store.OWN, "published") == tmp_path / "published.json"
    )  # so it is not run again
    assert read_episodes(store.read(own), tmp_path, ["5w1s"])["5w1s"].shape == (EPISODES,)


def test_scores_of_pairs_that_are_not_pairs_are_refused(tmp_path):
    record = make_record(pools={"novel": dict.fromkeys("abcde", 60)})
    store.write(record, tmp_path, {"novel/pair_scores": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="novel/pair_scores: must have one number per pair"):
        pairs(store.read(tmp_path / f"{record.run_id}.json"), tmp_path)


def test_classes_of_episodes_that_the_class_sizes_do_not_allow(tmp_path):
    """Class sizes may be recorded wrongly; `validate` says so."""
    small = make_record(pools={"novel": dict.fromkeys("abcdefghij", 3)})
    assert common_classes([small], "5w1s") is None
