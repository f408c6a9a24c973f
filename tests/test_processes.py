"""Work that is shared out to processes comes back as if one process had done it."""

import multiprocessing
import os
import signal
import sys
from contextlib import closing

import numpy as np
import pytest
from record_factory import make_episodes, make_record
from threadpoolctl import threadpool_info

from bench.common import processes
from bench.common.processes import shared_out
from bench.records import store
from bench.reporting import leaderboard

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
HERE = os.getpid()


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(processes, "available_cores", lambda: 2)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@linux
@pytest.mark.parametrize("count", [1, 2, 700])
def test_results_come_in_the_order_of_the_items(cores, count):
    seen = list(shared_out(lambda i: (i * i, os.getpid()), range(count), pays=True))
    assert [square for square, _ in seen] == [i * i for i in range(count)]
    assert (HERE in {process for _, process in seen}) == (count == 1)


@pytest.mark.parametrize("why", ["too little work", "one core", "another system"])
def test_where_it_does_not_pay_this_process_does_it(cores, monkeypatch, why):
    if why == "one core":
        monkeypatch.setattr(processes, "available_cores", lambda: 1)
    if why == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    assert set(shared_out(lambda _: os.getpid(), range(9), pays=why != "too little work")) == {HERE}


@linux
def test_a_request_to_end_ends_the_other_processes(cores):
    """The command line answers SIGTERM with an exception, which a pool would take for the work's result."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        found = set(shared_out(lambda _: signal.getsignal(signal.SIGTERM), range(64), pays=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == {signal.SIG_DFL}


@linux
def test_when_a_process_is_killed_this_one_does_what_is_left(cores):
    def work(i: int) -> int:
        if i == 300 and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    assert list(shared_out(work, range(700), pays=True)) == list(range(700))


@linux
def test_an_error_is_raised_here(cores):
    with pytest.raises(ZeroDivisionError):
        list(shared_out(lambda i: 1 / (i - 40), range(100), pays=True))


@linux
def test_one_that_is_closed_early_leaves_no_process_and_blas_as_it_was(cores):
    before = blas_threads()
    with closing(shared_out(abs, range(100_000), pays=True)) as results:
        assert next(results) == 0
        assert blas_threads() == {1} and len(multiprocessing.active_children()) == 2
    assert blas_threads() == before and not multiprocessing.active_children()


@linux
def test_the_leaderboard_is_the_same_as_from_one_process(cores, tmp_path, monkeypatch):
    results = tmp_path / "results"
    rng = np.random.default_rng(0)
    for method in "abcdef":
        for seed in range(4 if method < "d" else 1):
            record = make_record(method=method, seed=seed, run_id=f"{method}-{seed}")
            store.write(record, results, make_episodes(rng.uniform(0.5, 0.7), seed))
    (results / "a-1.npz").write_bytes(b"damaged")
    (results / "b-2.json").write_text("{}")
    alone = tmp_path / "alone.md", leaderboard.write(results, tmp_path / "alone.md")
    used = []
    for place in (leaderboard, leaderboard.reading):
        monkeypatch.setattr(place, "PAYS_FROM", 1)
        monkeypatch.setattr(place, "shared_out", spy(used))
    together = tmp_path / "together.md", leaderboard.write(results, tmp_path / "together.md")
    assert used == [True, True]
    assert alone[0].read_bytes() == together[0].read_bytes()
    assert alone[1] == together[1] and len(alone[1]) == 1


def spy(used: list[bool]):
    def shared(function, items, pays):
        used.append(pays)
        return shared_out(function, items, pays)

    return shared
