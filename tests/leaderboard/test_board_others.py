"""Generalized accuracy and published results: beside the ranked rows, never among them."""

import csv
from importlib.resources import files

from board_reader import as_html, boards, column, render, tables, with_columns, with_metrics
from markdown_reader import plain
from record_factory import make_record, metric

from bench.reporting.blocks import NOTHING, table, without_empty_columns
from bench.reporting.published import HEADINGS, published


def joined(base: int, new: int, values: dict[int, float]) -> dict:
    """Metrics of novel classes joining; the harmonic mean is 1/10 above the novel accuracy."""
    found = {f"generalized/{base}+{new}/0s/base": metric(0.8)} if new == 1 else {}
    for shots, novel in values.items():
        key = f"generalized/{base}+{new}/{shots}s"
        numbers = {"novel": novel, "base": 0.7, "all": 0.6, "harmonic": novel + 0.1}
        found |= {f"{key}/{name}": metric(value) for name, value in numbers.items()}
    return found


def record(method: str, metrics: dict, **changes):
    return make_record(method=method, metrics=with_metrics({}) | metrics, **changes)


def test_classes_that_join_have_tables_of_their_own():
    first = joined(90, 1, {1: 0.2, 10: 0.4}) | joined(90, 10, {5: 0.1})
    text = render([record("first", first), record("second", joined(90, 1, {1: 0.3, 10: 0.35}))])
    one, every = with_columns(text, "shots", "harmonic")
    assert column(one, "shots") == ["1", "1", "10", "10"]
    assert column(one, "method") == [f"{name} (quick)" for name in ("second", "first", "first", "second")]
    assert column(one, "novel") == ["30.0 ± 1.0", "20.0 ± 1.0", "40.0 ± 1.0", "35.0 ± 1.0"]
    assert (one[0]["base"], one[0]["all"], one[0]["harmonic"], one[0]["before"]) == (
        "70.0 ± 1.0",
        "60.0 ± 1.0",
        "40.0 ± 1.0",
        "80.0 ± 1.0",
    )
    assert [{heading: plain(cell) for heading, cell in row.items()} for row in every] == [
        {
            "shots": "5",
            "method": "first (quick)",
            "novel": "10.0 ± 1.0",
            "base": "70.0 ± 1.0",
            "all": "60.0 ± 1.0",
            "harmonic": "20.0 ± 1.0",
        }
    ]
    assert "#### 90+1 classes" in text and "#### 90+10 classes" in text


def test_seeds_are_averaged_and_marks_kept():
    runs = [
        make_record(
            seed=seed,
            transductive=True,
            metrics=with_metrics({}) | joined(90, 1, {1: 0.2 + 0.1 * seed}),
        )
        for seed in range(2)
    ]
    [[row]] = with_columns(render(runs), "shots", "harmonic")
    assert row["novel"].startswith("25.0 ±") and row["marks"] == "transductive, 2 seeds"


def test_a_changed_setting_is_named_with_the_method():
    changed = {"config": {"overrides": {"finetune": True}}, "run_id": "changed"}
    text = render([record("m", joined(40, 1, {1: 0.2})), record("m", joined(40, 1, {1: 0.3}), **changed)])
    [table] = with_columns(text, "shots", "harmonic")
    ours = [(plain(row["method"]), row["novel"]) for row in table if "published" not in row["method"]]
    assert ours == [("m (quick, finetune=true)", "30.0 ± 1.0"), ("m (quick)", "20.0 ± 1.0")]


def test_the_published_row_stands_beside_ours_after_40_classes():
    text = render([record("imprinted", joined(40, 1, {1: 0.1, 20: 0.2}))])
    [table] = with_columns(text, "shots", "harmonic")
    assert column(table, "shots") == ["1"] * 3 + ["5"] * 2 + ["10"] * 2 + ["20"] * 3
    assert [plain(row["method"]) for row in table[:3]] == [
        "imprinted (quick)",
        "Imprinted weights (as published)",
        "Imprinted weights + finetuning (as published)",
    ]
    assert column(table, "novel")[:3] == ["10.0 ± 1.0", "12.6 ± 2.5", "29.5 ± 2.5"]
    assert (
        plain(table[1]["marks"])
        == "seeds/001 (starts from an ImageNet ResNet-18 at 224 px): imprinted class accuracy"
    )
    glyphs = render([record("imprinted", joined(40, 1, {1: 0.1}), dataset="glyphs")])
    assert column(with_columns(glyphs, "shots", "harmonic")[0], "method") == ["imprinted (quick)"]


