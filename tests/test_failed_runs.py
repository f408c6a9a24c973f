"""Runs that failed are named everywhere and ranked nowhere."""

import pytest
from board_reader import boards, column, render
from command_line import bench, complaint
from pydantic import ValidationError
from record_factory import make_episodes, make_record, metric

from bench.records import store

WHY = "diverged in training: the loss is <b>not</b> finite at step 7"
FAILED = {
    "method": "unlucky",
    "run_id": "unlucky",
    "metrics": {},
    "per_class": {},
    "episodes": {},
    "constant_answer": {},
    "failure": WHY,
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store.write(make_record(run_id="good"), tmp_path / "results", make_episodes())
    store.write(make_record(**FAILED), tmp_path / "results")
    return tmp_path / "results"


def test_a_failed_run_has_no_numbers():
    assert make_record(**FAILED).failure == WHY
    with pytest.raises(ValidationError, match="failure: such a run must not have metrics"):
        make_record(**FAILED | {"metrics": {"novel/pair_auc": metric(0.5)}})


def test_the_leaderboard_names_it_and_gives_it_no_rank(results):
    text = render(store.read_all(results)[0], results)
    (board,) = boards(text)
    assert [name for name in column(board, "method") if "unlucky" in name] == []
    section = text.split("## Failed runs")[1]
    assert "`unlucky (" in section and "&lt;b&gt;not&lt;/b&gt;" in section and "<b>" not in section
    assert "Failed runs" not in render([make_record()])


def test_smoke_runs_that_failed_are_not_named():
    assert "Failed" not in render([make_record(**FAILED, preset="smoke")])


@pytest.mark.slow
def test_commands_say_that_it_failed(results):
    assert "failed" in bench("list", "runs", "--results", results).out
    shown = bench("show", "unlucky", "--results", results)
    assert shown.code == 0 and f"Failed: {WHY}" in shown.out and "Numbers" not in shown.out
    assert complaint("compare", "good", "unlucky", "--results", results).startswith(
        f"compare unlucky: unlucky failed: {WHY}"
    )
    validated = bench("validate", "--results", results)
    assert "unlucky" not in validated.out
    report = bench("report", "--results", results, "--output", "page.html")
    assert report.code == 0, report.err
