"""The best of each table with its ties, and ranks over the tables that have the same methods."""

import numpy as np
import pytest
from board_reader import NOWHERE, boards, column, render, with_columns, with_metrics
from markdown_reader import plain
from record_factory import EPISODES, make_record, metric

from bench.records import store
from bench.records.tracks import Track
from bench.reporting.leaderboard.overview import aggregates, best_of_each
from bench.reporting.ranking.rows import Row
from bench.reporting.ranking.tables import Table, tables_of
from bench.statistics import RankRange

pytestmark = pytest.mark.usefixtures("nothing_published")

SPREAD = np.random.default_rng(0).integers(-8, 9, EPISODES)


def written(folder, means: dict[str, dict[str, int]], **changes) -> list[store.Record]:
    """One record for each split and method; methods that score the same answer nearly the same."""
    found = []
    for split, own in means.items():
        for number, (method, correct) in enumerate(own.items()):
            noise = np.random.default_rng(number).integers(-1, 2, EPISODES)
            answers = np.clip(correct + SPREAD + noise, 0, 75).astype(np.uint8)
            value = float(answers.mean() / 75)
            record = make_record(
                method=method,
                split=split,
                run_id=f"{method}_{split}_{changes.get('preset', 'quick')}",
                metrics=with_metrics({"5w1s": value, "5w5s": value}),
                **changes,
            )
            arrays = {name: answers for name in ("5w1s", "5w5s", "allw1s")}
            arrays |= {f"{name}/queries": np.array(75) for name in list(arrays)}
            found.append(store.read(store.write(record, folder, arrays)))
    return found


def test_the_best_of_each_setting_and_those_tied_with_it(tmp_path):
    found = written(tmp_path, {"90-10": {"a": 30, "b": 50, "c": 50, "d": 40}})
    found.append(make_record(method="imagenet", external_data=True, metrics=with_metrics({"5w1s": 0.99})))
    [table] = with_columns(render(found, tmp_path), "tied, new episodes")
    assert column(table, "setting") == ["5w1s", "5w5s", "all-way 1-shot"]
    first = {heading: plain(text) for heading, text in table[0].items()}
    accuracies = {record.method: record.metrics["fewshot/5w1s"].value for record in found}
    winner = max("bc", key=accuracies.__getitem__)
    assert first["highest"] == f"{winner} (quick)"
    assert first["tied, new episodes"] == f"{'bc'.replace(winner, '')} (quick)"
    assert first["accuracy"] == f"{100 * accuracies[winner]:.2f} ± 1.00"
    assert first["best"] == "none" and first["rows"] == "4"
    assert first["data set"] == "cifar100" and first["split"] == "90-10"


def test_many_ties_are_counted(tmp_path):
    found = written(tmp_path, {"90-10": {f"m{i}": 40 for i in range(9)}})
    [table] = with_columns(render(found, tmp_path), "tied, new episodes")
    named = [plain(table[0]["highest"]), *plain(table[0]["tied, new episodes"]).split("), ")]
    assert {name.rstrip(")") for name in named[:4]} < {f"m{i} (quick" for i in range(9)}
    assert named[4:] == ["5 more"]


def test_of_two_protocols_the_newer_counts_and_equal_names_are_told_apart():
    found = [
        make_record(method="old", run_id="a"),
        make_record(method="new", run_id="b", protocol_version=2),
        make_record(method="elsewhere", run_id="c", fingerprint="cd" * 32),
    ]
    [table] = with_columns(render(found), "tied, new episodes")
    assert column(table, "best")[::3] == ["new (quick)", "elsewhere (quick)"]
    assert column(table, "split")[::3] == ["90-10 abababababab", "90-10 cdcdcdcdcdcd"]


def test_ranks_are_averaged_over_the_tables_that_have_all_methods(tmp_path):
    found = written(
        tmp_path,
        {
            "90-10": {"a": 50, "b": 40, "c": 30},
            "80-20": {"a": 30, "b": 40, "c": 20, "seldom": 60},
            "70-30": {"a": 50, "b": 30, "c": 40},
            "60-40": {"a": 40},
        },
    )
    text = render(found, tmp_path)
    [table] = with_columns(text, "rank", "tables")
    # The row of `seldom` does not count: a is 1st, 2nd and 1st of three.
    assert column(table, "method") == ["a (quick)", "b (quick)", "c (quick)", "seldom (quick)"]
    assert column(table, "rank") == ["1.3 (1.3–1.3)", "2.0 (2.0–2.0)", "2.7 (2.7–2.7)", "–"]
    assert column(table, "in 5w5s") == column(table, "in 5w1s") == column(table, "rank")
    assert column(table, "tables") == ["3 of 3", "3 of 3", "3 of 3", "1 of 3, incomplete"]
    assert "Counted: `cifar100` `70-30`, `cifar100` `80-20`, `cifar100` `90-10`." in text
    assert "have no row there: `cifar100` `60-40`." in text


