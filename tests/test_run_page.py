"""One run on one page: everything that the record holds, found by whatever names it."""

import re

import pytest
from command_line import bench, complaint
from record_factory import make_episodes, make_record, metric, record_fields

from bench.records import store
from bench.reporting import run_page


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    for run_id in ("proto_90-10_s0", "proto_90-10_s1", "proto_90-10_s10", "siamese_90-10_s0"):
        store.write(make_record(run_id=run_id), folder, make_episodes())
    return folder


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ("proto_90-10_s0", "proto_90-10_s0"),
        ("proto_90-10_s1", "proto_90-10_s1"),  # and the beginning of another
        ("proto_90-10_s10", "proto_90-10_s10"),
        ("si", "siamese_90-10_s0"),
        ("results/proto_90-10_s1.json", "proto_90-10_s1"),
        ("results/proto_90-10_s1.npz", "proto_90-10_s1"),
        ("runs/siamese_90-10_s0", "siamese_90-10_s0"),
    ],
)
def test_a_run_is_found_by_id_beginning_or_path(results, run, found):
    (results.parent / "runs" / "siamese_90-10_s0").mkdir(parents=True)
    assert store.find_run(results, run).resolve() == results / f"{found}.json"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (
            "proto",
            "show proto: must be one run; 3 start with this: proto_90-10_s0, proto_90-10_s1, proto_90-10_s10",
        ),
        ("sismese_90-10_s0", "show sismese_90-10_s0: no such run in results; did you mean siamese_90-10_s0?"),
        ("zzz", "show zzz: no such run in results; see `list runs`"),
        ("", "show: no such run in results; see `list runs`"),
        ("../results", "show ../results: no such run in results; "),
    ],
)
def test_what_names_no_run_is_one_line(results, run, expected):
    assert complaint("show", run, "--results", "results").startswith(expected)


def test_without_records_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint("show", "x") == "--results results: no such folder; must be the folder of records"
    (tmp_path / "results").mkdir()
    assert complaint("show", "x") == "show x: results has no runs"


def test_a_damaged_record_is_one_line(results):
    (results / "broken.json").write_text("{")
    assert complaint("show", "broken").startswith("--results results/broken.json: ")


def test_the_page_has_everything(results):
    joined = {f"generalized/90+1/{shots}s/novel": metric(shots / 100) for shots in (1, 5, 10)}
    many = {f"class{i:02}": {"fewshot/5w1s": metric(i / 100, 0.001)} for i in range(30)}
    record = make_record(
        run_id="whole",
        metrics=record_fields()["metrics"] | joined | {"generalized/90+1/5s/harmonic": metric(0.33)},
        per_class=many,
        config={"overrides": {"steps": 200}},
        transductive=True,
        weights="12" * 32,
        left_out_images=3,
        no_training_classes=["cat", "dog"],
    )
    path = store.write(record, results, make_episodes())
    page = run_page.page(store.read(path), path, results.parent / "runs")
    words = " ".join(page.split())
    for text in (
        "method protonet (quick, steps=200, weights=12121212) family metric",
        "paper Snell et al. 2017",
        "backbone conv4, 112,832 parameters",
        f"cifar100, fingerprint {'ab' * 32}",
        "90 base, 0 validation, 10 novel",
        "5,990 novel (10 duplicates left out)",
        "left out 3 unreadable images; base classes without training images: cat, dog seed",
        "bias=false distance=l2 lr=0.05 milestones=[10, 20]",
        f"transductive, weights {'12' * 32}",
        f"command {record.command}",
        "2025-03-01 12:00 UTC by bench 0.1.0, commit 0000000",
        "cpu, bf16-mixed, threads: 2; x86-64; Linux",
        "python 3.11.9, torch 2.15.0",
        "9 min 54 s (3,000 steps, 900 images/s)",
        "5w1s: 40 of 5 classes, 1-shot, 15 queries per class; seed 0, list 000000000000",
        "pair: 0.3100, from validation pairs",
        "fewshot/5w1s 64.00 ± 1.00 40",
        "90+1 5 5.00 ± 1.00 – – 33.00 ± 1.00",
        f"record {path}",
        f"answers {path.with_suffix('.npz')}",
        f"no checkpoints or logs in {results.parent / 'runs' / 'whole'}",
    ):
        assert text in words, text
    # No class is left out, and joins stand in their own table, by number of shots.
    assert re.findall(r"^class(\d\d)", page, re.MULTILINE) == [f"{i:02}" for i in range(30)]
    assert re.findall(r"^90\+1 +(\d+)", page, re.MULTILINE) == ["1", "5", "10"]
    assert "generalized/" not in page


def test_a_shared_training_is_named_with_its_cost(results):
    timings = record_fields()["timings"] | {"steps": 0}
    training = {"seconds": 65.0, "steps": 3000, "images": 384_000, "kept_step": 2_900, "processor_s": 9.0}
    record = make_record(
        run_id="shares", images=None, kept_step=None, timings=timings, model="1" * 64,
        shared_training=training | {"run_id": "other", "model": "1" * 64},
    )  # fmt: skip
    page = run_page.page(record, results / "shares.json", results)
    assert "trained by other: 1 min 05 s, 3,000 steps" in " ".join(page.split())


def test_it_says_which_files_are_missing_or_not_the_runs_own(results):
    path = results / "siamese_90-10_s0.json"
    record = store.read(path)
    (results.parent / "runs" / record.run_id).mkdir(parents=True)
    npz = path.with_suffix(".npz")
    npz.write_bytes(b"other")
    page = run_page.page(record, path, results.parent / "runs")
    assert "cannot be used" in page and "does not belong" in page
    assert f"training{results.parent / 'runs' / record.run_id}" in "".join(
        page.split()
    )  # long paths are wrapped
    npz.unlink()
    assert "No such file or directory" in run_page.page(record, path, results.parent / "runs")
    kept = record.model_copy(update={"episode_file": None, "episode_file_sha256": None})
    assert "answers         not recorded" in run_page.page(kept, path, results.parent / "runs")


def test_nothing_in_a_record_acts_on_the_terminal(results):
    text = "\x1b[31m\u202e\x07"
    named = ("method", "family", "paper", "backbone", "dataset", "split", "preset", "command")
    record = make_record(
        run_id="hostile",
        per_class={text: {"novel/pair_accuracy": metric(0.5)}},
        hyperparameters={text: text},
        config={"overrides": {text: [text]}},
        **dict.fromkeys(named, text),
    )
    page = run_page.page(record, results / "hostile.json", results)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page)
    assert "\\x1b[31m" in page


def test_the_command_prints_the_page_or_the_record(results):
    answer = bench("show", "siamese")
    assert answer.code == 0 and answer.out.startswith("siamese_90-10_s0\n\nWhat\n")
    as_json = bench("show", "siamese", "--json").out
    assert store.Record.model_validate_json(as_json) == store.read(results / "siamese_90-10_s0.json")
