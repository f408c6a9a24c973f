import random
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from board_reader import as_html, boards, column, render, with_metrics
from markdown_reader import plain
from record_factory import make_episodes, make_record, metric, record_fields

from bench.common.errors import UserError
from bench.records import store
from bench.reporting import blocks, leaderboard
from bench.statistics import Interval, closed_interval, crossed_seeds, over_seeds

pytestmark = pytest.mark.usefixtures("nothing_published")

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b\\",
    "`tick`",
    "``two`` `",
    "](http://example.org) [x](javascript:alert(1))",
    "https://example.org www.example.org a@example.org",
    "**bold** __bold__ ~~gone~~ # heading &amp; &lt; <!-- $x$",
    "two\nlines\r\n\n| a | b |\n",
    "\x1b[31m\u202e\x00",
    "</details>",
    "# heading",
    "- item\n1. first\n> quote\n---\n",
]


def test_a_row_shows_everything():
    [[row]] = boards(render([make_record()]))
    assert {heading: plain(cell) for heading, cell in row.items()} == {
        "rank": "1",
        "method": "protonet (quick)",
        "5w1s": "64.00 ± 1.00",
        "5w5s": "77.00 ± 1.00",
        "all-way 1-shot": "51.00 ± 1.00",
        "novel pairs": "76.7 ± 1.0",
        "novel triplets": "83.4 ± 1.0",
        "base pairs": "80.0 ± 1.0",
        "base triplets": "87.6 ± 1.0",
        "seeds": "1 †",
        "images": "384,000",
        "pretraining": "none",
        "kept step": "2,900 of 3,000",
        "time (threads)": "10 min 10 s wall (2)",
        "date": "2025-03-01",
    }


def test_numbers_that_a_run_does_not_have_are_dashes():
    metrics = with_metrics({})
    for key in ("base/pair_accuracy", "base/triplet_accuracy", "fewshot/5w1s"):
        del metrics[key]
    [[_, row]] = boards(render([make_record(), make_record(method="less", metrics=metrics)]))
    assert row["base pairs"] == row["base triplets"] == row["5w1s"] == row["rank"] == "–"
    assert row["5w5s"] == "77.00 ± 1.00"


def test_columns_that_no_row_has_are_left_out():
    full = {"novel/pair_auc": (0.849, 0.84, 0.858), "novel/pair_eer": (0.23, 0.22, 0.24)}
    extra = {key: Interval(*ends, 9)._asdict() for key, ends in full.items()}
    [[few], [more]] = (boards(render([make_record(metrics=with_metrics({}) | own)])) for own in ({}, extra))
    assert more[0].keys() - few[0].keys() == {"AUC", "EER"}
    assert (more[0]["AUC"], more[0]["EER"]) == ("84.9 ± 0.9", "23.0 ± 1.0")


def test_rows_are_ordered_by_5w1s_and_rows_without_it_come_last():
    metrics = with_metrics({})
    del metrics["fewshot/5w1s"]
    rows = [
        make_record(method="middle", metrics=with_metrics({"5w1s": 0.6})),
        make_record(method="a-without", metrics=metrics),
        make_record(method="best", metrics=with_metrics({"5w1s": 0.7})),
        make_record(method="worst", metrics=with_metrics({"5w1s": 0.5})),
    ]
    [table] = boards(render(rows))
    assert [name.split()[0] for name in column(table, "method")] == ["best", "middle", "worst", "a-without"]


def test_smoke_runs_are_never_shown():
    text = render([make_record(preset="smoke")])
    assert boards(text) == [] and "No results yet." in text and "Not in the tables: 1 smoke run." in text
    [table] = boards(render([make_record(preset="smoke"), make_record()]))
    assert column(table, "method") == ["protonet (quick)"]


def test_one_section_for_each_split_and_one_table_for_each_protocol():
    text = render(
        [
            make_record(split="100-0", run_id="a"),
            make_record(split="90-10", run_id="b"),
            make_record(split="90-10", protocol_version=2, run_id="c"),
            make_record(split="20-80", run_id="d"),
            make_record(split="90-10", fingerprint="cd" * 32, run_id="e"),
            make_record(dataset="aardvarks", run_id="f"),
        ]
    )
    assert re.findall(r"^## (.*? split .*?):", text, re.MULTILINE) == [
        "`aardvarks` split `90-10`",
        "`cifar100` split `20-80`",
        "`cifar100` split `90-10`",
        "`cifar100` split `90-10`",
        "`cifar100` split `100-0`",
    ]
    assert re.findall("^### .*protocol (.*)", text, re.MULTILINE) == ["1", "1", "2", "1", "1", "1"]
    assert "90 base / 0 validation / 10 novel classes" in text
    assert "Fingerprint `abababababab`" in text and "Fingerprint `cdcdcdcdcdcd`" in text
    assert all(len(table) == 1 for table in boards(text))


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
        {"config": {"overrides": {"precision": "32"}}},
        {"episodes": {k: v | {"sha256": "f" * 64} for k, v in record_fields()["episodes"].items()}},
    ],
)
def test_only_seeds_are_averaged(change):
    tables = boards(render([make_record(), make_record(seed=1, run_id="changed", **change)]))
    assert sum(map(len, tables)) == 2
    [same] = boards(render([make_record(), make_record(seed=1)]))
    assert len(same) == 1


def test_a_hyperparameter_or_override_called_seed_does_not_split_a_row():
    rows = [
        make_record(seed=s, hyperparameters={"seed": s}, config={"overrides": {"seed": s}, "seed": s})
        for s in (0, 1, 2)
    ]
    [[row]] = boards(render(rows))
    assert row["seeds"].startswith("3") and "marks" not in row


