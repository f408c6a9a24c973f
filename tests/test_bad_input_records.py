"""Records that are none: named by each command that meets them, exit 2 if it was asked for, else 1."""

import json
from pathlib import Path

import pytest
from command_line import bench, complaint
from record_factory import make_episodes, make_record, metric, record_fields

from bench.common.errors import UserError
from bench.records import store

GOOD = json.dumps(record_fields(run_id="bad"))


def changed(**changes: object) -> str:
    return json.dumps(record_fields(run_id="bad") | changes)


CASES = {
    "zero bytes": ("", "Invalid JSON: EOF"),
    "two bytes": ("\0\1", "Invalid JSON: expected value"),
    "half": (GOOD[: len(GOOD) // 2], "Invalid JSON: "),
    "one brace more": (f"{GOOD}}}", "Invalid JSON: trailing characters"),
    "two records": (f"{GOOD}\n{GOOD}", "Invalid JSON: trailing characters"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "Invalid JSON: expected value"),
    "UTF-16": (GOOD.encode("utf-16"), "Invalid JSON: "),
    "Latin 1": (changed(method="prot\xf6net").replace("\\u00f6", "\xf6").encode("latin1"), "Invalid JSON: "),
    "a NUL at its end": (GOOD.encode() + b"\0", "Invalid JSON: trailing characters"),
    "a lone surrogate": (changed(method="x").replace('"x"', '"\\ud800"'), "Invalid JSON: "),
    "single quotes": (GOOD.replace('"', "'"), "Invalid JSON: "),
    "a list": (f"[{GOOD}]", "Input should be an object"),
    "null": ("null", "Input should be an object"),
    "a number": ("5", "Input should be an object"),
    "5000 brackets": ("[" * 5000, "Invalid JSON: recursion limit exceeded"),
    "no field": ("{}", "protocol_version: Field required"),
    "a field more": (changed(surprise=1), "surprise: Extra inputs are not permitted"),
    "an escape sequence for a field": (changed(**{"a\nb\x1b[31m": 1}), "a b\\x1b[31m: Extra inputs are"),
    "another schema": (changed(schema_version=99), "schema_version: this bench reads version 1, not 99"),
    "another name": (changed(run_id="other"), "run_id: must be the file's name, not other"),
    "a name above the folder": (changed(run_id="../bad"), "run_id: 1 to 200 of A-Z a-z 0-9"),
    "an escape sequence for a name": (changed(run_id="\x1b[2J"), "run_id: 1 to 200 of A-Z a-z 0-9"),
    "a file above the folder": (
        changed(episode_file="../x.npz", episode_file_sha256="0" * 64),
        "episode_file: must be bad.npz",
    ),
    "seed below 0": (changed(seed=-1), "seed: Input should be greater than or equal to 0"),
    "seed in words": (changed(seed="one"), "seed: Input should be a valid integer"),
    "seed of 5000 digits": (GOOD.replace('"seed": 0', f'"seed": {"9" * 5000}', 1), "Invalid JSON: number ou"),
    "no time zone": (changed(created="2025-03-01T12:00:00"), "created: "),
    "before the first year": (changed(created="0001-01-01T00:00:00+14:00"), "created: not in the years 1 to"),
    "after the last year": (changed(created="9999-12-31T23:59:59-14:00"), "created: not in the years 1 to"),
    "a time in words": (changed(created="yesterday"), "created: "),
    "NaN": (changed(thresholds={"pair": float("nan")}), "thresholds.pair: "),
    "infinity": (changed(thresholds={"pair": float("inf")}), "thresholds.pair: "),
    "a number too large": (changed(thresholds={"pair": 1}).replace('"pair": 1', '"pair": 1e999'), "threshol"),
    "NaN in the configuration": (changed(config={"x": float("nan")}), "config: numbers must be finite"),
    "percent for a fraction": (
        changed(metrics={"novel/pair_auc": {"value": 76.6, "low": 76, "high": 77, "n": 9}}),
        "metrics novel/pair_auc: must be a fraction between 0 and 1",
    ),
    "an interval beside its value": (
        changed(metrics={"novel/pair_auc": {"value": 0.5, "low": 0.6, "high": 0.7, "n": 9}}),
        "metrics.novel/pair_auc: low 0.6 <= value 0.5 <= high 0.7 does not hold",
    ),
    "of no observation": (changed(metrics={"novel/pair_auc": metric(0.5, n=0)}), "metrics.novel/pair_auc.n:"),
    "a metric without a part": (changed(metrics={"accuracy": metric(0.5)}), "metrics.accuracy"),
    "metrics in a list": (changed(metrics=[]), "metrics: Input should be "),
    "episodes of no list": (changed(episodes={}), "episodes: the episode list of fewshot/"),
    "way of 0": (
        changed(episodes={"5w1s": record_fields()["episodes"]["5w1s"] | {"way": 0}}),
        "episodes.5w1s.way: Input should be greater than or equal to 1",
    ),
    "10^12 images": (changed(pools={"novel": {"whale": 10**12}}), "pools novel: more than 20,000,000 images"),
    "a class of no image": (changed(pools={"novel": {"whale": 0}}), "pools.novel.whale: "),
    "a SHA-256 too short": (changed(fingerprint="ab"), "fingerprint: "),
    "weights by name": (changed(weights="../weights.pt"), "weights: "),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """Records of two methods, beside which each bad one is put."""
    folder = tmp_path_factory.mktemp("records")
    for method in ("protonet", "mtl"):
        store.write(make_record(method=method), folder / "results", make_episodes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def put(name: str) -> str:
    """Write a bad record beside the good ones: how its complaint begins."""
    content, expected = CASES[name]
    path = Path("results", "bad.json")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"--results {path}: {expected}"


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_is_not_a_record_is_named(name):
    with pytest.raises(UserError) as caught:
        said = put(name)
        store.read(Path("results", "bad.json"))
    line = str(caught.value)
    assert line.startswith(said)
    assert "\n" not in line and "\x1b" not in line and len(line) < 600


@pytest.mark.parametrize("name", ["half", "a list", "another schema", "a name above the folder", "NaN"])
def test_every_command_names_it(name):
    bad = put(name)
    for command in (["show", "bad"], ["show", "results/bad.json"], ["compare", "results/bad.json", "mtl"]):
        assert complaint(*command).startswith(bad)
    for command in (["leaderboard"], ["list", "runs"], ["compare", "protonet", "mtl"]):
        answer = bench(*command)
        assert answer.code == 1 and answer.err.startswith(f"warning: {bad}") and answer.err.count("\n") == 1
        assert answer.out
    found = bench("validate")
    assert found.code == 1 and f"bad.json: {bad.split(': ', 1)[1]}" in found.out


@pytest.mark.parametrize("kind", ["a folder", "a dead link", "a link to itself"])
def test_a_path_that_is_not_a_regular_file_is_named(kind, tmp_path):
    path = Path("results", "bad.json")
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "a folder" else path.symlink_to("bad.json" if "itself" in kind else "nowhere")
    try:
        for command in (["leaderboard"], ["list", "runs"], ["compare", "protonet", "mtl"], ["validate"]):
            answer = bench(*command)
            assert answer.code == 1 and "bad.json: " in answer.err + answer.out
    finally:
        path.rmdir() if kind == "a folder" else path.unlink()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("compare protonet mlt", "compare mlt: no such run or method; did you mean mtl?"),
        (
            "compare protonet protonet",
            "compare protonet protonet: must not share runs; cifar100-protonet-quick-0 is in both",
        ),
        (
            "compare protonet mtl --setting 5w2s",
            "--setting 5w2s: protonet has no such setting; did you mean 5w",
        ),
        (
            "compare protonet mtl --setting ../5w1s",
            "--setting ../5w1s: protonet has no such setting; did you",
        ),
        ("compare protonet mtl --split 80-20", "compare protonet: no such run or method"),
        ("compare protonet mtl --dataset mnist", "compare protonet: no such run or method"),
        ("show cifar100", "show cifar100: must be one run; 2 start with this: "),
        (
            "show cifar100-protonet-slow-0",
            "show cifar100-protonet-slow-0: no such run in results; did you mean",
        ),
        ("show ../results", "show ../results: "),
    ],
)
def test_runs_that_are_not_there(command, expected):
    Path("results", "bad.json").unlink(missing_ok=True)
    assert complaint(*command.split()).startswith(expected)
