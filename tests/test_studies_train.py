"""The grids of studies/: what they hold, what each run sees, and that all of a small one trains."""

import json
from collections import Counter
from pathlib import Path

import pytest
from command_line import bench, write_images

from bench.config.grid import build
from bench.config.run_config import RunConfig, method_info
from bench.records import store
from bench.records.identity import name_of
from methods import registry
from methods.backbones import build as backbone

STUDIES = Path(__file__).parents[1] / "studies"
QUICK = 409_600
MININGS = ("soft", "semihard", "hard", "all", "random")


def grid(name: str) -> list[RunConfig]:
    return build(STUDIES / f"{name}.yaml", {}, {})


def images_seen(config: RunConfig) -> int:
    """Training images of a run, its pretraining included."""
    method_class = registry.load(method_info(config.method))
    method = method_class(
        backbone(config.backbone), method_class.Hyperparameters(**config.hyperparameters), 64
    )
    stage, own = method.pretraining, method.training_steps
    before = stage.steps * stage.images if stage else 0
    return before + (own * method.batches().size if own else 0)


@pytest.mark.parametrize("name", ["finetune", "minings", "siamese_reptile"])
def test_every_run_sees_as_many_images(name):
    runs = grid(name)
    assert {run.preset for run in runs} == {"quick"} and {run.seed for run in runs} == {0}
    assert [images_seen(run) for run in runs] == pytest.approx([QUICK] * len(runs), rel=0.001)


def test_minings_are_five_and_alike_in_all_else():
    runs = grid("minings")
    assert [run.hyperparameters["mining"] for run in runs] == list(MININGS)
    assert len({json.dumps(run.hyperparameters | {"mining": 0}) for run in runs[:4]}) == 1
    assert (
        runs[0].hyperparameters
        == build(None, {"method": ["siamese_triplet"], "preset": "quick"}, {})[0].hyperparameters
    )


def test_finetuning_has_both_heads_and_resnet18_on_the_main_splits():
    runs = grid("finetune")
    found = Counter(
        (run.backbone, run.hyperparameters["head"], run.hyperparameters["adapt_layers"]) for run in runs
    )
    small, large = ("conv4", "timm:resnet18")
    kinds = [
        (small, "cosine", "head"),
        (small, "linear", "head"),
        (large, "linear", "head"),
        (large, "linear", "all"),
    ]
    assert found == {kind: 3 for kind in kinds}
    assert {run.split for run in runs} == {"90-10", "cifar-fs", "fc100"}
    assert not any(run.hyperparameters["pretrained"] for run in runs)


def test_siamese_reptile_is_there_with_and_without_the_source_s_test():
    few_shot, learned = grid("siamese_reptile")
    assert not few_shot.hyperparameters["adapt_to_class"] and learned.hyperparameters["adapt_to_class"]
    assert few_shot.hyperparameters | {"adapt_to_class": True} == learned.hyperparameters


def test_each_mining_trains_and_its_row_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    write_images(Path("images"), classes=16, each=40)
    answer = bench(
        "run", "--config", STUDIES / "minings.yaml", "--preset", "smoke", "--steps", 2, "--device", "cpu",
        "--dataset", "folder:images", "--split", "50-50", "--measure", "pairs",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    found, problems = store.read_all(Path("results"))
    assert not problems and {record.timings.steps for record in found} == {2}
    assert len({record.metrics["novel/pair_auc"].value for record in found}) > 1
    names = {record.hyperparameters["mining"]: name_of(record) for record in found}
    assert set(names) == set(MININGS)
    assert all(f"mining={mining}" in name for mining, name in names.items())
