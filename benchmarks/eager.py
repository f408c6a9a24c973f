"""Training steps per second against a bare eager loop that trains the textbook's backbone.

    python -m benchmarks.eager

The same rows are part of `benchmarks.speed`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import command
from benchmarks.measure import Comparison, Row, Side, compare, interleave, table
from benchmarks.ours import CPU, Material
from benchmarks.sides import QUICK, Counts, a_second

GOALS = {"conv4": 1.3, "resnet12-32": 1.2}
"""Least ratio of steps per second, at all cores and at one thread."""


def main() -> int:
    """Measure these rows alone and print them."""
    return command.run("benchmarks.eager", __doc__ or "", report)


def report(data_root: Path | None, repeats: int, quick: bool) -> str:
    """These rows as Markdown.

    Raises:
        UserError: CIFAR-100 cannot be had.
    """
    import os

    load = os.getloadavg()[0]
    from bench.common.environment import keep_freed_memory, pick_precision
    from bench.data import sources
    from benchmarks.speed import conditions

    material = Material.of(sources.load("cifar100", data_root))
    keep_freed_memory()
    precision, counts = pick_precision("auto", CPU), QUICK if quick else Counts()
    measured = interleave(sides(material, precision, counts), repeats, command.say)
    rows: list[Row] = [compare(line, measured) for line in comparisons(precision, counts)]
    return f"{table(rows)}\n\n{conditions(repeats, load)}"


def thread_counts() -> list[int]:
    """All cores, and one."""
    from bench.common.environment import available_cores

    return sorted({available_cores(), 1}, reverse=True)


def sides(material: Material, precision: str, counts: Counts) -> dict[str, Side]:
    """Seconds per step of `siamese_triplet` quick on each backbone, ours and in the bare loop."""
    from benchmarks import ours

    found: dict[str, Side] = {}
    for backbone in GOALS:
        steps = counts.steps if backbone == "conv4" else counts.peer_steps
        ready = ours.ready_batches(material, ours.siamese_quick(steps, backbone), counts.ready)
        for threads in thread_counts():

            def own(backbone: str = backbone, steps: int = steps, threads: int = threads) -> float:
                method = ours.siamese_quick(steps, backbone)
                return ours.long_train_seconds(material, method, precision, threads)

            def bare(
                backbone: str = backbone, steps: int = steps, threads: int = threads, ready: list = ready
            ) -> float:
                method = ours.siamese_textbook(steps, backbone)
                return ours.bare_loop_seconds(method, ready, precision, threads)

            found |= {f"{backbone}, {threads} threads": own, f"eager {backbone}, {threads} threads": bare}
    return found


def comparisons(precision: str, counts: Counts) -> list[Comparison]:
    """One line for each backbone and number of threads."""
    return [
        Comparison(
            f"training steps/s, {backbone}, {threads} thread{'s' * (threads > 1)}",
            "bare eager loop",
            f"{backbone}, {threads} threads",
            f"eager {backbone}, {threads} threads",
            a_second,
            f"`siamese_triplet` quick, 128 images per step, {precision}; ours: compiled as in a long run, "
            "through Lightning, with crop and flip; peer: the textbook's order of layers in eager PyTorch, "
            f"same optimizer and precision, on {counts.ready} ready batches",
            goal,
        )
        for backbone, goal in GOALS.items()
        for threads in thread_counts()
    ]


if __name__ == "__main__":
    sys.exit(main())
