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

    On Linux, each process is forked from a server process that has only imported the bench. Otherwise every
    process would spend about 10 processor seconds on its imports.
    """
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(["bench.run.preloaded"])
    # The server must not import files of the working directory that have the same names as our modules.
    paths = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = dict(os.environ)
    os.environ.update(paths)
    try:
        forkserver.ensure_running()
    finally:
        replace_environment(before)
    return "forkserver"


def replace_environment(environment: Mapping[str, str]) -> None:
    """Replace the environment variables of this process."""
    os.environ.clear()
    os.environ.update(environment)
