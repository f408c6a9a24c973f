"""Speed of this bench against learn2learn 0.2.0 and easyfsl 1.5.0, in one run on one machine.

    python -m benchmarks.speed --output benchmarks/speed.md

The work: conv4-64, 5-way 1-shot with 15 queries a class, CIFAR-100 under the FC100 split, on the CPU.
Images are decoded, and libraries imported, before any clock starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from benchmarks.measure import Row, compare, interleave, table

if TYPE_CHECKING:
    from benchmarks.ours import Material
    from benchmarks.sides import Counts

MEMORY_GOAL_GIB = 2.0


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data-root", type=Path, help="where CIFAR-100 lies (default: as for `bench run`)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side (default: 3)")
    parser.add_argument("--quick", action="store_true", help="little of everything: shows that it works")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("argument --repeats: at least 1")
    try:
        text = report(args.data_root, args.repeats, args.quick)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0


def report(data_root: Path | None, repeats: int, quick: bool) -> str:
    """The whole benchmark as Markdown.

    Raises:
        UserError: CIFAR-100 cannot be had.
    """
    load = os.getloadavg()[0]
    from bench.data import sources

    data = sources.load("cifar100", data_root)
    from benchmarks.ours import Material
    from benchmarks.sides import QUICK, Counts

    rows = timings(Material.of(data), repeats, QUICK if quick else Counts(), _say)
    rows.append(memory(data_root, _say))
    return f"{table(rows)}\n\n{conditions(repeats, load)}"


def timings(material: Material, repeats: int, counts: Counts, say: Callable[[str], None]) -> list[Row]:
    """Every line of the table but memory."""
    from bench.environment import pick_precision
    from benchmarks import sides
    from benchmarks.ours import CPU

    precision = pick_precision("auto", CPU)
    with tempfile.TemporaryDirectory() as folder:
        all_sides = {
            **sides.sampling(material, Path(folder), counts),
            **sides.evaluation(material, Path(folder), precision, counts),
            **sides.training(material, Path(folder), precision, counts),
            **sides.step(material, precision, counts),
        }
        measured = interleave(all_sides, repeats, say)
    shares = [batch / step for batch, step in zip(measured["batch"], measured["step"], strict=True)]
    lines = sides.comparisons(precision, counts, f"{statistics.median(shares):.0%}")
    return [compare(line, measured) for line in lines]


def memory(data_root: Path | None, say: Callable[[str], None]) -> Row:
    """Peak memory of one run: once with nothing decoded yet, once with the decoded images in the cache."""
    from benchmarks.memory import peak_gib

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "run", "--method", "siamese_triplet", "--split", "90-10"]
        command += ["--preset", "smoke", "--device", "cpu", "--overwrite"]
        command += ["--results", f"{folder}/results", "--runs", f"{folder}/runs"]
        command += ["--data-root", str(data_root)] if data_root else []
        peaks = []
        for state in ("empty", "filled"):
            peaks.append(peak_gib(command, {**os.environ, "FEWSHOT_CACHE": f"{folder}/cache"}))
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


def conditions(repeats: int, load: float) -> str:
    """Machine, threads and versions, as Markdown."""
    import platform

    import torch

    from bench import environment

    versions = _versions()
    commit, dirty = environment.git_state()
    lines = [
        f"{environment.cpu_name()}; {torch.get_num_threads()} threads; {platform.system()}; "
        f"load {load:.2f} at the start",
        ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"commit {commit or 'unknown'}{' with changes' if dirty else ''}",
        f"median of {repeats}, lowest and highest in brackets; every side once, then every side again; "
        "ratios are taken repeat by repeat",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from bench.environment import library_versions

    wanted: Sequence[str] = ("python", "torch", "torchvision", "numpy", "pytorch-lightning", "learn2learn")
    found = library_versions()
    return {name: found[name] for name in wanted} | {"easyfsl": version("easyfsl")}


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
