"""Seeds of one configuration are one row: their mean, its interval, and what is not averaged."""

import random

import numpy as np
import pytest
from board_reader import boards, render, with_metrics
from record_factory import make_episodes, make_record, record_fields

from bench.records import store
from bench.statistics import Interval, closed_interval, crossed_seeds, over_seeds

pytestmark = pytest.mark.usefixtures("nothing_published")


def seeds(tmp_path, number: int, **changes) -> list[store.Record]:
    """Records of several seeds, written with their episodes; the accuracy rises with the seed."""
    written = []
    for seed in range(number):
        episodes = make_episodes(0.6 + 0.02 * seed, seed)
        own = closed_interval(episodes["5w1s"] / 75)
        metrics = with_metrics({"novel pairs": 0.70 + 0.01 * seed})
        metrics["fewshot/5w1s"] = own._asdict()
        record = make_record(seed=seed, metrics=metrics, **changes)
        written.append(store.read(store.write(record, tmp_path, episodes)))
    return written


def accuracies_of(number: int) -> np.ndarray:
    return np.stack([make_episodes(0.6 + 0.02 * seed, seed)["5w1s"] / 75 for seed in range(number)])


def shown(interval, digits: int) -> str:
    return f"{100 * interval.value:.{digits}f} ± {100 * interval.half_width:.{digits}f}"


def test_three_seeds_are_crossed_with_the_episodes(tmp_path):
    found = seeds(tmp_path, 3)
    [[row]] = boards(render(found, tmp_path))
    assert row["5w1s"] == shown(crossed_seeds(accuracies_of(3)), 2)
    own = [one.metrics["novel/pair_accuracy"] for one in found]
    pairs = over_seeds([Interval(m.value, m.low, m.high, m.n) for m in own])
    assert row["novel pairs"] == shown(pairs, 1)
    assert row["novel pairs"].startswith("71.0 ±")
    assert row["seeds"] == "3"


def test_two_seeds_share_the_interval_of_their_mean_episodes(tmp_path):
    [[row]] = boards(render(seeds(tmp_path, 2), tmp_path))
    assert row["5w1s"] == shown(closed_interval(accuracies_of(2).mean(axis=0)), 2)
    assert row["seeds"] == "2 †"
    assert "† episodes only" in render(seeds(tmp_path, 2), tmp_path)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_without_episode_files_the_seeds_own_intervals_are_used_and_said(tmp_path, how):
    found = seeds(tmp_path, 3)
    path = tmp_path / found[1].episode_file
    if how == "missing":
        path.unlink()
    if how == "damaged":
        path.write_bytes(b"not the file")
    text = render(found, tmp_path)
    [[row]] = boards(text)
    own = [closed_interval(one) for one in accuracies_of(3)]
    assert row["5w1s"] == shown(over_seeds(own), 2)
    assert row["seeds"] == "3 ‡"
    assert "‡ some per-episode accuracies are missing" in text


def test_one_episode_a_seed_is_no_table_to_cross(tmp_path):
    episodes = {name: info | {"count": 1} for name, info in record_fields()["episodes"].items()}
    for seed in range(3):
        arrays = {k: v if k.endswith("queries") else v[:1] for k, v in make_episodes(seed=seed).items()}
        store.write(make_record(seed=seed, episodes=episodes), tmp_path, arrays)
    [[row]] = boards(render(store.read_all(tmp_path)[0], tmp_path))
    assert row["5w1s"].startswith("64.00 ±")


def test_a_seed_recorded_twice_counts_once_and_the_later_one_wins():
    text = render(
        [
            make_record(run_id="a", created="2025-03-02T00:00:00Z", metrics=with_metrics({"5w1s": 0.7})),
            make_record(run_id="b", created="2025-03-01T00:00:00Z", metrics=with_metrics({"5w1s": 0.5})),
        ]
    )
    [[row]] = boards(text)
    assert row["5w1s"].startswith("70.00") and row["seeds"] == "1 †"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "other"},
        {"preset": "standard"},
        {"hyperparameters": {"lr": 0.1}},
        {"backbone": "resnet12"},
        {"weights": "12" * 32},
        {"trained": False},
        {"external_data": True},
        {"transductive": True},
        {"config": record_fields()["config"] | {"precision": "fp32"}},
        {"episodes": {k: v | {"sha256": "f" * 64} for k, v in record_fields()["episodes"].items()}},
    ],
)
def test_only_seeds_are_averaged(change):
    tables = boards(render([make_record(), make_record(seed=1, run_id="changed", **change)]))
    assert sum(map(len, tables)) == 2
    [same] = boards(render([make_record(), make_record(seed=1)]))
    assert len(same) == 1


def test_an_older_record_without_a_later_hyperparameter_shares_the_row():
    rows = [
        make_record(hyperparameters={"lr": 0.1}),
        make_record(seed=1, hyperparameters={"lr": 0.1, "new": None}),
    ]
    [[row]] = boards(render(rows))
    assert row["seeds"].startswith("2")


def test_a_hyperparameter_or_override_called_seed_does_not_split_a_row():
    rows = [
        make_record(seed=s, hyperparameters={"seed": s}, config={"overrides": {"seed": s}, "seed": s})
        for s in (0, 1, 2)
    ]
    [[row]] = boards(render(rows))
    assert row["seeds"].startswith("3") and "marks" not in row


@pytest.mark.slow
def test_the_order_of_records_does_not_matter(tmp_path):
    found = seeds(tmp_path, 3) + [make_record(method=f"m{i}", split=f"{i}0-{10 - i}0") for i in range(1, 9)]
    text = render(found, tmp_path)
    for shuffle in range(3):
        random.Random(shuffle).shuffle(found)
        assert render(found, tmp_path) == text
