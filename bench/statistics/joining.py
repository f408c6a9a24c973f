"""Accuracy on base and novel classes together, after novel classes have joined."""

from __future__ import annotations

import numpy as np

from bench.statistics.intervals import Interval, closed_interval


def joint_accuracies(novel: np.ndarray, base: np.ndarray, new: int, tested: int) -> dict[str, np.ndarray]:
    """The four metrics of each join.

    Args:
        novel, base: mean accuracy over the classes of each part, of equal shape.
        new: number of joining classes.
        tested: number of base classes that have test images.

    Returns:
        ``novel``, ``base``, ``all`` (mean over all these classes) and ``harmonic`` (mean of novel and base).
    """
    both = novel + base
    return {
        "novel": novel,
        "base": base,
        "all": (new * novel + tested * base) / (new + tested),
        "harmonic": np.divide(2 * novel * base, both, out=np.zeros_like(both), where=both > 0),
    }


def over_joins(values: np.ndarray, units: np.ndarray) -> Interval:
    """`closed_interval` over `units`, with the standard deviation of `values`, that is over all joins.

    Population and validity: as `closed_interval`; `units` are independent, such as classes or support sets.
    """
    return closed_interval(units)._replace(std=float(values.std(ddof=1)))
