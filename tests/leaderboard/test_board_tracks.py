"""Tracks: only equal budgets are ranked together, and each row says what it was given and what it kept."""

import numpy as np
import pytest
from board_reader import boards, column, render, with_columns
from markdown_reader import plain
from record_factory import ON_GPU, make_record, metric, record_fields

from bench.records import store
from bench.records.tracks import training_seconds
from bench.reporting.leaderboard.cells import training_time
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.sampling.keys import episode_key

pytestmark = pytest.mark.usefixtures("nothing_published")

IMAGES = 384_000
NETWORK, OTHER = "12" * 32, "34" * 32


def pretraining(model: str = NETWORK, images: int = 300_000) -> dict:
    return {
        "run_id": "pretraining",
        "model": model,
        "steps": 2_000,
        "kept_step": 1_900,
        "images": images,
        "seconds": 100.0,
        "processor_s": 180.0,
    }


def timings(**changes) -> dict:
    return record_fields()["timings"] | changes


def started(method: str, model: str, kept_step: int, steps: int = 500, **changes):
    """A run that began with a pretrained network."""
    own = {"pretraining": pretraining(model), "images": IMAGES - 300_000, "kept_step": kept_step}
    return make_record(method=method, **(own | {"timings": timings(steps=steps)} | changes))


def names(table) -> list[str]:
    return sorted(column(table, "method"))


def test_only_equal_budgets_are_ranked_together():
    found = [
        make_record(method="a"),
        make_record(method="as many"),
        make_record(method="b", images=IMAGES + 3_800),
        make_record(method="c", images=IMAGES - 3_900),
        make_record(method="twice", images=2 * IMAGES),
        make_record(method="old", images=None),
        make_record(method="file", weights="12" * 32),
        make_record(method="steps", config={"overrides": {"steps": 9000}}),
        make_record(method="wide", backbone="resnet12"),
    ]
    track, wide, variations = boards(render(found))
    assert names(track) == ["a (quick)", "as many (quick)", "b (quick)"]
    assert names(wide) == ["wide (quick)"]
    assert names(variations) == [
        "c (quick)", "file (quick, weights=12121212)", "old (quick)", "steps (quick, steps=9000)",
        "twice (quick)",
    ]  # fmt: skip
    assert "rank" in track[0] and "rank" not in variations[0]
    marks = dict(zip(column(variations, "method"), column(variations, "marks"), strict=True))
    assert marks["old (quick)"] == "images not recorded" and marks["twice (quick)"] == "–"


def test_the_budget_is_that_of_most_methods_whatever_their_seeds():
    seeds = [make_record(method="many", seed=seed, images=2 * IMAGES) for seed in range(3)]
    track, variations = boards(render([make_record(method="a"), make_record(method="b"), *seeds]))
    assert names(track) == ["a (quick)", "b (quick)"] and names(variations) == ["many (quick)"]


def test_both_starts_of_a_method_are_rows_of_the_track():
    scratch = {"hyperparameters": {"init": "scratch"}, "run_id": "scratch"}
    later = {
        "hyperparameters": {"init": "pretrained"},
        "config": {"overrides": {"init": "pretrained"}},
    }
    found = [make_record(method="maml", **scratch), started("maml", NETWORK, 400, **later)]
    [track] = boards(render(found))
    assert names(track) == ["maml (quick, from scratch)", "maml (quick, pretrained)"]
    by_name = dict(zip(column(track, "method"), track, strict=True))
    assert by_name["maml (quick, from scratch)"]["pretraining"] == "none"
    assert by_name["maml (quick, pretrained)"]["pretraining"] == "78%"
    assert {row["images"] for row in track} == {"384,000"}
    # Older records do not say where they started.
    [rows] = boards(render([make_record(), make_record(method="old", kept_step=None)]))
    assert [row["pretraining"] for row in rows if row["kept step"] == "–"] == ["–"]
    assert sorted(column(rows, "pretraining")) == ["none", "–"]
    # An option of that name with other values is a change like any other.
    other = {"hyperparameters": {"init": "orthogonal"}, "config": {"overrides": {"init": "orthogonal"}}}
    track, variations = boards(render([*found, make_record(method="mine", **other)]))
    assert names(variations) == ["mine (quick, init=orthogonal)"] and len(track) == 2


