import re
from pathlib import Path

import pytest
from record_factory import make_record, metric

from bench.records import store
from bench.records.parts import Metric
from bench.reporting import reach, show, terminal
from bench.statistics import Interval
from methods.method_info import MethodInfo, Parameter
from methods.registry import available


def test_percent_shows_the_farther_end_of_the_interval():
    assert show.percent_text(Metric(value=0.5, low=0.45, high=0.52, n=9)) == "50.00 ± 5.00"
    assert show.percent_text(Metric(value=0.5, low=0.49, high=0.56, n=9)) == "50.00 ± 6.00"
    assert show.percent_text(None) == "–"


def test_the_headline_is_short_and_says_what_comes_next(tmp_path):
    record = make_record()
    lines = show.headline(record, tmp_path).splitlines()
    assert len(lines) <= show.HEADLINE and record.run_id in lines[-1]
    for name in record.episodes:
        shown = [line for line in lines if line.split()[0] == name]
        assert len(shown) == 1 and show.percent_text(record.metrics[f"fewshot/{name}"]) in shown[0]


@pytest.mark.parametrize("dataset", ["cifar100", "folder:photos", "glyphs -> hf:photos"])
def test_the_headline_of_own_images_is_for_fresh_ones_where_it_can_be(dataset, tmp_path, monkeypatch):
    record = make_record(dataset=dataset)
    fresh = {"fewshot/5w1s": Interval(0.4321, 0.3321, 0.5321, 7)}
    monkeypatch.setattr(reach, "fresh_images", lambda *_: fresh)
    lines = {line.split()[0]: line for line in show.headline(record, tmp_path).splitlines()}
    with_fresh, without = (re.split("  +", lines[name].strip())[1:] for name in ("5w1s", "5w5s"))
    known = [show.percent_text(record.metrics[f"fewshot/{name}"]) for name in ("5w1s", "5w5s")]
    if ":" in dataset:
        assert with_fresh == ["43.21 ± 10.00", "on fresh images; guessing gives 20"]
        assert without == [known[1], "on these images; guessing gives 20"]
    else:
        assert [with_fresh, without] == [[number, "guessing gives 20"] for number in known]


def test_the_headline_never_leaves_out_pairs_and_triplets(tmp_path):
    base = make_record()
    extra = {f"{way}w1s": base.episodes["5w1s"].model_copy(update={"way": way}) for way in range(6, 12)}
    record = base.model_copy(
        update={
            "episodes": base.episodes | extra,
            "metrics": base.metrics
            | {f"fewshot/{name}": Metric(**metric(0.5)) for name in extra}
            | {"novel/pair_accuracy": Metric(**metric(0.8)), "novel/triplet_accuracy": Metric(**metric(0.9))},
        }
    )
    lines = show.headline(record, tmp_path).splitlines()
    assert len(lines) == show.HEADLINE and record.run_id in lines[-1]
    assert lines[-3].split()[:3] == ["novel", "pairs", "80.00"]
    assert lines[-2].split()[:3] == ["novel", "triplets", "90.00"]
    shown = sum("guessing" in line for line in lines) - 2
    settings = sum(key.startswith("fewshot/") for key in record.metrics)
    assert lines[-4].split() == ["...", str(settings - shown), "more", "settings"]


def test_the_result_table_has_every_metric_once_and_says_what_needs_saying():
    record = make_record(
        metrics={
            "fewshot/5w1s": metric(0.7321, 0.0018, 10_000),
            "novel/pair_accuracy": metric(0.8),
            "novel/pair_accuracy_oracle": metric(0.81),
            "novel/unbalanced_pair_accuracy": metric(0.92),
        },
        constant_answer={"novel/unbalanced_pair_accuracy": 0.9},
        per_class={},
    )
    text = show.result_table(record)
    lines = {line.split()[0]: line for line in text.splitlines() if "/" in line}
    assert text.startswith("protonet (quick) on cifar100 90-10, seed 0\n")
    assert "73.21 ± 0.18" in lines["fewshot/5w1s"] and "10,000" in lines["fewshot/5w1s"]
    assert "validation's threshold" in lines["novel/pair_accuracy"]
    assert "diagnostic: best threshold" in lines["novel/pair_accuracy_oracle"]
    assert lines["novel/unbalanced_pair_accuracy"].endswith("constant answer: 90.0")
    assert lines.keys() == record.metrics.keys()
    assert all(len(line) <= 80 for line in text.splitlines())


