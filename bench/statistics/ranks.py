"""Ranks of methods as ranges, from comparisons of all pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bench.statistics.comparison import Comparison


class RankRange(NamedTuple):
    """The possible ranks of a method; methods whose ranges overlap are tied."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


def significantly_better(
    names: Sequence[str], comparisons: Iterable[Comparison], level: float = 0.95
) -> np.ndarray:
    """Which of M methods are significantly better than which others.

    Population: as the comparisons. After Holm's correction the family-wise error rate is at most 1 - `level`.
    Not valid for uncorrected p-values. A missing pair counts as not different.

    Args:
        names: of the methods.
        comparisons: of all pairs, from `compare_all`.
        level: 1 minus the largest corrected p that is significant.

    Returns:
        bool ``[M, M]``: whether the row is better than the column.
    """
    position = {name: i for i, name in enumerate(names)}
    better = np.zeros((len(names), len(names)), dtype=bool)
    for comparison in comparisons:
        if comparison.p <= 1 - level:
            pair = position[comparison.first], position[comparison.second]
            better[pair if comparison.difference.value > 0 else pair[::-1]] = True
    return better


def rank_ranges(better: np.ndarray) -> list[RankRange]:
    """``[1 + number significantly better, M - number significantly worse]`` for each of M methods.

    Methods whose range starts at 1 are tied for the best. With 95% probability all true ranks are in their
    ranges, if the family-wise error rate of `better` is at most 5%.

    Args:
        better: ``[M, M]`` from `significantly_better`.
    """
    first, last = 1 + better.sum(axis=0), len(better) - better.sum(axis=1)
    return [RankRange(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True)]