@pytest.mark.parametrize(
    ("record", "kept", "time"),
    [
        (make_record(), "2,900 of 3,000", "10 min 10 s wall (2)"),
        (make_record(timings=timings(processor_s=61)), "2,900 of 3,000", "1 min 01 s, 10 min 10 s wall (2)"),
        (
            make_record(environment=ON_GPU, timings=timings(processor_s=61)),
            "2,900 of 3,000",
            "1 min 01 s, 10 min 10 s wall (2 + GPU)",
        ),
        (started("m", NETWORK, 400), "400 of 500", "11 min 50 s wall (2)"),
        (started("m", NETWORK, 0), "the pretrained network", "11 min 50 s wall (2)"),
        (
            started("m", NETWORK, 0, timings=timings(steps=500, processor_s=20)),
            "the pretrained network",
            "3 min 20 s, 11 min 50 s wall (2)",
        ),
        (
            started("m", NETWORK, 0, steps=0, images=84_000),
            "1,900 of 2,000 pretraining",
            "11 min 50 s wall (2)",
        ),
        (make_record(kept_step=0), "0 of 3,000", "10 min 10 s wall (2)"),
    ],
)
def test_a_row_says_what_it_kept_and_what_that_took(record, kept, time):
    [[row]] = boards(render([record]))
    assert (row["kept step"], row["time (threads)"]) == (kept, time)


def test_seeds_that_kept_different_steps():
    found = [started("m", NETWORK, kept, seed=seed) for seed, kept in enumerate((0, 100, 400))]
    [[row]] = boards(render(found))
    assert row["kept step"] == "100–400 of 500, the pretrained network (1 of 3 seeds)"


def test_rows_that_share_a_network_name_each_other():
    found = [
        started("reptile", NETWORK, 0),
        started("centroid", NETWORK, 0, steps=0),
        started("maml", NETWORK, 300),
        started("finetune", OTHER, 0),
        make_record(method="scratch", kept_step=0),
    ]
    text = render(found)
    [track] = boards(text)
    marks = dict(zip(column(track, "method"), column(track, "marks"), strict=True))
    shared = {"centroid (quick)", "reptile (quick)"}
    assert {name for name, mark in marks.items() if mark == "network a"} == shared
    assert set(marks.values()) == {"network a", "–"}
    [note] = [line for line in text.splitlines() if line.startswith("network a: ")]
    assert all(f"`{name}`" in note for name in shared) and "maml" not in note


def test_a_variation_says_whose_network_it_answers_with():
    """The run that trained it stands in a track, those that differ at the test alone do not."""
    cost = {"steps": 1000, "kept_step": 800, "images": 384_000, "seconds": 60.0, "processor_s": 60.0}
    timings = record_fields()["timings"] | {"steps": 0, "train_s": 0.0}
    trained = make_record(model=NETWORK, kept_step=800)
    config = {"method": "protonet", "overrides": {"mirror": True}}
    mirror = make_record(
        run_id="mirror", model=NETWORK, images=0, kept_step=0, timings=timings, config=config,
        shared_training=cost | {"run_id": trained.run_id, "model": NETWORK},
    )  # fmt: skip
    text = render([trained, mirror, make_record(method="other", model=OTHER)])
    track, variations = boards(text)
    assert [column(table, "marks") for table in (track, variations)] == [["–", "network a"], ["network a"]]
    assert column(variations, "kept step") == ["800 of 1,000"]
    assert column(variations, "images") == ["384,000"] == column(track, "images")[:1]
    rows = "`protonet (quick)`, `protonet (quick, mirror=true)`"
    assert text.count(f"network a: {rows} use the same trained network in seed 0.") == 2


def test_a_network_s_note_names_its_seeds():
    found = [started(name, f"{seed}1" * 32, 0, seed=seed) for name in ("a", "b") for seed in (1, 2)]
    found += [started(name, "01" * 32, 0) for name in ("a", "b", "c")]
    text = render(found)
    [track] = boards(text)
    marks = dict(zip(column(track, "method"), column(track, "marks"), strict=True))
    assert marks == dict.fromkeys(("a (quick)", "b (quick)"), "network a, network b") | {
        "c (quick)": "network b"
    }
    first, second = (line for line in text.splitlines() if line.startswith("network "))
    assert first.endswith("`b (quick)` use the same trained network in seeds 1, 2.")
    assert second.endswith("`c (quick)` use the same trained network in seed 0.")


@pytest.mark.parametrize(
    ("record", "seconds"),
    [
        (make_record(), 2 * 594.2),
        (make_record(timings=timings(processor_s=800.0)), 800),
        (make_record(timings=timings(processor_s=1200.0)), 2 * 594.2),  # with its evaluation
        (make_record(environment=ON_GPU, timings=timings(processor_s=61)), 594.2),
        (started("m", NETWORK, 0), 2 * 594.2 + 180),
        (started("m", NETWORK, 0, environment=ON_GPU), 594.2 + 100),
        (make_record(trained=False, kept_step=0, timings=timings(steps=0, train_s=0.0)), None),
    ],
)
def test_training_is_compared_in_seconds_of_one_core(record, seconds):
    assert training_seconds(record) == (seconds and pytest.approx(seconds))
    assert record.environment.threads == 2


def test_rows_are_sorted_by_the_time_of_one_core():
    two = make_record()
    one = make_record(environment=two.environment.model_dump() | {"threads": 1})
    known = make_record(timings=timings(processor_s=61))
    assert [training_time([record]).order for record in (two, one, known)] == [2 * 610, 610, 61]


