"""Peak memory of a command."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence

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
