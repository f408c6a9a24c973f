"""Records as a DataFrame: a row each, with everything that a table of runs is made from."""

import subprocess
import sys

import pandas as pd
import pytest
from record_factory import make_record, metric, record_fields

import bench
from bench.common.errors import UserError
from bench.records import store
from bench.reporting.frame import frame


@pytest.fixture
def folder(tmp_path):
    started = {"hyperparameters": {"init": "pretrained"}, "config": {"overrides": {"init": "pretrained"}}}
    failed = {"metrics": {}, "per_class": {}, "failure": "its loss became NaN"}
    for record in (
        make_record(),
        make_record(method="maml", transductive=True, **started),
        make_record(method="other", metrics={"novel/pair_auc": metric(0.9)}, images=None),
        make_record(method="broken", **failed),
    ):
        store.write(record, tmp_path)
    return tmp_path


def test_a_row_says_what_its_record_says(folder):
    found = bench.results(folder).set_index("method")
    assert isinstance(found, pd.DataFrame) and list(found.index) == ["broken", "maml", "other", "protonet"]
    row = found.loc["protonet"]
    assert row["run_id"] == make_record().run_id and row["name"] == "protonet (quick)"
    assert row["track"] == "quick, conv4, 384,000 images"
    assert (row["dataset"], row["split"], row["preset"], row["seed"]) == ("cifar100", "90-10", "quick", 0)
    assert (row["fewshot/5w1s"], row["fewshot/5w1s.low"], row["fewshot/5w1s.high"]) == (0.64, 0.63, 0.65)
    assert (row["images"], row["training_seconds"], row["marks"]) == (384_000, 2 * 594.2, "")
    assert row["command"] == record_fields()["command"]
    assert found.loc["maml", "start"] == "pretrained" and found.loc["maml", "marks"] == "transductive"


def test_what_a_run_does_not_have_is_missing(folder):
    found = bench.results(folder).set_index("method")
    assert pd.isna(found.loc["other", "fewshot/5w1s"]) and pd.isna(found.loc["protonet", "novel/pair_auc"])
    assert found.loc["other", "novel/pair_auc"] == 0.9
    assert pd.isna(found.loc["other", "track"]) and pd.isna(found.loc["other", "images"])
    assert found.loc["broken", "failure"] == "its loss became NaN" and pd.isna(found.loc["broken", "track"])


def test_numbers_are_numbers_and_settings_stand_by_size(folder):
    keys = [f"fewshot/{name}" for name in ("10w1s", "5w1s", "5w10s", "5w5s")]
    lists = {key.split("/")[1]: record_fields()["episodes"]["5w1s"] for key in keys}
    found = frame([make_record(metrics=dict.fromkeys(keys, metric(0.5)), episodes=lists)])
    assert [name for name in found if name in keys] == [keys[i] for i in (1, 3, 2, 0)]
    assert all(pd.api.types.is_numeric_dtype(found[key]) for key in (*keys, "images", "seed"))
    assert pd.api.types.is_datetime64_any_dtype(found["created"])


def test_a_file_that_is_not_a_record_is_left_out_with_a_warning(folder):
    (folder / "bad.json").write_text("{")
    with pytest.warns(UserWarning, match="bad.json"):
        found = bench.results(folder)
    assert len(found) == 4
    with pytest.raises(UserError, match="--results"):
        bench.results(folder / "nowhere")


def test_an_empty_folder_still_has_the_columns(tmp_path):
    found = bench.results(tmp_path)
    assert found.empty and {"run_id", "track", "failure"} <= set(found)


def test_it_is_imported_when_it_is_used():
    code = """
import bench, sys
print(set(bench.__all__) - set(dir(bench)), {"pandas", "numpy", "torch"} & set(sys.modules))
bench.results; bench.nothing
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set() set()\n"
    assert done.stderr.strip().endswith("AttributeError: module 'bench' has no attribute 'nothing'")
