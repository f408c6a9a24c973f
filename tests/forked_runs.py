"""Runs of the bench that are killed: `python forked_runs.py PLAN`, PLAN a JSON file; prints a JSON list.

Each run is a process of its own, forked from one that has imported everything, because importing torch
takes longer than the run. The plan: ``arguments`` of the command line, and ``kills``, a list of (signal
number, seconds until it is sent); after the last one the command is run to its end.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import learn2learn  # noqa: F401
import pandas  # noqa: F401
import tensorboard.summary  # noqa: F401

from bench import callbacks, cli, leaderboard, runner, show, training
from bench.__main__ import main
from methods import siamese_triplet

PRELOADED = (cli, leaderboard, runner, show, siamese_triplet, training)
callbacks.SAVE_EVERY_S = 0.1
training.VALIDATE_EVERY = 10
callbacks.VALIDATION_EPISODES = 50


def run(arguments: list[str], kill: int, after: float) -> dict[str, object]:
    """One run in a process of its own: how it ended, and what it said last."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Path("said").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            sys.argv = ["bench", *arguments]
            code = 99
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(code)
    started = time.monotonic()
    status = None
    while status is None:
        ended, raw = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(raw)
        elif kill and time.monotonic() - started >= after:
            os.kill(child, kill)
            kill = 0
        else:
            time.sleep(0.005)
    lines = Path("said").read_text().splitlines()
    return {"status": status, "seconds": time.monotonic() - started, "last": lines[-1] if lines else ""}


if __name__ == "__main__":
    plan = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps([run(plan["arguments"], *kill) for kill in [*plan["kills"], (0, 0.0)]]))
