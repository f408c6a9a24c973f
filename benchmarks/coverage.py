"""Draw how often each interval holds the truth.

    python -m benchmarks.coverage --output docs/pictures/coverage.png

Every formula is asked about the population that its docstring names, and some also about one that it says
nothing of: that is what a table means that counts queries as if they were independent, or that prints the
interval over episodes and lets the reader think of training again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.statistics import Interval, proportion_interval
from benchmarks import simulations
from benchmarks.simulations import METRICS, Covered

BAND = (0.94, 0.965)
RIGHT, WRONG, SHADE = "#0072B2", "#D55E00", "#B7D4E6"  # blue and vermilion: told apart by every eye


@dataclass(frozen=True)
class Row:
    """One formula asked about one population.

    Attributes:
        population: what the truth is of.
        formula: how it is named in the picture.
        run: ``(rng, repetitions) -> covered``, with a column for each of `parts` if there are any.
        valid: whether the formula claims to hold the truth 95% of the time.
        parts: names of what is measured at once.
    """

    population: str
    formula: str
    run: Callable[[np.random.Generator, int], Covered]
    valid: bool = True
    parts: tuple[str, ...] = ()


IMAGES, FRESH, CLASSES, TRAINING = "these images", "fresh images", "new classes", "training again"
MODELS, METHODS = "two equally good models", "two equally good methods"


def _crossed(seeds: int, sd: float) -> Row:
    run = partial(simulations.seeds_again, seeds=seeds, seed_sd=sd)
    return Row(TRAINING, f"crossed, {seeds} seeds, {100 * sd:g} points apart", run)


def _paired(seeds: int, first_sd: float, second_sd: float) -> Row:
    run = partial(simulations.paired, seeds=(seeds, seeds), sds=(first_sd, second_sd))
    apart = f"{100 * first_sd:g} and {100 * second_sd:g} points apart"
    return Row(METHODS, f"paired, {seeds} seeds each, {apart}", run)


def _same_networks(seeds: int, own_sd: float) -> Row:
    run = partial(simulations.paired_seeds, seeds=seeds, network_sd=0.02, own_sd=own_sd)
    return Row(METHODS, f"paired, {seeds} same networks, {100 * own_sd:g} points apart", run)


ROWS = (
    Row(IMAGES, "all queries pooled (naive)", simulations.pooled_queries, valid=False),
    Row(IMAGES, "closed interval", simulations.closed),
    Row(IMAGES, "triplets: Wilson", simulations.triplets),
    Row(IMAGES, "pairs: bootstrap", simulations.pairs, parts=METRICS),
    Row(FRESH, "closed interval", partial(simulations.fresh_images, only_disjoint=False), valid=False),
    Row(FRESH, "open interval", partial(simulations.fresh_images, only_disjoint=True)),
    Row(CLASSES, "closed interval", partial(simulations.new_classes, jackknife=False), valid=False),
    Row(CLASSES, "jackknife, 10 classes", partial(simulations.new_classes, classes=10)),
    Row(CLASSES, "jackknife, 20 classes", partial(simulations.new_classes, classes=20)),
    Row(
        CLASSES,
        "paired interval over episodes",
        partial(simulations.difference_on_new_classes, jackknife=False),
        valid=False,
    ),
    Row(CLASSES, "difference, 10 classes", partial(simulations.difference_on_new_classes, classes=10)),
    Row(CLASSES, "difference, 20 classes", partial(simulations.difference_on_new_classes, classes=20)),
    Row(CLASSES, "triplets: 10 classes", partial(simulations.triplets_of_new_classes, classes=10)),
    Row(CLASSES, "pairs: 10 classes", partial(simulations.pairs_of_new_classes, classes=10), parts=METRICS),
    Row(
        TRAINING,
        "closed interval, 5 seeds, 2 points apart",
        partial(simulations.seeds_again, seeds=5, seed_sd=0.02, crossed=False),
        valid=False,
    ),
    _crossed(3, 0.0),
    _crossed(3, 0.006),
    _crossed(3, 0.02),
    _crossed(5, 0.006),
    _crossed(5, 0.02),
    Row(MODELS, "paired, 1 seed each", partial(simulations.paired, seeds=(1, 1), sds=(0.0, 0.0))),
    Row(
        METHODS,
        "paired, 1 seed each, 2 points apart",
        partial(simulations.paired, seeds=(1, 1), sds=(0.02, 0.02)),
        valid=False,
    ),
    _paired(3, 0.006, 0.006),
    _paired(3, 0.02, 0.02),
    _paired(3, 0.02, 0.01),
    _paired(5, 0.02, 0.02),
    _paired(5, 0.02, 0.01),
    _same_networks(3, 0.0),
    _same_networks(3, 0.005),
    _same_networks(5, 0.005),
)


def main() -> int:
    """Simulate every row and draw them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=Path("docs/pictures/coverage.png"))
    parser.add_argument("--repetitions", type=int, default=10_000)
    options = parser.parse_args()
    found = []
    for row in ROWS:
        started = time.perf_counter()
        found += measured(row, options.repetitions)
        print(f"{row.formula}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    for row, name, coverage in found:
        print(f"{100 * coverage.value:5.1f} ± {100 * coverage.half_width:.1f}  {row.population}: {name}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw(found, options.repetitions, options.output)
    print(options.output)
    return 0


def measured(row: Row, repetitions: int, seed: int = 1) -> list[tuple[Row, str, Interval]]:
    """The row, a name and the coverage with its own interval, for each of the row's parts."""
    covered = row.run(np.random.default_rng(seed), repetitions)
    columns = covered.reshape(repetitions, -1).T
    names = [f"{row.formula}, {part.removeprefix('pair_')}" for part in row.parts] or [row.formula]
    return [
        (row, name, proportion_interval(int(column.sum()), repetitions))
        for name, column in zip(names, columns, strict=True)
    ]


def draw(found: list[tuple[Row, str, Interval]], repetitions: int, output: Path) -> None:
    """All coverages on the left, those near 95% once more on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = np.arange(len(found))[::-1]
    figure, (wide, close) = pyplot.subplots(
        1, 2, sharey=True, figsize=(11, 0.27 * len(found) + 1.6), width_ratios=(1, 1.4), layout="constrained"
    )
    for axes, limits in ((wide, (0, 100)), (close, (92, 98))):
        axes.axvspan(100 * BAND[0], 100 * BAND[1], color=SHADE, lw=0, label="94 to 96.5%")
        axes.set(xlim=limits, xlabel="intervals that hold the truth (%)")
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        for valid, colour, marker, label in (
            (True, RIGHT, "o", "asked what it claims to answer"),
            (False, WRONG, "X", "asked something else"),
        ):
            chosen = [i for i, (row, *_) in enumerate(found) if row.valid == valid]
            value, low, high = 100 * np.array([found[i][2][:3] for i in chosen]).T
            ends = np.stack([value - low, high - value])
            axes.errorbar(value, heights[chosen], xerr=ends, fmt=marker, color=colour, ms=6, label=label)
    wide.set_yticks(heights, [f"{row.population}: {name}" for row, name, _ in found], fontsize=9)
    wide.set_ylim(-0.7, len(found) - 0.3)
    figure.suptitle(f"Nominal 95% intervals, {repetitions:,} simulated repetitions each")
    figure.legend(*wide.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(output, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
