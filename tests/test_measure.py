"""What a run measures: all of it, little of it in smoke runs, or what --measure names."""

import json
from pathlib import Path

import pytest
from board_reader import boards, column
from command_line import bench, complaint, write_images
from small_budget import small_budget

from bench.evaluation import generalized
from bench.records import identity, store

pytestmark = pytest.mark.slow
CLASSES, EACH = 12, 40
RUN = [
    "run", "--dataset", "folder:images", "--image-size", "16", "--split", "50-50", "--steps", "6",
    "--backbone", "conv4", "--device", "cpu",
]  # fmt: skip
PROTONET = [*RUN, "--method", "protonet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("measure")
    write_images(made / "images", CLASSES, EACH)
    return made


@pytest.fixture(autouse=True)
def workspace(folder, monkeypatch, unquestioned):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FEWSHOT_CACHE", str(folder / "cache"))


def made(*flags: str, method: str = "protonet") -> store.Record:
    answer = bench(*RUN, "--method", method, *flags)
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


def groups(record: store.Record) -> set[str]:
    """Names of what was measured, as --measure has them."""
    kinds = {"pair": "pairs", "unbalanced": "pairs", "triplet": "triplets"}
    found = set()
    for key in record.metrics:
        kind, name = key.split("/")[:2]
        found.add({"fewshot": name, "generalized": kind}.get(kind) or kinds[name.split("_")[0]])
    return found


@pytest.mark.parametrize("method, most, draws", [("reptile", 20, 2), ("siamese_triplet", 200, 10)])
def test_a_smoke_run_answers_few_episodes_and_joins_nothing(monkeypatch, method, most, draws):
    monkeypatch.setattr(generalized, "evaluate", lambda *_: pytest.fail("something joined"))
    quicker = ["--set", "inner_steps=1"] if method == "reptile" else []
    record = made("--preset", "smoke", *quicker, method=method)
    assert {name: info.count for name, info in record.episodes.items()} == {
        "5w1s": most, "5w5s": most, "allw1s": draws,
    }  # fmt: skip
    assert groups(record) == {"5w1s", "5w5s", "allw1s", "pairs", "triplets"}
    assert record.metrics["novel/triplet_accuracy"].n == record.metrics["base/pair_auc"].n == 2_000
    assert record.metrics["novel/unbalanced_pair_accuracy"].n == 10
    assert record.timings.steps == 6
    assert set(record.pools["novel"].values()) == {20}  # of 40 images per class
    assert bench("validate").code == 0


def test_a_smoke_run_joins_when_it_is_told_to(monkeypatch):
    small_budget(monkeypatch, joining_draws=2)
    record = made("--preset", "smoke", "--measure", "generalized")
    assert groups(record) == {"generalized"}
    assert record.metrics["generalized/6+1/1s/novel"].n == CLASSES // 2


def test_parts_of_a_run_stand_beside_the_whole(monkeypatch):
    small_budget(monkeypatch, joining_draws=2, joining_shots=(1, 5), episodes=300, pairs=1000)
    whole = made("--preset", "quick")
    assert groups(whole) == {"5w1s", "5w5s", "allw1s", "pairs", "triplets", "generalized"}
    parts = {
        ("5w1s", "pairs"): made("--preset", "quick", "--measure", "pairs, 5w1s"),
        ("triplets",): made("--preset", "quick", "--measure", "triplets"),
    }
    for names, part in parts.items():
        assert groups(part) == set(names) and part.config["measure"] == list(names)
        assert part.pools == whole.pools
        for key, metric in part.metrics.items():  # the same training, the same episodes
            assert metric == whole.metrics[key], key
        for name, own in part.per_class.items():
            assert own.items() <= whole.per_class[name].items()
    every = [whole, *parts.values()]
    assert len({record.run_id for record in every}) == len({*map(identity.configuration, every)}) == 3
    assert bench("validate").code == 0

    again = bench(*PROTONET, "--preset", "quick", "--measure", "5w1s", "--measure", "pairs")
    assert "is already recorded" in again.err

    assert bench("leaderboard").code == 0
    (board,) = boards(Path("leaderboard.md").read_text())
    shown = {
        row: {heading for heading in board[0] if column(board, heading)[row] != "–"}
        for row in range(len(board))
    }
    measured = {"5w1s", "5w5s", "all-way 1-shot", "novel pairs", "AUC", "EER", "novel triplets"}
    measured |= {"base pairs", "base triplets"}
    assert sorted(sorted(own & measured) for own in shown.values()) == sorted(
        sorted(own)
        for own in (
            measured,
            {"5w1s", "novel pairs", "base pairs", "AUC", "EER"},
            {"novel triplets", "base triplets"},
        )
    )
    text = Path("leaderboard.md").read_text()
    assert "measure=5w1s,pairs" in text and "measure=triplets" in text


def test_a_setting_of_the_user_s_own_is_measured_in_any_case():
    own = ["--way", "3", "--shot", "2", "--query", "4", "--episodes", "30"]
    for measure in ("pairs", "3w2s4q,pairs"):
        record = made("--preset", "smoke", "--measure", measure, *own)
        assert groups(record) == {"pairs", "3w2s4q"}


def test_config_files_name_parts_as_a_list_or_as_text(tmp_path):
    record = made("--preset", "smoke", "--measure", "triplets,pairs")
    again = bench("run", "--config", f"runs/{record.run_id}/config.yaml", "--device", "cpu")
    assert (
        again.out.splitlines()[-1] == f"results/own/{record.run_id}.json" and "already recorded" in again.err
    )
    path = tmp_path / "run.yaml"
    path.write_text("measure: pairs, triplets\n")
    answer = bench(*PROTONET, "--preset", "smoke", "--config", path)
    assert answer.out.splitlines()[-1] == f"results/own/{record.run_id}.json"


@pytest.mark.parametrize(
    "names, said",
    [
        ("triplet", "--measure triplet: did you mean triplets? allowed: 5w1s, 5w5s"),
        ("pairs,5w1", "--measure 5w1: did you mean 5w1s? allowed: 5w1s"),
        ("10w5s", "--measure 10w5s: did you mean"),
        ("5w10s", "--measure 5w10s: did you mean"),
        ("pairs,,5w1s", "--measure pairs,,5w1s: names must not be empty"),
    ],
)
def test_unknown_names_get_the_nearest_one(names, said):
    assert complaint(*PROTONET, "--measure", names).startswith(said)


def test_without_novel_classes_there_are_no_few_shot_settings_to_measure():
    text = complaint(*PROTONET, "--split", "100-0", "--measure", "5w1s")
    assert text == "--measure 5w1s: 100-0 has no novel classes; allowed: pairs, triplets"


@pytest.mark.parametrize("value", ["[]", "[1]", "{pairs: 1}", "3"])
def test_config_files_must_name_parts(tmp_path, value):
    path = tmp_path / "run.yaml"
    path.write_text(f"measure: {value}\n")
    assert complaint(*PROTONET, "--config", path).endswith("must be a list of names, e.g. 5w1s,pairs")


def test_the_measured_parts_are_in_the_record_s_configuration_alone_when_chosen():
    assert "measure" not in made("--preset", "smoke").config["overrides"]
    assert json.loads(made("--preset", "smoke").model_dump_json())["config"]["measure"] is None
