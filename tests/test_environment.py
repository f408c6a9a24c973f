import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.common import environment
from bench.common.errors import UserError


@pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_names_of_devices(name):
    environment.check_device(name)


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:", "cuda:01", "cuda:-1", "cuda:0 ", "cpu:0", "meta", "0"]
)
def test_invalid_names_of_devices(name):
    with pytest.raises(UserError, match=r"^--device.*allowed: auto, cpu, cuda, cuda:1, mps$"):
        environment.check_device(name)


def test_a_device_that_is_not_here():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=f"^--device {missing}: not on this machine; allowed: auto, cpu"):
        environment.pick_device(missing)


def test_the_cpu_is_always_here_and_auto_is_one_of_those_that_are():
    assert environment.pick_device("cpu") == torch.device("cpu")
    assert environment.pick_device(str(environment.pick_device("auto"))) == environment.pick_device("auto")


def test_auto_prefers_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert environment.pick_device("auto") == torch.device("cuda")
    assert environment.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="allowed: auto, cpu, cuda, cuda:0, cuda:1"):
        environment.pick_device("cuda:2")


def test_precision_is_bf16_where_the_processor_computes_in_it(monkeypatch):
    cpu = torch.device("cpu")
    assert environment.pick_precision("fp32", cpu) == "32-true"
    assert environment.pick_precision("bf16", cpu) == "bf16-mixed"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for there, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there)
        assert environment.pick_precision("auto", cpu) == expected
    assert environment.pick_precision("auto", torch.device("mps")) == "32-true"


def test_versions_are_those_that_are_installed():
    versions = environment.package_versions()
    assert versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert {"python", "numpy", "pytorch-lightning"} <= versions.keys()


def test_this_machine_has_a_processor_and_this_process_memory():
    assert environment.cpu_name().endswith(f", {environment.available_cores()} cores")
    assert environment.available_cores() >= 1
    assert environment.peak_memory_mib() > 50  # torch alone is more


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with this module in it."""
    code = tmp_path / "bench" / "common" / "environment.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    monkeypatch.setattr(environment, "__file__", str(code))
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # as inside a hook
        monkeypatch.delenv(variable, raising=False)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_a_record_knows_the_commit_and_whether_the_code_differs_from_it(checkout: Path):
    commit, dirty = environment.git_state()
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert (commit, dirty) == (head, False)

    (checkout / "leaderboard.md").write_text("a new row")
    (checkout / "results").mkdir()
    (checkout / "results" / "a.json").write_text("{}")
    (checkout / "benchmarks" / "tuning").mkdir(parents=True)
    (checkout / "benchmarks" / "tuning" / "protonet.csv").write_text("a trial")
    assert environment.git_state() == (head, False)  # what a run makes decides no number

    (checkout / "bench" / "environment.py").write_text("changed")
    assert environment.git_state() == (head, True)


def test_another_repository_of_the_environment_is_not_asked(checkout, tmp_path_factory, monkeypatch):
    """As in a hook of git, which sets these."""
    expected = environment.git_state()
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert environment.git_state() == expected and expected[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_checkout_of_another_user_is_read(checkout):
    expected = environment.git_state()
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    refused = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True)
    assert b"dubious ownership" in refused.stderr
    assert environment.git_state() == expected and expected[0]


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "bench" / "environment.py"))
    assert environment.git_state() == (None, None)


def test_a_checkout_without_git_has_no_commit_and_says_so(checkout, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    environment._say_once.cache_clear()
    assert environment.git_state() == (None, None)
    said = capsys.readouterr().err
    assert said.startswith("warning: the commit is not recorded: git cannot read ") and said.count("\n") == 1


def test_auto_takes_apple_s_gpu_where_there_is_no_other(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert environment.pick_device("auto") == torch.device("mps")


def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert environment.pick_precision("auto", gpu) == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert environment.pick_precision("auto", gpu) == "bf16-mixed"


def test_a_library_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "LIBRARIES", ("numpy", "not-a-library"))
    assert environment.package_versions().keys() == {"python", "numpy"}


def test_another_system_records_what_it_knows(monkeypatch):
    """As on Windows: no /proc, no module `resource`, and a C library without `mallopt`."""
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: "Some CPU")
    assert environment.cpu_name() == f"Some CPU, {environment.available_cores()} cores"
    monkeypatch.setitem(sys.modules, "resource", None)
    assert environment.peak_memory_mib() is None
    monkeypatch.setattr(ctypes, "CDLL", missing)
    environment.keep_freed_memory()  # which does nothing there


def missing(*given, **more):
    raise FileNotFoundError
