"""Values of flags and arguments that no command can use: one line each, before anything is read."""

import os

import pytest
from bad_inputs import TOO_LONG
from command_line import bench, complaint

SPLITS = "allowed: 10-90, 20-80, "
NO_PATH = "cannot be accessed (File name too long)"
OWN = "an additional setting needs --way and --shot"

RUN = [
    ("--split ../../etc/passwd", f"--split ../../etc/passwd: {SPLITS}"),
    ("--split /tmp", f"--split /tmp: {SPLITS}"),
    ("--split 90", "--split 90: did you mean 90-10?"),
    ("--split 90/10", "--split 90/10: did you mean 90-10?"),
    ("--split 90–10", "--split 90–10: did you mean 90-10?"),
    ("--split ٩٠-١٠", f"--split ٩٠-١٠: {SPLITS}"),
    ("--split 45.5-54.5", f"--split 45.5-54.5: {SPLITS}"),
    ("--split=-10-110", "--split -10-110: did you mean 90-10?"),
    ("--split 90-10-0", "--split 90-10-0: did you mean 90-10?"),
    ("--split 80-10", "--split 80-10: must be percentages B-N with B + N = 100"),
    ("--split 90-10@-1", "--split 90-10@-1: did you mean 90-10?"),
    ("--split 90-10@9999999999", f"--split 90-10@9999999999: {SPLITS}"),
    ("--split CIFAR-FS", "--split CIFAR-FS: did you mean cifar-fs?"),
    ("--split fc-100", "--split fc-100: did you mean fc100?"),
    ("--split a,,b", "--split a,,b: names must not be empty"),
    (f"--split {TOO_LONG}.csv", f"--split {TOO_LONG[:200]}...: no such file; must be a CSV"),
    ("--split .csv", "--split .csv: no such file"),
    ("--dataset imagenet", "--dataset imagenet: did you mean mini-imagenet?"),
    ("--dataset ../cifar100", "--dataset ../cifar100: did you mean cifar100?"),
    ("--dataset ftp:x", "--dataset ftp:x: allowed: cifar100, glyphs"),
    ("--dataset hf:", "--dataset hf:: did you mean hf:NAME?"),
    ("--dataset Folder:x", "--dataset Folder:x: did you mean folder:PATH?"),
    ("--dataset mnist\x1b[2J", "--dataset mnist\\x1b[2J: did you mean mnist?"),
    ("--backbone conv5", "--backbone conv5: did you mean conv4? allowed: conv4, conv4-32, resnet12"),
    ("--backbone CONV4", "--backbone CONV4: did you mean conv4?"),
    ("--backbone timm:", "--backbone timm:: did you mean timm:<name>?"),
    ("--backbone timm:../x", "--backbone timm:../x: did you mean timm:<name>?"),
    ("--backbone resnet12-99999", "--backbone resnet12-99999: did you mean resnet12?"),
    ("--backbone ../conv4.pt", "--backbone ../conv4.pt: did you mean conv4?"),
    ("--preset Standard", "--preset Standard: did you mean standard? allowed: smoke, quick, standard, paper"),
    ("--preset ../quick", "--preset ../quick: did you mean quick?"),
    ("--device CPU", "--device CPU: did you mean cpu? allowed: auto, cpu, cuda, cuda:1, mps"),
    ("--device cuda:-1", "--device cuda:-1: did you mean cuda:1?"),
    ("--device cuda:x", "--device cuda:x: did you mean cuda:1?"),
    ("--device tpu", "--device tpu: did you mean cpu?"),
    ("--precision 16", "--precision 16: did you mean bf16? allowed: auto, fp32, bf16"),
    ("--precision fp64", "--precision fp64: did you mean fp32?"),
    ("--seed 4294967296", "--seed 4294967296: must be at most 4294967295"),
    ("--seed 1.5", "--seed 1.5: must be a whole number"),
    ("--seed 0x10", "--seed 0x10: must be a whole number"),
    ("--seed １", "--seed １: must be a whole number"),
    ("--seed 1,,2", "--seed 1,,2: names must not be empty"),
    ("--seed 0-4", "--seed 0-4: must be a whole number"),
    ("--way 0 --shot 1", "--way 0: must be at least 2"),
    ("--way -5 --shot 1", "--way -5: must be at least 2"),
    ("--way 5 --shot 0", "--shot 0: must be at least 1"),
    ("--way 5 --shot -1", "--shot -1: must be at least 1"),
    ("--way 5 --shot 1 --query 0", "--query 0: must be at least 1"),
    ("--way 5 --shot 1 --query -3", "--query -3: must be at least 1"),
    ("--way 5 --shot 1 --episodes 0", "--episodes 0: must be at least 2"),
    ("--way 5 --shot 1 --episodes 1000001", "--episodes 1000001: must be at most 1000000"),
    ("--way 5.0 --shot 1", "--way 5.0: must be a whole number"),
    ("--shot 1", f"--way: is missing; {OWN}"),
    ("--query 15", f"--way: is missing; {OWN}"),
    ("--episodes 50", f"--way: is missing; {OWN}"),
    ("--image-size 0", "--image-size 0: must be at least 8"),
    ("--image-size -32", "--image-size -32: must be at least 8"),
    ("--image-size 100000", "--image-size 100000: must be at most 1024"),
    ("--steps 0", "--steps 0: must be at least 1"),
    ("--set =1", "--set =1: must be key=value"),
    ("--set ", "--set: must be key=value"),
    ("--set margin=", "--set margin=: must be a number"),
    ("--set margin=-1", "--set margin=-1: must be at least 0"),
    ("--set margin=1e999", "--set margin=1e999: must be a finite number"),
    ("--set margin=0x1", "--set margin=0x1: must be a number"),
    ("--set margin=1,5", "--set margin=1,5: must be a number"),
    ("--set steps=1e3", "--set steps=1e3: must be a whole number"),
    (f"--set steps={'9' * 5000}", f"--set steps={'9' * 194}...: must be a whole number"),
    ("--set Margin=1", "--set Margin=1: siamese_triplet has no such hyperparameter; did you mean margin?"),
    ("--set __class__=1", "--set __class__=1: siamese_triplet has no such hyperparameter; did you mean"),
    ("--set mining=", "--set mining=: allowed: soft, all, semihard, hard, random"),
    ("--config .", "--config .: Is a directory"),
    ("--config a_file", "--config a_file: must be a map from names to values"),
    (f"--config {TOO_LONG}", f"--config {TOO_LONG[:200]}...: {NO_PATH}"),
    (f"--weights {TOO_LONG}", f"--weights {TOO_LONG[:200]}...: {NO_PATH}"),
    (f"--results {TOO_LONG}", f"--results {TOO_LONG[:200]}...: {NO_PATH}"),
    (f"--runs {TOO_LONG}", f"--runs {TOO_LONG[:200]}...: {NO_PATH}"),
    (f"--data-root {TOO_LONG}", f"--data-root {TOO_LONG[:200]}...: {NO_PATH}"),
    ("--results ", "--results '': must be a path"),
    ("--runs ", "--runs '': must be a path"),
    ("--weights ", "--weights '': must be a path"),
]