def test_ties_leave_the_aggregate_open(tmp_path):
    found = written(tmp_path, {split: {"a": 40, "b": 40, "c": 20} for split in ("90-10", "80-20")})
    [table] = with_columns(render(found, tmp_path), "rank", "tables")
    brackets = [rank.split()[1] for rank in column(table, "rank")]
    assert brackets == ["(1.0–2.0)", "(1.0–2.0)", "(3.0–3.0)"]


def test_variations_are_neither_best_nor_do_they_make_a_method_incomplete(tmp_path):
    found = written(tmp_path, {split: {"a": 50, "b": 40} for split in ("90-10", "80-20")})
    changed = {"config": {"overrides": {"steps": 9000}}}
    text = render([*found, *written(tmp_path, {"90-10": {"c": 70}}, **changed)], tmp_path)
    [best] = with_columns(text, "tied, new episodes")
    assert set(column(best, "highest")) == {"a (quick)"} and set(column(best, "rows")) == {"2"}
    [ranks] = with_columns(text, "rank", "tables")
    assert column(ranks, "method") == ["a (quick)", "b (quick)"]
    assert "c (quick, steps=9000)" in {name for table in boards(text) for name in column(table, "method")}


def test_presets_are_not_mixed(tmp_path):
    splits = {split: {"a": 40, "b": 30} for split in ("90-10", "80-20")}
    found = written(tmp_path, splits) + written(tmp_path, splits, preset="standard")
    text = render(found, tmp_path)
    assert [len(table) for table in with_columns(text, "rank", "tables")] == [2, 2]
    assert (
        "### Track `quick`, `conv4`, 2 tables" in text and "### Track `standard`, `conv4`, 2 tables" in text
    )


def test_one_table_is_no_aggregate(tmp_path):
    text = render(written(tmp_path, {"90-10": {"a": 40, "b": 30}, "80-20": {"c": 1}}), tmp_path)
    assert "None yet: this needs two methods" in text
    assert with_columns(text, "rank", "tables") == []


def test_rows_without_every_aggregated_setting_do_not_count(tmp_path):
    found = [
        record.model_copy(
            update={"metrics": {k: v for k, v in record.metrics.items() if k != "fewshot/5w5s"}}
        )
        for record in written(tmp_path, {split: {"a": 40, "b": 30} for split in ("90-10", "80-20")})
    ]
    tables = tables_of(found, tmp_path)
    assert aggregates(tables) == []
    assert list(best_of_each(tables)["setting"]) == [("5w1s",), ("all-way 1-shot",)] * 2


def test_of_two_rows_of_one_configuration_the_newer_counts():
    def row(accuracy: float, hour: int, parameters: int) -> Row:
        record = make_record(
            run_id=f"r{hour}{parameters}",
            created=f"2025-03-01T{hour:02}:00:00Z",
            parameters=parameters,
            metrics={"fewshot/5w1s": metric(accuracy), "fewshot/5w5s": metric(accuracy)},
        )
        [made] = tables_of([record], NOWHERE)[0].rows
        made.ranks = {name: RankRange(1, 3) for name in ("5w1s", "5w5s")}
        return made

    better = {name: np.zeros((3, 3), dtype=bool) for name in ("5w1s", "5w5s")}
    other = row(0.5, 1, 1)
    other.records = [other.first.model_copy(update={"method": "other"})]
    track = Track("quick", "conv4", 384_000)
    tables = [Table([row(0.9, 1, 1), row(0.1, 2, 2), other], track, better=better) for _ in range(2)]
    [aggregate] = aggregates(tables)
    assert [row.first.method for row in aggregate.rows.values()] == ["other", "protonet"]
    assert [aggregate.ranks["rank"][name, "5w1s"] for name in aggregate.rows] == [1, 2]