def test_uncommitted_code_is_marked():
    dirty = make_record(method="dirty", environment=record_fields()["environment"] | {"git_dirty": True})
    [track] = boards(render([make_record(), dirty]))
    marks = dict(zip(column(track, "method"), column(track, "marks"), strict=True))
    assert marks == {"dirty (quick)": "uncommitted code", "protonet (quick)": "–"}


def test_records_whose_splits_are_known_to_differ_stand_apart():
    def made(method: str, split: str | None):
        sources = split and {"split": split * 64, "method": "0" * 64, "bench": "0" * 64}
        return make_record(method=method, sources=sources)

    both = [made("a", "1"), made("old", None)]
    [track] = boards(render(both))
    assert names(track) == ["a (quick)", "old (quick)"]
    apart = boards(render([*both, made("b", "2")]))
    assert [names(table) for table in apart] == [["old (quick)"], ["a (quick)"], ["b (quick)"]]
    text = render([*both, made("b", "2")])
    assert f"split `{'1' * 12}`" in text and f"split `{'2' * 12}`" in text


def test_a_method_that_learns_novel_images_stands_with_its_split_alone():
    """It is tested on fewer images, so its split has another digest; other classes are another split."""
    fields = record_fields()
    pairs = {key: own for key, own in fields["metrics"].items() if "pair" in key or "triplet" in key}

    def learned(method: str, **changed: int):
        return make_record(
            method=method,
            metrics=pairs,
            episodes={},
            labelled_novel_images=500,
            classes=fields["classes"] | {"novel_images": 990} | changed,
        )

    records = [make_record(), learned("same"), learned("other", base=80)]
    assert [names(table) for table in boards(render(records))] == [
        ["other (quick)"], ["protonet (quick)", "same (quick)"],
    ]  # fmt: skip


# New classes

CLASSES, SETTING = 10, Setting(way=5, shot=1, query=15, count=600)
SIZES = {f"class{i}": 60 for i in range(CLASSES)}
EASE = np.linspace(0.3, 0.6, CLASSES)
GAIN = 0.04 + 0.15 * np.tile([-1, 1], CLASSES // 2)  # per class; it averages to 4 points


def answered(folder, method: str, ease: np.ndarray, **changes):
    """A run whose accuracy in an episode is that of its classes, nearly."""
    fields = record_fields()
    key = episode_key(fields["fingerprint"], fields["split"], SETTING, 0)
    drawn = draw(ClassPool(np.repeat(np.arange(CLASSES), 60)), key, SETTING)
    info = {"way": 5, "shot": 1, "query": 15, "count": SETTING.count, "seed": 0, "sha256": drawn.sha256()}
    noise = np.random.default_rng(len(method)).integers(-2, 3, SETTING.count)
    correct = np.clip(np.rint(75 * ease[drawn.classes].mean(axis=1)) + noise, 0, 75).astype(np.uint8)
    value = float(correct.mean() / 75)
    fields = {
        "episodes": {"5w1s": info},
        "metrics": {"fewshot/5w1s": metric(value)},
        "per_class": {},
        "pools": {"novel": SIZES},
    }
    record = make_record(method=method, **(fields | changes))
    path = store.write(record, folder, {"5w1s": correct, "5w1s/queries": np.array(75)})
    return store.read(path)


def test_the_best_is_named_only_where_new_classes_would_agree(tmp_path):
    low, high = answered(tmp_path, "low", EASE), answered(tmp_path, "mostly", EASE + GAIN)
    text = render([low, high], tmp_path)
    [best] = with_columns(text, "tied, new episodes")[0]
    assert plain(best["highest"]) == "mostly (quick)" and best["tied, new episodes"] == "–"
    assert best["best"] == "none" and plain(best["not separable, new classes"]) == "low (quick)"
    [track] = boards(text)
    assert column(track, "rank") == ["1", "2"] and column(track, "rank, new classes") == ["1–2", "1–2"]
    # A method that is as much better on every class is better on new ones too.
    always = answered(tmp_path, "always", EASE + 0.3)
    text = render([low, high, always], tmp_path)
    [best] = with_columns(text, "tied, new episodes")[0]
    assert plain(best["best"]) == plain(best["highest"]) == "always (quick)"
    [track] = boards(text)
    assert column(track, "rank, new classes") == ["1", "2–3", "2–3"]


def test_without_class_sizes_nothing_is_said_of_new_classes(tmp_path):
    found = [
        answered(tmp_path, method, ease, pools={}) for method, ease in (("low", EASE), ("best", EASE + 0.3))
    ]
    text = render(found, tmp_path)
    [best] = with_columns(text, "tied, new episodes")[0]
    assert (plain(best["best"]), plain(best["highest"])) == ("not known", "best (quick)")
    [track] = boards(text)
    assert column(track, "rank") == ["1", "2"] and "rank, new classes" not in track[0]
