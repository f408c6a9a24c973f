"""All of a small study trains."""

from pathlib import Path

import pytest
from command_line import bench, write_images

from bench.records import store
from bench.records.identity import name_of

pytestmark = [pytest.mark.slow, pytest.mark.soak]  # test_siamese_triplet has each mining by hand
STUDIES = Path(__file__).parents[1] / "studies"
MININGS = ("soft", "semihard", "hard", "all", "random")


def test_each_mining_trains_and_its_row_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("images"), classes=16, each=40)
    answer = bench(
        "run", "--config", STUDIES / "minings.yaml", "--preset", "smoke", "--steps", 2, "--device", "cpu",
        "--dataset", "folder:images", "--image-size", "16", "--split", "50-50", "--measure", "pairs",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    found, problems = store.read_all(Path("results"))
    assert not problems and {record.timings.steps for record in found} == {2}
    assert len({record.metrics["novel/pair_auc"].value for record in found}) > 1
    names = {record.hyperparameters["mining"]: name_of(record) for record in found}
    assert set(names) == set(MININGS)
    assert all(f"mining={mining}" in name for mining, name in names.items())