def test_published_rows_stand_below_the_table_of_their_split_and_are_not_ranked():
    text = render([make_record(split="cifar-fs")])
    assert column(boards(text)[0], "method") == ["protonet (quick)"]
    [table] = with_columns(text, "source", "5w5s")
    assert "rank" not in table[0]
    named = {plain(row["method"]): row for row in table if plain(row["backbone"]) == "resnet12"}
    assert (named["ProtoNet"]["5w1s"], named["ProtoNet"]["5w5s"]) == ("72.2 ± 0.7", "83.5 ± 0.5")
    assert plain(named["RFS-distill"]["source"]) == "Tian et al. 2020"
    assert {plain(row["setting"]) for row in table} >= {
        "inductive",
        "inductive, second-hand",
        "transductive, second-hand",
        "external-data",
    }
    # It says so once, here, and not again at the end.
    assert text.count("MetaOptNet-SVM") == 2 and "fc100" in text.split("## Published, without")[1]


def test_every_published_number_is_shown_whatever_the_records():
    text = render([])
    shown = as_html(text.replace("## Published, without a row of ours", "## P"))
    with (files("bench.reporting") / "published.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 76 + 99
    for line in lines:
        assert line["metric"] in HEADINGS
        assert float(line["value"]) <= 100
        number = f"{line['value']} ± {line['ci95']}" if line["ci95"] else line["value"]
        assert f">{number}</td>" in shown
    found = tables(text.replace("## Published, w", ""))
    methods = {cell for table in found for cell in column(table, "method")}
    assert methods == {line["method"] for line in lines}


def test_the_file_says_what_its_sources_say():
    rows = {(row.method, row.backbone, row.split): row for row in published()}
    assert rows["ProtoNet", "resnet12", "cifar-fs"].values["fewshot/5w1s"] == ("72.2", "0.7")
    measured = rows["Siamese triplet (re-measured)", "resnet56", "90-10"].values
    assert measured["fewshot/allw1s"] == ("50.38", "") and measured["novel/pair_auc"] == ("84.93", "")
    assert rows["Siamese triplet (as published)", "resnet56", "90-10"].values == {
        "novel/unbalanced_pair_accuracy": ("83.06", "")
    }
    assert rows["SKD-GEN0", "resnet12", "cifar-fs"].values == {
        "fewshot/5w1s": ("74.5", ""),
        "fewshot/5w5s": ("88.0", ""),
    }
    assert rows["ProtoNet", "conv4-64", "fc100"].values["fewshot/5w5s"] == ("48.6", "0.6")
    reptile = rows["Siamese triplet + Reptile (as published)", "resnet56", "90-10"]
    assert "500 labelled images" in reptile.setting
    assert reptile.values == {
        "base/triplet_accuracy": ("73.44", ""),
        "novel/triplet_accuracy": ("80.00", ""),
    }
    imprinted = [row for row in published() if row.source.startswith("seeds/001")]
    assert len(imprinted) == 2 and all("external-data" in row.setting for row in imprinted)
    assert all(row.source and row.setting for row in published())


def test_only_columns_that_say_nothing_go():
    shown = table([{"a": ("1",), "c": NOTHING}, {"a": ("2",), "b": ("3",), "c": NOTHING}])
    grid = without_empty_columns(shown, 1)
    assert grid.columns == {"a": [("1",), ("2",)], "b": [NOTHING, ("3",)]}
    assert list(without_empty_columns(table([{"a": NOTHING}]), 1).columns) == ["a"]
