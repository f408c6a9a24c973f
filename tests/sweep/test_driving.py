"""How a sweep takes its jobs one after the other, on an engine that ends them as it is told."""

import io
from collections import deque

from bench.common.progress import Progress
from bench.config.run_config import resolve
from bench.run.sweep.driving import ATTEMPTS, drive
from bench.run.sweep.jobs import Job, Plan
from bench.run.sweep.worker import Outcome

CONFIG = resolve({"method": "protonet", "preset": "smoke"}, {}, {})


class Scripted:
    """An engine that ends one job at a time, as it is told; it remembers the order."""

    def __init__(self, ends=(), slots=2):
        self.ends = {name: deque(own) for name, own in dict(ends).items()}
        self.slots, self.running, self.order, self.closed = slots, deque(), [], False

    def free(self):
        return len(self.running) < self.slots

    def submit(self, job):
        self.running.append(job)
        self.order.append(job.name)

    def ended(self, seconds):
        job = self.running.popleft()
        own = self.ends.get(job.name)
        yield job, own.popleft() if own else Outcome()

    def close(self):
        self.closed = True


def driven(jobs, engine, progress=None):
    said = []
    work = drive(Plan(jobs), engine, progress or Progress(), said.append)
    failed = {job.name: why for job, why in work}
    assert engine.closed and not engine.running
    return failed, said


def jobs_of(*needs):
    """Jobs a, b, ...: a name in capitals is a shared training."""
    return [Job(name, CONFIG, name.isupper(), first, 1.0) for name, first in needs]


def test_a_job_starts_when_the_training_that_it_needs_has_ended():
    jobs = jobs_of(("A", None), ("b", "A"), ("c", "A"), ("D", None), ("e", "D"), ("f", None))
    engine = Scripted()
    assert driven(jobs, engine)[0] == {}
    assert sorted(engine.order) == list("ADbcef")
    order = engine.order
    assert order[:2] == ["A", "D"]
    assert all(order.index(first) < order.index(name) for first, name in ("Ab", "Ac", "De"))


def test_a_failure_costs_only_what_needs_it():
    jobs = jobs_of(("A", None), ("b", "A"), ("c", None), ("d", None))
    failed, _ = driven(jobs, Scripted({"A": [Outcome("diverged")], "c": [Outcome("no such weights")]}))
    assert failed == {"A": "diverged", "b": "needs A, which failed", "c": "no such weights"}


def test_a_run_follows_its_own_training_that_others_share_and_records_its_failure():
    jobs = [*jobs_of(("A", None), ("b", "A")), Job("A", CONFIG, False, None, 1.0)]
    engine = Scripted(slots=3)
    assert driven(jobs, engine)[0] == {} and engine.order[0] == "A" and engine.order.count("A") == 2
    failed, _ = driven(jobs, Scripted({"A": [Outcome("diverged"), Outcome("diverged, recorded")]}))
    assert failed == {"A": "diverged, recorded", "b": "needs A, which failed"}


def test_a_run_with_a_training_of_its_own_and_one_that_it_needs_waits_for_both():
    jobs = [*jobs_of(("P", None), ("R", "P")), Job("R", CONFIG, False, "P", 1.0)]
    engine = Scripted(slots=3)
    assert driven(jobs, engine)[0] == {} and engine.order == ["P", "R", "R"]


def test_a_lost_process_is_replaced_but_not_for_ever():
    jobs = jobs_of(("a", None), ("b", None))
    engine = Scripted({"a": [None] * (ATTEMPTS - 1)})
    failed, said = driven(jobs, engine)
    assert failed == {} and engine.order.count("a") == ATTEMPTS
    assert sum("killed" in line for line in said) == ATTEMPTS - 1
    engine = Scripted({"a": [None] * 10})
    failed, _ = driven(jobs, engine)
    assert list(failed) == ["a"] and engine.order.count("a") == ATTEMPTS


def test_progress_is_the_estimated_work_that_is_done(monkeypatch):
    """A job of unknown cost counts as the mean of the others, one that runs at most as its estimate."""
    told, clock = [], [0.0]

    class Told(Progress):
        def advance(self, units, **notes):
            super().advance(units, **notes)
            told.append((self.done, notes["done"], notes["running"]))

    class Slow(Scripted):
        def ended(self, seconds):
            clock[0] += 20.0
            return super().ended(seconds)

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    jobs = [Job("a", CONFIG, seconds=100.0), Job("b", CONFIG, seconds=16.0), Job("c", CONFIG)]
    stream = io.StringIO()
    driven(jobs, Slow({"c": [Outcome("diverged")]}), Told(stream))
    assert told == [(115, "1/3", "1"), (136, "2/3", "1"), (174, "2/3, 1 failed", "0")]
    first, *_, last = stream.getvalue().splitlines()
    assert first == "sweep: 115/174 s of work  5.8/s  0:10 left  done 1/3  running 1"
    assert last == "sweep: 174/174 s of work  2.9/s  in 1:00  done 2/3, 1 failed  running 0"


def test_what_another_process_makes_is_looked_at_again(monkeypatch):
    monkeypatch.setattr("bench.run.sweep.driving.LOCKED_S", 0.01)
    monkeypatch.setattr("bench.run.sweep.driving.LOOK_EVERY_S", 0.01)
    engine = Scripted({"a": [Outcome(locked=True)] * 3}, slots=1)
    failed, said = driven(jobs_of(("a", None), ("b", None)), engine)
    assert failed == {} and engine.order.count("a") == 4 and engine.order.index("b") < 3
    assert sum("left for later" in line for line in said) == 1