METHODS = [
    ("PROTONET", "did you mean protonet? allowed: anil, "),
    ("prötonet", "did you mean protonet?"),
    ("../protonet", "did you mean protonet?"),
    ("protonet:X", "did you mean protonet?"),
    ("/etc", "allowed: anil, "),
    ("x.py:A:B", "allowed: anil, "),
    ("/etc/passwd.py", "no such file; must be path/to/file.py:Class"),
    (f"{TOO_LONG}.py", "no such file; must be path/to/file.py:Class"),
    (f"{TOO_LONG}.py:Class", "no such file; must be path/to/file.py:Class"),
    (TOO_LONG, "allowed: anil, "),
    ("\udcff", "allowed: anil, "),
]

OTHERS = [
    ("leaderboard --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    (f"leaderboard --results {TOO_LONG}", f"--results {TOO_LONG[:200]}...: {NO_PATH}"),
    ("leaderboard --results ", "--results '': must be a path"),
    ("leaderboard --check --show", "--check: cannot be combined with --show"),
    ("leaderboard --results empty --output a_file/x.md", "--output a_file/x.md: must be writable"),
    ("leaderboard --results empty --output empty", "--output empty: must be writable"),
    ("validate", "--results results: must be a folder of records (No such file or directory)"),
    ("validate --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("validate --results ", "--results '': must be a path"),
    ("list runs --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    (f"list runs --results {TOO_LONG}", f"--results {TOO_LONG[:200]}...: {NO_PATH}"),
    ("list Runs", "list Runs: did you mean runs? allowed: methods, splits"),
    (f"list methods --method {TOO_LONG}.py", f"--method {TOO_LONG[:200]}...: no such file"),
    ("list methods --method ../protonet", "--method ../protonet: did you mean protonet?"),
    ("show x --results a_file", "--results a_file: no such folder; must be the folder of records"),
    (f"show {TOO_LONG}.json --results empty", f"show {TOO_LONG[:200]}...: empty has no runs"),
    (f"show {TOO_LONG} --results empty", f"show {TOO_LONG[:200]}...: empty has no runs"),
    ("show ../../etc/passwd --results empty", "show ../../etc/passwd: empty has no runs"),
    ("show a_file --results empty", "show a_file: empty has no runs"),
    ("show", "RUN: is missing; A run id, the start of one, or a path"),
    ("compare protonet --results empty", "compare protonet: needs two or more runs or methods"),
    ("compare protonet mtl --results empty", "compare protonet: no such run or method; allowed:"),
    ("compare ../x.json mtl --results empty", "--results ../x.json: No such file or directory"),
    (f"compare {TOO_LONG}.json mtl --results empty", f"--results {TOO_LONG[:200]}...: File name too long"),
    ("compare , mtl --results empty", "compare ,: no such run or method"),
    ("compare empty mtl --results empty", "compare empty: no such run or method"),
    ("docs --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("report --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("figures --results a_file", "--results a_file: must be a folder of records (Not a directory)"),
    ("figures --results empty --output ", "--output '': must be a path"),
    ("data info --dataset folder:a_file", "--dataset folder:a_file: is a file; must be a folder"),
    (f"data info --dataset folder:{TOO_LONG}", f"--dataset folder:{TOO_LONG[:193]}...: no such folder"),
    ("data info --dataset folder:~no.such.user/x", "--dataset folder:~no.such.user/x: no such folder"),
    ("data info --data-root a_file", "--data-root a_file: must be the folder of data sets, not a file"),
    ("data verify --data-root a_file --dataset mnist", "--data-root a_file: must be the folder"),
    ("data verify --image-size 9999 --dataset folder:empty", "--image-size 9999: must be 8 to 1024 pixels"),
    ("data info --image-size 32 --dataset mnist", "--image-size 32: only for folder:, hf: and omniglot"),
    ("data verify x", "got unexpected extra argument(s) (x); see python -m bench data verify --help"),
    ("run --offlin", "--offlin: no such flag; did you mean --offline?"),
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


@pytest.mark.parametrize(("flags", "expected"), RUN, ids=[flags[:40] for flags, _ in RUN])
def test_a_flag_of_run(flags, expected):
    assert complaint("run", "--method", "siamese_triplet", *flags.split(" ")).startswith(expected)


@pytest.mark.parametrize(("name", "allowed"), METHODS, ids=[ascii(name)[:40] for name, _ in METHODS])
def test_a_method(name, allowed):
    shown = "\\udcff" if name == "\udcff" else name if len(name) <= 200 else f"{name[:200]}..."
    assert complaint("run", "--method", name).startswith(f"--method {shown}: {allowed}")


@pytest.mark.parametrize(("command", "expected"), OTHERS, ids=[command[:40] for command, _ in OTHERS])
def test_another_command(command, expected):
    assert complaint(*command.split(" ")).startswith(expected)


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


def test_no_records_at_all_are_no_mistake():
    assert bench("list", "runs", "--results", "nowhere").code == 0