def test_marks():
    record = make_record(
        external_data=True,
        transductive=True,
        trained=False,
        weights="12" * 32,
        config={"overrides": {"steps": 200, "backbone": "conv4", "milestones": [1, 2]}},
    )
    [[row]] = boards(render([record]))
    assert plain(row["marks"]) == ("external data, transductive")
    assert plain(row["method"]) == (
        "protonet (quick, backbone=conv4, milestones=[1, 2], steps=200, weights=12121212, no training)"
    )
    assert "time (threads)" not in row and "rank" not in row


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_record_becomes_markup(text):
    def document(text: str) -> str:
        hostile = {name: text for name in ("method", "preset", "backbone", "dataset", "command")}
        overrides = {"overrides": {text: text}}
        generalized = {f"generalized/90+1/1s/{name}": metric(0.5) for name in ("novel", "base")}
        failed = {"failure": text, "metrics": {}, "per_class": {}, "episodes": {}}
        return render(
            [
                make_record(run_id="failed", split="90-10", **failed, **hostile),
                *(
                    make_record(
                        run_id=f"{split}{seed}",
                        split=f"{text}{split}",
                        config=overrides,
                        metrics=with_metrics({}) | generalized,
                        episodes={name: info | {"sha256": f"{seed}" * 64} for name, info in episodes.items()},
                        **hostile,
                    )
                    for split in (1, 2)
                    for seed in (1, 2)
                ),
            ]
        )

    episodes = record_fields()["episodes"]
    markdown = document(text)
    # No element, link or heading that the same leaderboard of tame names does not have.
    shown = as_html(markdown), as_html(document("tame"))
    tags, tame = (Counter(re.findall(r"<(/?[a-z0-9]+)", one)) for one in shown)
    assert tags == tame
    assert {len(table) for table in boards(markdown)} == {2}
    assert not re.search("[\x00\x1b\u202e]", markdown)


@pytest.mark.parametrize(
    "text", ["<b>&amp;", "a|b", "a\\|b\\", "`tick`", "``", "x ` y", " padded ", "_x_ *y*"]
)
def test_text_is_shown_as_it_is(text):
    [[row]] = boards(render([make_record(method=text)]))
    escaped = text.strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert row["method"] == f"<code>{escaped} (quick)</code>"
    assert re.sub(r"\s+", " ", plain(row["method"])) == f"{text.strip()} (quick)"


def test_the_commands_can_be_copied(tmp_path):
    fence = "run --set note='\n```\n</details>'"
    rows = [make_record(seed=seed) for seed in (0, 1)] + [make_record(method="m", command=fence)]
    html = as_html(render(rows))
    blocks = re.findall(r'<pre><code class="language-sh">(.*?)</code></pre>', html, re.DOTALL)
    assert sorted(blocks) == sorted(
        [
            "".join(f"{record.command}\n" for record in rows[:2]),
            fence.replace("<", "&lt;").replace(">", "&gt;") + "\n",
        ]
    )
    assert html.count("<details>") == html.count("</details>") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (594.2, "9 min 54 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert blocks.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (112_832, "113 k"),
        (999_499, "999 k"),
        (999_999, "1.0 M"),
        (2_000_000, "2.0 M"),
        (12_424_320, "12.4 M"),
    ],
)
def test_parameter_count(number, text):
    assert blocks.parameter_count(number) == text


@pytest.mark.slow
def test_the_order_of_records_does_not_matter(tmp_path):
    found = seeds(tmp_path, 3) + [make_record(method=f"m{i}", split=f"{i}0-{10 - i}0") for i in range(1, 9)]
    text = render(found, tmp_path)
    for shuffle in range(3):
        random.Random(shuffle).shuffle(found)
        assert render(found, tmp_path) == text


def test_write_and_is_stale(tmp_path):
    results, output = tmp_path / "results", tmp_path / "docs" / "leaderboard.md"
    seeds(results, 2)
    assert leaderboard.is_stale(results, output)[0]
    assert leaderboard.write(results, output) == []
    assert not leaderboard.is_stale(results, output)[0]
    assert output.read_text(encoding="utf-8") == render(store.read_all(results)[0], results)
    output.write_bytes(output.read_bytes().replace(b"\n", b"\r\n"))  # as git may check it out on Windows
    assert not leaderboard.is_stale(results, output)[0]
    store.write(make_record(seed=7), results)
    assert leaderboard.is_stale(results, output)[0]
    (results / "broken.json").write_text("{")
    [problem] = leaderboard.write(results, output)
    assert "broken.json" in problem
    assert not leaderboard.is_stale(results, output)[0]
    output.write_bytes(b"\xff")
    assert leaderboard.is_stale(results, output)[0]


def test_places_that_do_not_work_are_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="--results"):
        leaderboard.write(tmp_path / "absent", tmp_path / "leaderboard.md")
    assert not (tmp_path / "leaderboard.md").exists()
    with pytest.raises(UserError, match="--output"):
        leaderboard.write(tmp_path, tmp_path)
    with pytest.raises(UserError, match="--output"):
        leaderboard.is_stale(tmp_path, tmp_path)


def test_one_episode_a_seed_is_no_table_to_cross(tmp_path):
    episodes = {name: info | {"count": 1} for name, info in record_fields()["episodes"].items()}
    for seed in range(3):
        arrays = {k: v if k.endswith("queries") else v[:1] for k, v in make_episodes(seed=seed).items()}
        store.write(make_record(seed=seed, episodes=episodes), tmp_path, arrays)
    [[row]] = boards(render(store.read_all(tmp_path)[0], tmp_path))
    assert row["5w1s"].startswith("64.00 ±")


@pytest.mark.slow
def test_importing_it_loads_nothing_heavy():
    heavy = "{'numpy', 'pandas', 'scipy', 'tabulate', 'torch'}"
    code = f"import bench.reporting.leaderboard, sys; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
