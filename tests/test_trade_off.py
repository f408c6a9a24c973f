"""The picture of what a new class costs the old ones."""

from pathlib import Path
from typing import Any

import figure_records
import numpy as np
import pytest
from record_factory import metric

from bench.records import store
from bench.reporting.figures import scatter
from bench.reporting.figures.collect import drawn
from bench.reporting.figures.picture import Picture
from bench.reporting.figures.rows import sections

STRENGTHS = {"plain": (0.46, 0.64), "weak": (0.57, 0.63), "strong": (0.9, 0.35)}
SHARED = {"steps": 10, "kept_step": 10, "images": 100, "seconds": 1.0, "processor_s": 1.0, "run_id": "plain"}


def write(
    folder: Path, name: str, novel: float, base: float, seed: int = 0, model: str = "a", **more: Any
) -> None:
    """One strength of one training, except where it is plain: that is the training."""
    digest = f"{model}{seed}" * 32
    numbers = figure_records.metrics(0.5, generalized=False)
    for shots in (1, 5):
        numbers[f"generalized/50+1/{shots}s/novel"] = metric(novel, 0.05)
        numbers[f"generalized/50+1/{shots}s/base"] = metric(base - (shots == 1) / 10)
        numbers[f"generalized/50+1/{shots}s/harmonic"] = metric(0.5)
    given = {"run_id": f"{name}-{seed}", "seed": seed, "metrics": numbers, "model": digest}
    given |= {"hyperparameters": {"finetune": name}}
    given |= {"config": {"method": "imprinted", "overrides": {} if name == "plain" else {"finetune": name}}}
    if name not in ("plain", "other"):
        timings = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 1.0, "total_s": 1.0, "steps": 0}
        given |= {"timings": timings, "images": 0, "kept_step": 0}
        given |= {"shared_training": SHARED | {"run_id": f"plain-{seed}", "model": digest}}
    figure_records.write(folder, 50, method="imprinted", **(given | more))


@pytest.fixture
def folder(tmp_path):
    for name, (novel, base) in STRENGTHS.items():
        write(tmp_path, name, novel, base)
    write(tmp_path, "other", 0.3, 0.7, model="b")
    return tmp_path


def pictures(folder: Path) -> list[Picture]:
    return [one for name, one in figure_records.pictures(folder).items() if name.endswith("trade-off")]


def test_points_are_the_records_numbers_at_5_shots(folder):
    (picture,) = pictures(folder)
    assert picture.title == "Accuracy on a class that joined and on the 50 base classes"
    with drawn(picture) as figure:
        (axes,) = figure.axes
        found = {text.get_text().replace("\n", " "): text.xy for text in axes.texts}
        assert axes.get_xlabel() == "accuracy on the 50 base classes (%)"
        assert axes.get_ylabel() == "accuracy on the class that joined (%)"
    points = {name.rpartition(":")[0]: xy for name, xy in found.items()}
    assert points == {
        "imprinted (quick, finetune=other)": pytest.approx((70, 30)),
        "imprinted (quick)": pytest.approx((64, 46)),
        "imprinted (quick, finetune=weak)": pytest.approx((63, 57)),
        "imprinted (quick, finetune=strong)": pytest.approx((35, 90)),
    }
    assert any(name.endswith(": 50.4%") for name in found)  # 2 * 90 * 35 / 125
    assert "imprinted (quick, finetune=other) novel 30.0%, base 70.0%" in picture.alt


def test_a_line_joins_the_rows_of_one_network(folder):
    (picture,) = pictures(folder)
    with drawn(picture) as figure:
        joined = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    (line,) = joined
    np.testing.assert_allclose(line.get_xydata(), [(64, 46), (63, 57), (35, 90)])


def test_seeds_are_one_point(folder):
    for seed in (1, 2):
        for name, (novel, base) in STRENGTHS.items():
            write(folder, name, novel, base + 0.03 * seed, seed)
    (section,) = sections(store.read_all(folder)[0], folder)
    points = scatter.joined_rows(section, 50)
    assert len(points) == 4 and {point.network for point in points} == {0, None}
    plain = next(point for point in points if point.label == "imprinted (quick)")
    assert plain.base.value == pytest.approx(0.67) and plain.base.low < 0.67 < plain.base.high


def test_only_classes_that_joined_in_all_rows_count(tmp_path):
    """As for a finetuned network, which fewer classes join."""
    for name, values in {"plain": (0.4, 0.6, 0.2), "other": (0.5, 0.7)}.items():
        numbers = [
            {f"generalized/50+1/5s/{part}": metric(value, 0.05) for part in ("novel", "base")}
            for value in values
        ]
        write(tmp_path, name, 0.1, 0.9, per_class={f"c{i}": own for i, own in enumerate(numbers)})
    points = scatter.joined_rows(sections(store.read_all(tmp_path)[0], tmp_path)[0], 50)
    assert [point.novel.value for point in points] == pytest.approx([0.6, 0.5])
    assert {point.novel.n for point in points} == {2}


def test_one_row_does_not_make_a_trade_off(tmp_path):
    write(tmp_path, "plain", 0.4, 0.6)
    assert not pictures(tmp_path)
