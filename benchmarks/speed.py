"""Speed of this bench against learn2learn 0.2.0 and easyfsl 1.5.0, in one run on one machine.

    python -m benchmarks.speed --output benchmarks/speed.md

The work: conv4-64, 5-way 1-shot with 15 queries a class, CIFAR-100 under the FC100 split, on the CPU.
Images are decoded, and libraries imported, before any clock starts.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import command
from benchmarks.measure import QUICK, Counts, Row, compare, interleave, table

if TYPE_CHECKING:
    import torch

    from benchmarks.ours import Material

MEMORY_GOAL_GIB = 2.0


def main() -> int:
    """Measure everything and print the table."""
    return command.run("benchmarks.speed", __doc__ or "", report)


def report(data_root: Path | None, repeats: int, quick: bool) -> str:
    """The whole benchmark as Markdown.

    Raises:
        UserError: CIFAR-100 cannot be had.
    """
    load = os.getloadavg()[0]
    from bench.data import sources

    data = sources.load("cifar100", data_root)
    from benchmarks.ours import Material

    rows = timings(Material.of(data), repeats, QUICK if quick else Counts(), command.say)
    rows.append(memory(data_root, command.say))
    return f"{table(rows)}\n\n{conditions(repeats, load)}"


def timings(material: Material, repeats: int, counts: Counts, say: Callable[[str], None]) -> list[Row]:
    """Every line of the table but memory."""
    from bench.common.environment import keep_freed_memory, pick_precision
    from benchmarks import eager, sides
    from benchmarks.ours import CPU

    keep_freed_memory()  # as a run does; the peers gain by it too
    precision = pick_precision("auto", CPU)
    with tempfile.TemporaryDirectory() as folder:
        all_sides = {
            **sides.sampling(material, Path(folder), counts),
            **sides.evaluation(material, Path(folder), precision, counts),
            **sides.training(material, Path(folder), precision, counts),
            **sides.step(material, precision, counts),
            **eager.sides(material, precision, counts),
        }
        measured = interleave(all_sides, repeats, say)
    shares = [batch / step for batch, step in zip(measured["batch"], measured["step"], strict=True)]
    lines = sides.comparisons(precision, counts, f"{statistics.median(shares):.0%}")
    return [compare(line, measured) for line in [*lines, *eager.comparisons(precision, counts)]]


def memory(data_root: Path | None, say: Callable[[str], None]) -> Row:
    """Peak memory of one run: once with nothing decoded yet, once with the decoded images in the cache."""
    from benchmarks.memory import peak_gib

    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "bench", "run", "--method", "siamese_triplet", "--split", "90-10"]
        arguments += ["--preset", "smoke", "--device", "cpu", "--overwrite"]
        arguments += ["--results", f"{folder}/results", "--runs", f"{folder}/runs"]
        arguments += ["--data-root", str(data_root)] if data_root else []
        peaks = []
        for state in ("empty", "filled"):
            peaks.append(peak_gib(arguments, {**os.environ, "FEWSHOT_CACHE": f"{folder}/cache"}))
            say(f"peak memory, cache {state}: {peaks[-1]:.2f} GiB")
    met = "met" if max(peaks) < MEMORY_GOAL_GIB else "missed"
    return Row(
        what="peak memory of a CIFAR-100 run, GiB",
        against="",
        ours=f"{peaks[0]:.2f} first, {peaks[1]:.2f} later",
        peer="",
        ratio="",
        goal=f"< {MEMORY_GOAL_GIB:g} GiB: {met}",
        how="`bench run --method siamese_triplet --split 90-10 --preset smoke --device cpu`, peak memory; "
        "first: it decodes the images, later: they are in the cache",
    )


def conditions(repeats: int, load: float, device: torch.device | None = None) -> str:
    """Machine, threads and versions, as Markdown."""
    import platform

    import torch

    from bench.common import environment

    versions, has = _versions(), {True: "yes", False: "no"}
    commit, dirty = environment.git_state()
    gpu = f"{environment.device_name(device)}; " if device and device.type == "cuda" else ""
    lines = [
        f"{gpu}{environment.cpu_name()}; AMX: {has[torch.cpu._is_amx_tile_supported()]}, "
        f"AVX-512 BF16: {has[torch.cpu._is_avx512_bf16_supported()]}; "
        f"{torch.get_num_threads()} threads; {platform.system()}; "
        f"load {load:.2f} at the start",
        ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"commit {commit or 'unknown'}{' with changes' if dirty else ''}",
        f"median of {repeats}, lowest and highest in brackets; every side once, then every side again; "
        "ratios are taken repeat by repeat",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from bench.common.environment import package_versions

    wanted: Sequence[str] = ("python", "torch", "torchvision", "numpy", "pytorch-lightning")
    found = package_versions()
    peers = {}
    for name in ("learn2learn", "easyfsl"):
        with suppress(PackageNotFoundError):
            peers[name] = version(name)
    return {name: found[name] for name in wanted} | peers


if __name__ == "__main__":
    sys.exit(main())
