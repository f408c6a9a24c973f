"""Runs that failed are named everywhere and ranked nowhere."""

import pickle
from pathlib import Path

import pytest
from board_reader import boards, column, render
from command_line import bench, complaint
from pydantic import ValidationError
from record_factory import make_episodes, make_record, metric

from bench import run as bench_run
from bench.common.clock import Spent
from bench.common.errors import UserError
from bench.records import store
from bench.run.outcome import Failed

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


def test_a_failure_crosses_processes_whole():
    failed = Failed("pretraining", "its loss became NaN", 7, Path("best"), Spent(3, 4), Spent(1, 2))
    again = pickle.loads(pickle.dumps(failed))
    assert str(again) == str(failed) and "diverged in pretraining: its loss became NaN; " in str(again)
    assert (again.steps, again.spent, again.earlier) == (7, Spent(3, 4), Spent(1, 2))


def test_python_raises_what_the_command_line_says(monkeypatch):
    monkeypatch.setattr("bench.api.runs.run_all", lambda *_: [(Path("r.json"), make_record(**FAILED))])
    with pytest.raises(UserError) as caught:
        bench_run("protonet", dataset="glyphs", preset="smoke")
    assert str(caught.value) == f"method protonet: {WHY} (recorded in r.json)"


def test_of_several_failed_runs_each_is_named(monkeypatch):
    names = "protonet", "reptile"
    failed = [(Path(f"{name}.json"), make_record(**FAILED | {"method": name})) for name in names]
    monkeypatch.setattr("bench.run.runner.run_all", lambda *_: failed)
    answer = bench("run", "--method", ",".join(names), "--dataset", "glyphs", "--preset", "smoke")
    assert (answer.code, answer.out) == (2, "protonet.json\nreptile.json\n")
    said = [f"error: --method {name}: {WHY} (recorded in {name}.json)" for name in names]
    assert answer.err.splitlines() == said