def test_classes_stand_from_hardest_to_easiest_and_the_middle_of_many_is_left_out():
    def text(classes: int) -> str:
        names = [f"class{number:02}" for number in range(classes)]
        per_class = {name: {"fewshot/5w1s": metric(1 - i / 100, 0)} for i, name in enumerate(names)}
        return show.result_table(make_record(per_class=per_class))

    few = [line.split()[0] for line in text(20).splitlines() if line.startswith("class")]
    assert few == [f"class{number:02}" for number in reversed(range(20))]
    many = [line.split()[0] for line in text(40).splitlines() if line.startswith(("class", "..."))]
    assert many[:2] == ["class39", "class38"] and many[10] == "..." and many[-1] == "class00"
    assert len(many) == 21


def test_each_novel_class_has_its_own_accuracy_on_pairs_and_triplets():
    accuracies = {"novel/pair_accuracy": metric(0.68), "novel/triplet_accuracy": metric(0.82)}
    text = show.result_table(
        make_record(per_class={"road": accuracies, "sea": accuracies | {"x/y": metric(1)}})
    )
    heads, _, *rows = text.split("\n\n")[2].splitlines()
    assert heads.split() == ["novel", "class", *accuracies]
    assert [row.split() for row in rows] == [
        [name, "68.00", "±", "1.00", "82.00", "±", "1.00"] for name in ("road", "sea")
    ]


def test_the_page_of_a_method_has_every_hyperparameter_and_preset():
    for info in available().values():
        page = show.method_page(info)
        assert page.startswith(f"{info.name}: {info.description.splitlines()[0]}")
        assert info.paper in page
        words = " ".join(page.split())
        for parameter in info.parameters.values():
            assert f"\n{parameter.name} " in page
            assert parameter.help.split()[0] in words
        for preset in info.presets:
            assert f"\n{preset} " in page


def test_numbers_on_the_page_are_as_they_were_written():
    info = MethodInfo(
        "mine",
        "mine.py",
        description="Mine.",
        parameters={
            "rate": Parameter("rate", "float", 5e-4, ""),
            "kind": Parameter("kind", "Literal['a', 'b']", "a", ""),
        },
        presets={"quick": {"rate": 0.0}},
    )
    lines = [line.split() for line in show.method_page(info).splitlines()]
    assert ["rate", "float", "0.0005"] in lines
    assert ["kind", "a,", "b", "a"] in lines
    assert ["quick", "rate=0.0"] in lines


@pytest.mark.parametrize("what", ["methods", "splits", "datasets", "backbones", "presets"])
def test_listings_have_names(what):
    rows = show.listing(what)
    assert rows and all(row["name"] for row in rows)
    assert terminal.text(rows).splitlines()[0].startswith("name")


def test_the_list_of_runs_has_records_and_names_other_files(tmp_path):
    record = make_record()
    store.write(record, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    rows, problems = show.run_list(tmp_path)
    assert [(row["run"], row["method"]) for row in rows] == [(record.run_id, "protonet (quick)")]
    assert rows[0]["5w1s"] == show.percent_text(record.metrics["fewshot/5w1s"])
    assert show.narrow(rows) == [
        {
            "run": record.run_id,
            "track": "quick",
            "images": "384,000",
            "kept step": "2,900/3,000",
            "5w1s": "64.00",
        }
    ]
    assert [problem.startswith(f"--results {tmp_path / 'broken.json'}: ") for problem in problems] == [True]
    assert show.run_list(tmp_path / "nowhere") == ([], [])


@pytest.mark.slow
def test_the_list_of_the_committed_runs_fits_100_columns():
    rows, _ = show.run_list(Path(store.__file__).parents[2] / "results")
    kept = {row["kept step"] for row in show.narrow(rows)}
    assert {"pretrained", "–"} < kept and len(rows) > 100
    assert max(map(len, terminal.text(show.narrow(rows)).splitlines())) <= 100


def test_an_unusable_plug_in_is_listed_with_its_reason(monkeypatch):
    broken = MethodInfo("gone", "gone.module", problem="no module gone is installed")
    hidden = MethodInfo("seen", "seen", transductive=True, external_data=True)
    monkeypatch.setattr(show, "available", lambda: {"gone": broken, "seen": hidden})
    marks = [row["marks"] for row in show.listing("methods")]
    assert marks == ["unusable: no module gone is installed", "transductive, external data"]


def test_facts_are_flattened_and_big_numbers_grouped():
    facts = {
        "image_shape": [3, 32, 32],
        "images": 60000,
        "duplicates": {"within_class": {"groups": 5}},
        "ok": True,
    }
    assert show.fact_table(facts).splitlines() == [
        "image shape                       [3, 32, 32]",
        "images                            60,000",
        "duplicates: within class: groups  5",
        "ok                                True",
    ]


def test_an_empty_table_says_so():
    assert terminal.text([]) == "(none)"
