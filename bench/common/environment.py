"""The machine of a run: device, precision, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.errors import UserError, one_of
from bench.common.streams import say

if TYPE_CHECKING:
    import torch

_say_once = cache(say)
_version = cache(metadata.version)  # which reads a file each time

DEVICE = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?")
LIBRARIES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
)


def check_device(name: str) -> None:
    """Refuse a name that is not a device on any machine, before torch is imported.

    Raises:
        UserError: with the nearest name.
    """
    if not DEVICE.fullmatch(name):
        raise UserError("--device", name, one_of(name, ("auto", "cpu", "cuda", "cuda:1", "mps")))


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` as a torch.device.

    From then on, convolutions on a GPU give the same result every time, which resuming needs.

    Raises:
        UserError: this machine does not have the device.
    """
    import torch

    torch.backends.cudnn.deterministic = True
    check_device(name)
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.cuda.is_available():
        there.insert(1, "cuda")
    if torch.backends.mps.is_available():
        there.append("mps")
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if kind in there), "cpu"))
    if name not in there:
        raise UserError("--device", name, f"not on this machine; {one_of('', ['auto', *there])}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """``auto``, ``fp32`` or ``bf16`` as Lightning names it; auto is bf16 if the hardware supports it."""
    import torch

    if name == "auto":
        fast = False
        if device.type == "cpu":
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        elif device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        name = "bf16" if fast else "fp32"
    return {"bf16": "bf16-mixed", "fp32": "32-true"}[name]


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    By default every large tensor is mapped and unmapped, and the page faults took up to a third of a training
    step on the CPU. Does nothing with other C libraries.
    """
    import ctypes

    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def package_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = _version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {available_cores()} cores"


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """The device's name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout this code runs from, and whether it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None

    # Variables such as GIT_DIR, which git sets for hooks, would select another repository. A checkout of
    # another user is safe to read: its code is already running.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), "-c", f"safe.directory={root}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=variables)
        return done.stdout

    try:
        # Files written by runs and tuning trials do not change any number.
        written = [f":!{path}" for path in ("results", "leaderboard.md", "benchmarks/tuning")]
        changed = git("status", "--porcelain", "--", ".", *written)
        return git("rev-parse", "HEAD").strip(), bool(changed.strip())
    except (OSError, subprocess.SubprocessError) as error:
        _say_once(f"warning: the commit is not recorded: git cannot read {root} ({type(error).__name__})")
        return None, None


def peak_memory_mib() -> float | None:
    """Peak resident memory of this process."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if platform.system() == "Darwin" else 1024)
