"""The numbers of docs/statistics.md, except those of coverage (tests/statistics/test_coverage.py)."""

from collections import Counter
from pathlib import Path

import pytest
from markdown_reader import cells, plain

from bench.config.run_config import method_info, resolve
from bench.records.store import read
from bench.reporting.blocks import percent
from bench.reporting.reach import reaches
from bench.statistics.student import t_quantile
from benchmarks import tune
from methods import registry
from methods.pretraining import Pretraining

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
RECORD = ROOT / "results" / "siamese-triplet_cifar100_90-10_standard_s0_559cc747.json"
KEYS = {"5w1s": "fewshot/5w1s", "5w5s": "fewshot/5w5s", "novel triplets": "novel/triplet_accuracy"}


def shown(interval, digits):
    return percent(*interval[:3], digits)[0] if interval else "–"


@pytest.mark.slow
def test_the_three_intervals_of_one_run():
    (table,) = (one for one in cells(PAGE) if one[0][0] == "metric")
    record = read(RECORD)
    own = {one.metric: one for one in reaches(record, RECORD.parent)}
    for name, *said in table[1:]:
        key = KEYS[plain(name)]
        metric = record.metrics[key]
        closed = percent(metric.value, metric.low, metric.high)[0]
        assert said == [closed, shown(own[key].fresh_images, 1), shown(own[key].new_classes, 1)]
    of_classes = sorted(100 * one["fewshot/5w1s"].value for one in record.per_class.values())
    images = f"{record.classes.novel_images:,} images"
    assert f"measure this model on these {images} very precisely. Ten classes" in TEXT
    assert f"the easiest reaches {of_classes[-1]:.0f}%, the hardest {of_classes[0]:.0f}%" in TEXT


def test_how_large_a_difference_must_be_over_classes():
    ten, twenty = (t_quantile(n - 1, 0.95) / n**0.5 for n in (10, 20))
    assert (
        f"about {ten:.2f} times as large as its standard deviation over classes ({twenty:.2f} times" in TEXT
    )


def test_trials_are_counted_in_the_log():
    rows = tune.logged(tune.LOG)
    early = Counter(row["method"] for row in rows if not row["plan"])
    assert {"easy"} == set(registry.available()) - set(early)
    most = early.pop("finetune")
    span = f"{min(early.values())} to {max(early.values())} per method"
    assert f"{span}, {most} for `finetune`, none for `easy`" in TEXT
    of_anil = [row for row in rows if row["plan"] == "trials" and row["method"] == "anil"]
    best = max(of_anil, key=lambda row: float(row["validation_accuracy"]))
    assert len(of_anil) == 4 and best["changes"] == "steps=160"
    assert "The preset of `anil` from scratch was the best of its four." in TEXT


def test_trials_of_test_only_hyperparameters_are_in_the_log():
    rows = tune.logged(tune.LOG)
    steps = str(resolve({"method": "finetune", "preset": "quick"}, {}, {}).hyperparameters["steps"])
    whole = [row for row in rows if row["method"] == "finetune" and row["steps"] == steps]
    assert f"`finetune` {len(whole)}, with both heads, on its network of `quick`" in TEXT
    joins = [row for row in rows if row["changes"].startswith("--score harmonic")]
    assert {(row["method"], row["steps"], row["commit"][-1]) for row in joins} == {("imprinted", "250", "+")}
    without, *others = (row["validation_accuracy"] for row in joins)
    said = f"{without} without finetuning and {', '.join(others[:-1])} and {others[-1]} with increasing"
    assert f"`imprinted` {len(joins)}, scored by" in TEXT and said in TEXT
    untuned = {
        name: info.test_only for name, info in registry.available().items() if "test_steps" in info.test_only
    }
    assert not [row for row in rows if row["method"] in untuned and "test_steps" in row["changes"]]
    quick = {
        (method, start): resolve({"method": method, "preset": "quick"}, {}, {"init": start}).hyperparameters
        for method in untuned
        for start in ("scratch", "pretrained")
    }
    own = {key: hyperparameters["test_steps"] for key, hyperparameters in quick.items()}
    assert own["maml", "scratch"] == own["anil", "scratch"] == own["anil", "pretrained"] == 10
    after = f"is {own['maml', 'pretrained']} for `maml` and {own['reptile', 'pretrained']} for `reptile`"
    assert f"10 for `maml` and `anil` and {own['reptile', 'scratch']} for `reptile`" in TEXT and after in TEXT


def test_presets_of_the_early_probes():
    quick = resolve({"method": "siamese_triplet", "preset": "quick"}, {}, {}).hyperparameters
    assert (
        "`siamese_triplet`: `mining={mining}`, {classes} classes of {images} images, temperature".format(
            **quick
        )
        in TEXT
    )
    assert (
        f"temperature {quick['temperature']}, peak learning rate {quick['learning_rate']} in `quick`" in TEXT
    )
    classifier = Pretraining(1)
    assert (
        f"scale {classifier.scale:g}, peak learning rate {classifier.learning_rate}, weight decay 5e-4"
        in TEXT
    )
    assert quick["weight_decay"] == classifier.weight_decay == 5e-4 and classifier.images == 128
    for method in ("nearest_centroid", "logistic_head", "finetune"):
        own = method_info(method).parameters
        assert own["learning_rate"].default == classifier.learning_rate and own["images"].default == 128
