"""Peak memory of a command."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence

import psutil

# On Linux a program's peak starts at that of the process it was started from, which has torch and the
# images in memory. So a bare interpreter stands between, and reports the peak of its only child.
LAUNCHER = """
import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_gib(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command and return its peak resident memory in GiB.

    Raises:
        subprocess.CalledProcessError: the command failed; it has said why on stderr.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command],
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return int(done.stdout.splitlines()[-1]) * unit / 2**30


def peak_of_all_gib(command: Sequence[str], environment: Mapping[str, str], every: float = 0.02) -> float:
    """Run a command and return the peak of what it and the processes it starts have in memory, in GiB.

    Memory that several share counts once (on Linux; elsewhere once a process). It is looked at now and then,
    so what is there for less than that may go unseen.

    Args:
        every: seconds between two looks.

    Raises:
        subprocess.CalledProcessError: the command failed; it has said why on stderr.
    """
    peak = 0
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL) as running:
        parent = psutil.Process(running.pid)
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):  # one has ended meanwhile
                now = [one.memory_full_info() for one in (parent, *parent.children(recursive=True))]
                peak = max(peak, sum(getattr(one, "pss", one.rss) for one in now))
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(every)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, list(command))
    return peak / 2**30
