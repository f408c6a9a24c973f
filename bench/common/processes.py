"""Many small pieces of work, shared out to several processes where that pays."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from bench.common.environment import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

PAYS_FROM = 500
"""Records. Threads would not pay: most of the work on a record holds Python's lock."""

MOST_PROCESSES = 2  # each adds some 50 MiB, and the process that puts the results together is the limit soon
MOST_AT_ONCE = 50  # items that a process gets at a time


def shared_out(
    function: Callable[[Item], Result], items: Sequence[Item], pays: bool
) -> Generator[Result, None, None]:
    """``map(function, items)``, in that order, by two processes if that `pays`.

    Until it is closed, BLAS runs without threads of its own: they would compete with the processes.

    Args:
        function: without side effects. Its results travel between processes, the items do not.
        items: are not to change before it is closed.
        pays: whether the work is worth the tenth of a second that processes take to start.
    """
    processes = min(MOST_PROCESSES, available_cores(), len(items))
    # Elsewhere a new process would have to import everything anew.
    if not pays or processes < 2 or sys.platform != "linux":
        yield from map(function, items)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from threadpoolctl import threadpool_limits

    context = multiprocessing.get_context("fork")
    chunk = max(1, min(MOST_AT_ONCE, len(items) // (8 * processes)))
    pool, done = ProcessPoolExecutor(processes, context, _begin, (function, items)), 0
    try:
        with threadpool_limits(1, "blas"):
            for result in pool.map(_nth, range(len(items)), chunksize=chunk):
                yield result
                done += 1
    except BrokenProcessPool:  # one was killed, most likely for its memory: this one does the rest
        yield from map(function, items[done:])
    finally:
        pool.shutdown(cancel_futures=True)


_work: list[Any] = []


def _begin(function: Callable, items: Sequence) -> None:
    """Keep what this forked process has found in its copy of the memory; Ctrl-C is its parent's business.

    A request to end must end it: the program's own answer, an exception, would be handed back as a result.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _work[:] = [function, items]


def _nth(position: int) -> Any:
    function, items = _work
    return function(items[position])
