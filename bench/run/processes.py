"""How processes of this machine are started."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver

THREADS = "OMP_NUM_THREADS"


def start_method() -> str:
    """A start method of `multiprocessing` that is safe beside threads and CUDA.

    On Linux, processes fork from one that has done nothing but import the bench: importing it anew takes each
    process about 10 processor seconds.
    """
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(["bench.run.preloaded"])
    # It must import what this process has imported, and not what the working directory has by these names.
    paths = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = dict(os.environ)
    os.environ.update(paths)
    try:
        forkserver.ensure_running()
    finally:
        take_over(before)
    return "forkserver"


def take_over(environment: Mapping[str, str]) -> None:
    """Give this process an environment, such as that of the process that asked for it."""
    os.environ.clear()
    os.environ.update(environment)
