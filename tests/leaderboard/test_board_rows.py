"""What a row of the leaderboard shows, the order of rows, and the table that a record belongs to."""

import re

import pytest
from board_reader import boards, column, render, with_metrics
from markdown_reader import plain
from record_factory import make_record

from bench.reporting import blocks
from bench.statistics import Interval

pytestmark = pytest.mark.usefixtures("nothing_published")


def test_a_row_shows_everything():
    [[row]] = boards(render([make_record()]))
    assert {heading: plain(cell) for heading, cell in row.items()} == {
        "rank": "1",
        "method": "protonet (quick)",
        "5w1s": "64.00 ± 1.00",
        "5w5s": "77.00 ± 1.00",
        "all-way 1-shot": "51.00 ± 1.00",
        "novel pairs": "76.7 ± 1.0",
        "novel triplets": "83.4 ± 1.0",
        "base pairs": "80.0 ± 1.0",
        "base triplets": "87.6 ± 1.0",
        "seeds": "1 †",
        "images": "384,000",
        "pretraining": "none",
        "kept step": "2,900 of 3,000",
        "time (threads)": "10 min 10 s wall (2)",
        "date": "2025-03-01",
    }


def test_numbers_that_a_run_does_not_have_are_dashes():
    metrics = with_metrics({})
    for key in ("base/pair_accuracy", "base/triplet_accuracy", "fewshot/5w1s"):
        del metrics[key]
    [[_, row]] = boards(render([make_record(), make_record(method="less", metrics=metrics)]))
    assert row["base pairs"] == row["base triplets"] == row["5w1s"] == row["rank"] == "–"
    assert row["5w5s"] == "77.00 ± 1.00"


def test_columns_that_no_row_has_are_left_out():
    full = {"novel/pair_auc": (0.849, 0.84, 0.858), "novel/pair_eer": (0.23, 0.22, 0.24)}
    extra = {key: Interval(*ends, 9)._asdict() for key, ends in full.items()}
    [[few], [more]] = (boards(render([make_record(metrics=with_metrics({}) | own)])) for own in ({}, extra))
    assert more[0].keys() - few[0].keys() == {"AUC", "EER"}
    assert (more[0]["AUC"], more[0]["EER"]) == ("84.9 ± 0.9", "23.0 ± 1.0")


def test_rows_are_ordered_by_5w1s_and_rows_without_it_come_last():
    metrics = with_metrics({})
    del metrics["fewshot/5w1s"]
    rows = [
        make_record(method="middle", metrics=with_metrics({"5w1s": 0.6})),
        make_record(method="a-without", metrics=metrics),
        make_record(method="best", metrics=with_metrics({"5w1s": 0.7})),
        make_record(method="worst", metrics=with_metrics({"5w1s": 0.5})),
    ]
    [table] = boards(render(rows))
    assert [name.split()[0] for name in column(table, "method")] == ["best", "middle", "worst", "a-without"]


def test_smoke_runs_are_never_shown():
    text = render([make_record(preset="smoke")])
    assert boards(text) == [] and "No results yet." in text and "Not in the tables: 1 smoke run." in text
    [table] = boards(render([make_record(preset="smoke"), make_record()]))
    assert column(table, "method") == ["protonet (quick)"]


def test_one_section_for_each_split_and_one_table_for_each_protocol():
    text = render(
        [
            make_record(split="100-0", run_id="a"),
            make_record(split="90-10", run_id="b"),
            make_record(split="90-10", protocol_version=2, run_id="c"),
            make_record(split="20-80", run_id="d"),
            make_record(split="90-10", fingerprint="cd" * 32, run_id="e"),
            make_record(dataset="aardvarks", run_id="f"),
        ]
    )
    assert re.findall(r"^## (.*? split .*?):", text, re.MULTILINE) == [
        "`aardvarks` split `90-10`",
        "`cifar100` split `20-80`",
        "`cifar100` split `90-10`",
        "`cifar100` split `90-10`",
        "`cifar100` split `100-0`",
    ]
    assert re.findall("^### .*protocol (.*)", text, re.MULTILINE) == ["1", "1", "2", "1", "1", "1"]
    assert "90 base / 0 validation / 10 novel classes" in text
    assert "Fingerprint `abababababab`" in text and "Fingerprint `cdcdcdcdcdcd`" in text
    assert all(len(table) == 1 for table in boards(text))


def test_marks():
    record = make_record(
        external_data=True,
        transductive=True,
        trained=False,
        weights="12" * 32,
        config={"overrides": {"steps": 200, "backbone": "conv4", "milestones": [1, 2]}},
    )
    [[row]] = boards(render([record]))
    assert plain(row["marks"]) == ("external data, transductive")
    assert plain(row["method"]) == (
        "protonet (quick, backbone=conv4, milestones=[1, 2], steps=200, weights=12121212, no training)"
    )
    assert "time (threads)" not in row and "rank" not in row


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (594.2, "9 min 54 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert blocks.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (112_832, "113 k"),
        (999_499, "999 k"),
        (999_999, "1.0 M"),
        (2_000_000, "2.0 M"),
        (12_424_320, "12.4 M"),
    ],
)
def test_parameter_count(number, text):
    assert blocks.parameter_count(number) == text
