"""Runs of the bench that are killed, or start together: `python forked_runs.py PLAN`; prints a JSON list.

Each run is a process of its own, forked from one that has imported everything, because importing torch
takes longer than the run. The plan, a JSON file, has ``arguments`` of the command line, and ``kills``, a list
of (signal number, seconds of the processor until it is sent); after the last one the command is run to its
end. Or it has ``together``, a list of arguments.
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

from bench.__main__ import main
from bench.cli import commands
from bench.reporting import leaderboard, show
from bench.run import runner
from bench.training import callbacks, checkpoints, loop
from methods import siamese_triplet

PRELOADED = (commands, leaderboard, runner, show, siamese_triplet, loop)
checkpoints.SAVE_EVERY_S = 0.05
loop.VALIDATE_EVERY = 10
callbacks.VALIDATION_EPISODES = 50


def start(arguments: list[str], said: str = "said") -> int:
    """Begin a run in a process of its own, which says what it has to say into the file `said`."""
    sys.stdout.flush()
    begun, begin = os.pipe()
    child = os.fork()
    if child:
        os.read(begun, 1)  # a signal before that would hit this script and not the bench
        os.close(begun)
        os.close(begin)
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(said).open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.argv = ["bench", *arguments]
    code = 99
    os.write(begin, b".")
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def run(arguments: list[str], kill: int, after: float) -> dict[str, object]:
    """One run: how it ended, the processor's seconds that it took, and what it said last."""
    child = start(arguments)
    status = None
    while status is None:
        ended, raw, used = os.wait4(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(raw)
        # The kernel's clock of another process: work done, however busy the machine is.
        elif kill and time.clock_gettime(~child << 3 | 2) >= after:
            os.kill(child, kill)
            kill = 0
        else:
            time.sleep(0.002)
    lines = Path("said").read_text().splitlines()
    return {
        "status": status,
        "seconds": used.ru_utime + used.ru_stime,
        "last": lines[-1] if lines else "",
    }


def together(commands: list[list[str]]) -> list[dict[str, object]]:
    """Runs at the same time: how each ended, and all that it said."""
    children = [start(arguments, f"said-{number}") for number, arguments in enumerate(commands)]
    status = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [{"status": own, "said": Path(f"said-{number}").read_text()} for number, own in enumerate(status)]


if __name__ == "__main__":
    plan = json.loads(Path(sys.argv[1]).read_text())
    if "together" in plan:
        print(json.dumps(together(plan["together"])))
    else:
        print(json.dumps([run(plan["arguments"], *kill) for kill in [*plan["kills"], (0, 0.0)]]))
