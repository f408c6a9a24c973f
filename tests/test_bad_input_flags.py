"""Values of flags and arguments that no command can use: one line each, before anything is read.

The rules have unit cases; about 30 commands show the form of the line, the exit code, and that nothing is
written.
"""

import os

import pytest
from bad_inputs import TOO_LONG
from command_line import bench, complaint

from bench.cli.app import int_parser, path_parser
from bench.common.errors import UserError
from bench.config.run_config import resolve

SPLITS = "allowed: 10-90, 20-80, "
NO_PATH = "cannot be accessed (File name too long)"
NO_FILE = "no such file; must be path/to/file.py:Class"

NAMES = [
    ("split", "../../etc/passwd", SPLITS),
    ("split", "/tmp", SPLITS),
    ("split", "90/10", "did you mean 90-10?"),
    ("split", "90–10", "did you mean 90-10?"),
    ("split", "٩٠-١٠", SPLITS),
    ("split", "45.5-54.5", SPLITS),
    ("split", "-10-110", "did you mean 90-10?"),
    ("split", "90-10-0", "did you mean 90-10?"),
    ("split", "80-10", "must be percentages B-N with B + N = 100"),
    ("split", "90-10@9999999999", SPLITS),
    ("split", "CIFAR-FS", "did you mean cifar-fs?"),
    ("split", "fc-100", "did you mean fc100?"),
    ("split", f"{TOO_LONG}.csv", "no such file; must be a CSV"),
    ("split", ".csv", "no such file"),
    ("dataset", "imagenet", "did you mean mini-imagenet?"),
    ("dataset", "../cifar100", "did you mean cifar100?"),
    ("dataset", "ftp:x", "allowed: cifar100, glyphs"),
    ("backbone", "CONV4", "did you mean conv4?"),
    ("backbone", "timm:", "did you mean timm:<name>?"),
    ("backbone", "timm:../x", "did you mean timm:<name>?"),
    ("backbone", "resnet12-99999", "did you mean resnet12?"),
    ("backbone", "../conv4.pt", "did you mean conv4?"),
    ("preset", "../quick", "did you mean quick?"),
    ("method", "prötonet", "did you mean protonet?"),
    ("method", "../protonet", "did you mean protonet?"),
    ("method", "protonet:X", "did you mean protonet?"),
    ("method", "/etc", "allowed: anil, "),
    ("method", "x.py:A:B", "allowed: anil, "),
    ("method", "/etc/passwd.py", NO_FILE),
    ("method", f"{TOO_LONG}.py", NO_FILE),
    ("method", f"{TOO_LONG}.py:Class", NO_FILE),
    ("method", TOO_LONG, "allowed: anil, "),
]

SETS = [
    ("margin", "", "must be a number"),
    ("margin", "1e999", "must be a finite number"),
    ("margin", "0x1", "must be a number"),
    ("margin", "1,5", "must be a number"),
    ("steps", "1e3", "must be a whole number"),
    ("steps", "9" * 5000, "must be a whole number"),
    ("Margin", "1", "siamese_triplet has no such hyperparameter; did you mean margin?"),
    ("__class__", "1", "siamese_triplet has no such hyperparameter; did you mean"),
    ("mining", "", "allowed: soft, all, semihard, hard, random"),
]

