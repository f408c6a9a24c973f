"""What the driver of a Ray cluster does with what its nodes give back, on a stand-in for Ray."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked_runs import in_fork

from bench.common.errors import UserError
from bench.common.progress import Progress
from bench.config.run_config import resolve
from bench.run.plan import Options
from bench.run.sweep.driving import ATTEMPTS, drive
from bench.run.sweep.engines import LOST, OnRay, imported_ray
from bench.run.sweep.jobs import Job, Plan
from bench.run.sweep.worker import Outcome

JOB = Job("a_s0_1", resolve({"method": "protonet", "preset": "smoke"}, {}, {}))


class RayError(Exception):
    pass


NAMES = [*LOST, "RayTaskError", "RaySystemError", "TaskUnschedulableError"]
ERRORS = {name: type(name, (RayError,), {}) for name in NAMES}
FOUR = {"CPU": 4.0}


class Ray:
    """Its tasks do nothing and end at once, as they are told."""

    def __init__(self, ends=(), resources=FOUR, problem=None):
        self.ends, self.resources, self.problem = list(ends), resources, problem
        self.exceptions = SimpleNamespace(RayError=RayError, **ERRORS)
        self.closed, self.needs = False, {}

    def init(self, address, **_):
        self.address = address

    def cluster_resources(self):
        return self.resources

    def remote(self, **needs):
        self.needs = needs
        return lambda work: SimpleNamespace(remote=lambda *arguments: "task")

    def wait(self, tasks, timeout):
        if self.problem:
            raise self.problem
        return tasks, []

    def get(self, task):
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def cancel(self, task, force):
        assert force
        raise ConnectionError("nobody there")

    def shutdown(self):
        self.closed = True


@pytest.fixture
def driven(monkeypatch, tmp_path):
    """Drives one job: its failure or the empty string, and what was said."""
    monkeypatch.chdir(tmp_path)

    def go(ray):
        monkeypatch.setitem(sys.modules, "ray", ray)
        engine = OnRay(Options(Path("results"), Path("runs"), "", device="cpu"), None)
        said = []
        failed = [why for _, why in drive(Plan([JOB]), engine, Progress(), said.append)]
        assert ray.closed
        return "".join(failed), said

    return go


def test_what_a_node_made_is_written_here(driven, tmp_path):
    """A record that is here stays; the card of the run's own model is the newer one."""
    new, here = tmp_path / "results" / "a_s0_1.json", tmp_path / "results" / "b.json"
    card = tmp_path / "runs" / JOB.name / "card.json"
    for path in (here, card):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    failed, _ = driven(Ray([Outcome(files=dict.fromkeys((new, here, card), b"new"))]))
    assert failed == "" and [path.read_bytes() for path in (new, here, card)] == [b"new", b"old", b"new"]


def test_a_record_that_cannot_be_written_here_is_a_failure(driven, tmp_path):
    (tmp_path / "results").write_text("a file")
    failed, _ = driven(Ray([Outcome(files={tmp_path / "results" / "a_s0_1.json": b"new"})]))
    assert "--results or --runs" in failed


@pytest.mark.parametrize("name", LOST)
def test_a_lost_worker_is_replaced(driven, name):
    failed, said = driven(Ray([ERRORS[name]("gone"), Outcome()]))
    assert failed == "" and said[0] == f"{JOB.name}: its process was killed; started again"
    failed, said = driven(Ray([ERRORS[name]("gone")] * ATTEMPTS))
    assert failed.endswith("out of memory?")


@pytest.mark.parametrize("name", sorted(set(ERRORS) - set(LOST)))
def test_other_errors_are_told_as_they_are(driven, name):
    failed, _ = driven(Ray([ERRORS[name]("no node\nhas a GPU")]))
    assert failed == f"{name}: no node has a GPU"


def test_a_cluster_that_is_gone_is_one_line(driven):
    with pytest.raises(UserError) as told:
        driven(Ray(problem=ERRORS["RaySystemError"]("the head\ndied")))
    assert str(told.value) == "--engine ray: the Ray cluster is lost (the head died)"
    assert sys.modules["ray"].closed


@pytest.mark.parametrize("address", [None, "host:6379"])
def test_a_cluster_that_cannot_be_reached_may_want_a_token(monkeypatch, tmp_path, address):
    def init(*args: object, **options: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match=r"there is no Ray cluster.*\(refused\)") as told:
        OnRay(Options(tmp_path, tmp_path, ""), address)
    assert ("RAY_AUTH_MODE=token" in str(told.value)) == bool(address)


@pytest.mark.parametrize(
    ("device", "resources", "gpus", "at_once"),
    [("auto", {"CPU": 8.0, "GPU": 2.0}, 1, 2), ("cpu", {"CPU": 8.0, "GPU": 2.0}, 0, 8), ("auto", {}, 0, 1)],
)
def test_a_job_needs_a_gpu_if_the_cluster_has_any(monkeypatch, tmp_path, device, resources, gpus, at_once):
    ray = Ray(resources=resources)
    monkeypatch.setitem(sys.modules, "ray", ray)
    engine = OnRay(Options(tmp_path, tmp_path, "", device=device), "auto")
    assert ray.address == "auto"
    assert (ray.needs["num_cpus"], ray.needs["num_gpus"], engine.at_once) == (1, gpus, at_once)


def uploads() -> bool:
    """Whether Ray, as a sweep imports it, makes environments of its own for workers under `uv run`."""
    imported_ray()
    from ray._private import ray_constants

    return ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="needs Ray")
def test_workers_run_in_the_node_s_own_environment_unless_the_user_says_so(monkeypatch):
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", raising=False)
    assert not in_fork(uploads)
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "1")
    assert in_fork(uploads)
