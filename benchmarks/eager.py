"""Training steps per second against bare eager loops that train the textbook's backbone.

    python -m benchmarks.eager [--device cuda]

The same rows, on the CPU, are part of `benchmarks.speed`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import command, ours
from benchmarks.measure import QUICK, Comparison, Counts, Row, Side, a_second, compare, interleave, table
from benchmarks.ours import CPU, Material

GOALS = {"conv4": 1.3, "resnet12-32": 1.2}
"""Least ratio of steps per second to a loop in PyTorch's layout, at all cores and at one thread."""

LAYOUTS = {"PyTorch's layout": torch.contiguous_format, "channels-last layout": torch.channels_last}
"""Of images and weights in the bare loop."""


def main() -> int:
    """Measure these rows alone and print them."""
    return command.run("benchmarks.eager", __doc__ or "", report, devices=True)


def report(data_root: Path | None, repeats: int, quick: bool, device_name: str) -> str:
    """These rows as Markdown.

    Raises:
        UserError: CIFAR-100 cannot be had, or the machine has no such device.
    """
    import os

    load = os.getloadavg()[0]
    from bench.common.environment import keep_freed_memory, pick_device, pick_precision
    from bench.data import sources
    from benchmarks.speed import conditions

    device = pick_device(device_name)
    material = Material.of(sources.load("cifar100", data_root))
    keep_freed_memory()
    precision, counts = pick_precision("auto", device), QUICK if quick else Counts()
    if device.type == "cuda" and not quick:  # whose steps are too short for a few of them to be timed
        counts = replace(counts, eager_steps=dict.fromkeys(GOALS, 300))
    measured = interleave(sides(material, precision, counts, device), repeats, command.say)
    rows: list[Row] = [compare(line, measured) for line in comparisons(precision, counts, device)]
    return f"{table(rows)}\n\n{conditions(repeats, load, device)}"


def thread_counts(device: torch.device = CPU) -> list[int]:
    """All cores, and one; one beside a GPU."""
    from bench.common.environment import available_cores

    if device.type == "cuda":
        return [1]
    return sorted({available_cores(), 1}, reverse=True)


def sides(material: Material, precision: str, counts: Counts, device: torch.device = CPU) -> dict[str, Side]:
    """Seconds per step of `siamese_triplet` quick on each backbone, ours and in the bare loop."""
    found: dict[str, Side] = {}
    for backbone in GOALS:
        steps = counts.eager_steps[backbone]
        drawn = ours.ready_batches(material, ours.siamese_quick(steps, backbone), counts.ready, device)
        for threads in thread_counts(device):
            found[f"{backbone}, {threads} threads"] = partial(
                _own, material, steps, backbone, precision, threads, device
            )
            for name in LAYOUTS:
                found[f"eager {backbone}, {name}, {threads} threads"] = partial(
                    _bare, drawn, steps, backbone, precision, threads, name, device
                )
    return found


def _own(
    material: Material, steps: int, backbone: str, precision: str, threads: int, device: torch.device
) -> float:
    method = ours.siamese_quick(steps, backbone)
    return ours.long_train_seconds(material, method, precision, threads, device)


def _bare(
    drawn: list,
    steps: int,
    backbone: str,
    precision: str,
    threads: int,
    layout: str,
    device: torch.device,
) -> float:
    method = ours.siamese_textbook(steps, backbone, LAYOUTS[layout]).to(device)
    with torch.backends.cudnn.flags(enabled=True, deterministic=False):  # as a plain loop has it
        return ours.bare_loop_seconds(method, ours.in_layout(drawn, LAYOUTS[layout]), precision, threads)


def comparisons(precision: str, counts: Counts, device: torch.device = CPU) -> list[Comparison]:
    """One line for each backbone, number of threads and layout of the peer; the goals are for PyTorch's."""
    return [
        Comparison(
            f"training steps/s, {backbone}, {threads} thread{'s' * (threads > 1)}",
            f"bare eager loop, {layout}",
            f"{backbone}, {threads} threads",
            f"eager {backbone}, {layout}, {threads} threads",
            a_second,
            f"`siamese_triplet` quick, 128 images per step, {precision}; ours: channels-last, as in a long "
            "run (compiled where that gains), through Lightning, with crop and flip; peer: the textbook's "
            f"order of layers in eager PyTorch, images and weights in {layout}, same optimizer and "
            f"precision, on {counts.ready} ready batches",
            goal if layout == "PyTorch's layout" else None,
        )
        for backbone, goal in GOALS.items()
        for threads in thread_counts(device)
        for layout in LAYOUTS
    ]


if __name__ == "__main__":
    sys.exit(main())