COMMANDS = [
    ("run --split 90", "--split 90: did you mean 90-10?"),
    ("run --split a,,b", "--split a,,b: names must not be empty"),
    ("run --dataset mnist\x1b[2J", "--dataset mnist\\x1b[2J: did you mean mnist?"),
    ("run --backbone conv5", "--backbone conv5: did you mean conv4? allowed: conv4, conv4-32, resnet12"),
    ("run --preset Standard", "--preset Standard: did you mean standard? allowed: smoke, quick, standard"),
    ("run --device CPU", "--device CPU: did you mean cpu? allowed: auto, cpu, cuda, cuda:1, mps"),
    ("run --precision 16", "--precision 16: did you mean bf16? allowed: auto, fp32, bf16"),
    ("run --seed 0-4", "--seed 0-4: must be a whole number"),
    ("run --steps 0", "--steps 0: must be at least 1"),
    ("run --way 5 --shot -1", "--shot -1: must be at least 1"),
    ("run --set ", "--set: must be key=value"),
    ("run --config .", "--config .: Is a directory"),
    ("run --config a_file", "--config a_file: must be a map from names to values"),
    (f"run --weights {TOO_LONG}", f"--weights {TOO_LONG[:200]}...: {NO_PATH}"),
    ("run --method \udcff", "--method \\udcff: allowed: anil, "),
    ("leaderboard --check --show", "--check: cannot be combined with --show"),
    ("leaderboard --results empty --output a_file/x.md", "--output a_file/x.md: must be writable"),
    ("validate --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("list runs --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("show x --results a_file", "--results a_file: no such folder; must be the folder of records"),
    (f"show {TOO_LONG}.json --results empty", f"show {TOO_LONG[:200]}...: empty has no runs"),
    ("show a_file --results empty", "show a_file: empty has no runs"),
    ("show", "RUN: is missing; A run id, the start of one, or a path"),
    ("compare ../x.json mtl --results empty", "--results ../x.json: No such file or directory"),
    ("docs --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("report --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("figures --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("report --results nowhere", "--results nowhere: must be a folder of records (No such file"),
    ("figures --results nowhere", "--results nowhere: must be a folder of records (No such file"),
    ("report --results empty --output a_file/x.html", "--output a_file/x.html: must be writable"),
    ("figures --results empty --output a_file/x", "--output a_file/x: must be a writable folder"),
    ("data info --dataset folder:a_file", "--dataset folder:a_file: is a file; must be a folder"),
    (f"data info --dataset folder:{TOO_LONG}", f"--dataset folder:{TOO_LONG[:193]}...: no such folder"),
    ("data info --dataset folder:~no.such.user/x", "--dataset folder:~no.such.user/x: no such folder"),
    ("data verify --data-root a_file --dataset mnist", "--data-root a_file: must be the folder"),
    ("data verify x", "got unexpected extra argument(s) (x); see python -m bench data verify --help"),
    ("--method protonet", "--method: no such flag; allowed: --help"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """A working directory with an empty file and an empty folder."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "a_file").touch()
    (folder / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FEWSHOT_DATA", raising=False)
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        yield


def refused(settings: dict[str, str], sets: dict[str, str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        resolve({"method": "siamese_triplet"} | settings, {}, sets or {})
    return str(caught.value)


@pytest.mark.parametrize(("key", "name", "allowed"), NAMES, ids=ascii)
def test_a_name(key, name, allowed):
    shown = name if len(name) <= 200 else f"{name[:200]}..."
    assert refused({key: name}).startswith(f"--{key} {shown}: {allowed}")


@pytest.mark.parametrize(("key", "value", "allowed"), SETS)
def test_a_hyperparameter(key, value, allowed):
    given = f"{key}={value}"
    shown = given if len(given) <= 200 else f"{given[:200]}..."
    assert refused({}, {key: value}).startswith(f"--set {shown}: {allowed}")


@pytest.mark.parametrize(
    ("parser", "text", "problem"),
    [
        *((int_parser, text, f"{text}: must be a whole number") for text in ("1.5", "0x10", "１", "9" * 19)),
        (path_parser, "", "'': must be a path"),
        (path_parser, TOO_LONG, f"{TOO_LONG[:200]}...: {NO_PATH}"),
    ],
    ids=lambda value: getattr(value, "__name__", ascii(value)[:40]),
)
def test_a_value_that_no_flag_of_its_type_takes(parser, text, problem):
    with pytest.raises(UserError) as caught:
        parser("--flag")(text)
    assert str(caught.value) == f"--flag {problem}"


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[ascii(c)[:40] for c, _ in COMMANDS])
def test_a_command(command, expected):
    name, *rest = command.split(" ")
    method = ["--method", "siamese_triplet"] if name == "run" and "--method" not in rest else []
    assert complaint(name, *method, *rest).startswith(expected)


def test_a_folder_of_data_that_is_a_file_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("FEWSHOT_DATA", "a_file")
    assert complaint("data", "info").startswith("$FEWSHOT_DATA a_file: must be the folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    assert complaint("validate", "--results", locked).endswith("a folder of records (Permission denied)")
    assert complaint("run", "--method", "mtl", "--results", locked / "x").startswith(
        f"--results {locked}/x: "
    )


def test_no_records_at_all_are_accepted():
    assert bench("list", "runs", "--results", "nowhere").code == 0
