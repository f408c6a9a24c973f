"""Runs of the bench in processes of their own, that are killed, start together or cannot write.

The processes are forked from one that has imported everything, the one from which the bench forks its own:
importing torch takes longer than the run.
"""

import multiprocessing
import os
import pty
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any, TextIO

import torch

from bench.__main__ import main
from bench.run.processes import replace_environment, start_method

Streams = Callable[[], None]


LIMIT_S = 400


def in_fork(work: Callable, *arguments: Any) -> Any:
    """What a function of a module gives or raises in a process that has only the environment of this one.

    After `LIMIT_S` it is killed with all that it started.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context(start_method())) as pool:
        return pool.submit(_limited, dict(os.environ), work, *arguments).result()


def _limited(environment: dict[str, str], work: Callable, *arguments: Any) -> Any:
    replace_environment(environment)
    os.setpgrp()
    killer = threading.Timer(LIMIT_S, os.killpg, (os.getpgrp(), signal.SIGKILL))
    killer.daemon = True
    killer.start()
    try:
        return work(*arguments)
    finally:
        killer.cancel()


def killed(arguments: list[str], folder: Path, kills: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """A run in `folder` that gets each signal after so many seconds of the processor, and is then repeated.

    Returns:
        Of each run how it ended, the processor's seconds that it took, and what it said last.
    """
    return in_fork(_killed, arguments, folder, [*kills, (0, 0.0)])


def together(commands: list[list[str]], folder: Path) -> list[dict[str, Any]]:
    """Runs at the same time in `folder`: how each ended, and all that it said."""
    return in_fork(_together, commands, folder)


def with_streams(arguments: list[str], folder: Path, streams: Streams) -> int:
    """The exit code of a run in `folder` after `streams`, a function of a module, changed its streams."""
    return in_fork(_with_streams, arguments, folder, streams)


def begin(arguments: list[str], log: Path) -> Process:
    """A command in this folder and environment that is not waited for, the leader of its own session."""
    context = multiprocessing.get_context(start_method())
    process = context.Process(target=_begun, args=(arguments, log, Path.cwd(), dict(os.environ)))
    process.start()
    return process


def ctrl_c(arguments: list[str], folder: Path, after: bytes) -> tuple[int, bytes, str]:
    """A run that gets Ctrl-C as soon as its terminal shows a text.

    Returns:
        How it ended, what its terminal shows, and its standard output.
    """
    return in_fork(_ctrl_c, arguments, folder, after)


def _begun(arguments: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
    replace_environment(environment)
    os.chdir(folder)
    os.setsid()
    say_into(log)
    sys.argv = ["bench", *arguments]
    main()


def _ctrl_c(arguments: list[str], folder: Path, after: bytes) -> tuple[int, bytes, str]:
    _prepare(folder)
    os.environ["TERM"] = "xterm"
    os.environ["TORCH_COMPILE_DISABLE"] = "1"  # a minute that this test has not
    master, slave = pty.openpty()
    child = _start(arguments, "said", lambda: os.dup2(slave, 2))
    os.close(slave)
    killer = threading.Timer(120, os.kill, (child, signal.SIGKILL))
    killer.start()
    text = b""
    with suppress(OSError):  # what Linux says at the end of a terminal's output
        while part := os.read(master, 65536):
            shown = after in text
            text += part
            if after in text and not shown:
                os.kill(child, signal.SIGINT)
    killer.cancel()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text, Path("said").read_text()


def _killed(arguments: list[str], folder: Path, kills: list[tuple[int, float]]) -> list[dict[str, Any]]:
    _prepare(folder)
    return [_run(arguments, *kill) for kill in kills]


def _together(commands: list[list[str]], folder: Path) -> list[dict[str, Any]]:
    _prepare(folder)
    children = [_start(arguments, f"said-{number}") for number, arguments in enumerate(commands)]
    status = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [{"status": own, "said": Path(f"said-{number}").read_text()} for number, own in enumerate(status)]


def _with_streams(arguments: list[str], folder: Path, streams: Streams) -> int:
    _prepare(folder)
    return os.waitstatus_to_exitcode(os.waitpid(_start(arguments, "said", streams), 0)[1])


def _prepare(folder: Path) -> None:
    """The process that starts the runs: they save and validate often, and share its imports."""
    import pandas  # noqa: F401
    import tensorboard.summary  # noqa: F401

    from bench.cli import commands  # noqa: F401
    from bench.evaluation import budget
    from bench.reporting import leaderboard, show  # noqa: F401
    from bench.training import loop  # noqa: F401

    budget.FULL = replace(budget.FULL, save_every_s=0.05, validate_every=10, validation_episodes=50)
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ["FEWSHOT_CACHE"] = str(folder / "cache")


def _start(arguments: list[str], said: str, streams: Streams | None = None) -> int:
    """Begin a run in a process of its own, which says what it has to say into the file `said`."""
    begun, begin = os.pipe()
    child = os.fork()
    if child:
        os.close(begin)
        os.read(begun, 1)  # a signal before that would hit this process and not the bench
        os.close(begun)
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say_into(Path(said), streams)
    sys.argv = ["bench", *arguments]
    code = 99
    os.write(begin, b".")
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        if sys.stdout:
            sys.stdout.flush()
        os._exit(code)


def say_into(path: Path, streams: Streams | None = None) -> None:
    """Standard output and standard error of this process go into a file, or where `streams` puts them."""
    with path.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    if streams:
        streams()
    sys.stdout, sys.stderr = _opened(1, -1), _opened(2, 1)


def _opened(number: int, buffering: int) -> TextIO | None:
    """None if it is closed, as when Python starts."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return os.fdopen(number, "w", buffering)


def _run(arguments: list[str], kill: int, after: float) -> dict[str, Any]:
    Path("said").unlink(missing_ok=True)
    child = _start(arguments, "said")
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
