"""Open-set recognition: does a query belong to any class of its episode?"""

from __future__ import annotations

import numpy as np

from bench.statistics.intervals import Interval, closed_interval


def pairs_won(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Twice the number of pairs (known, other query) in which the known one scores higher: int64 ``[T]``.

    A tie counts once, so the numbers are whole: twice the statistic of Mann and Whitney (1947).

    Args:
        scores: ``[T, Q]`` finite. known: bool ``[T, Q]``, queries of the classes of the support set.
    """
    from scipy.stats import rankdata

    positives = known.sum(axis=1)
    ranks = (rankdata(scores, axis=1) * known).sum(axis=1)
    return np.rint(2 * ranks).astype(np.int64) - positives * (positives + 1)


def open_set_aurocs(won: np.ndarray, way: int, others: int, query: int) -> np.ndarray:
    """Area under the ROC curve of each episode ``[T]``, from `pairs_won`: ties count half.

    Args:
        won: whole ``[T]``.
        way, others: number of known and of other classes. query: queries per class.
    """
    return won / (2 * way * query * others * query)


def open_set_metrics(
    won: np.ndarray, accepted: np.ndarray | None, way: int, others: int, query: int
) -> dict[str, Interval]:
    """Area under the ROC curve and errors at a threshold, each with the closed interval over episodes.

    Population and validity: `closed_interval`. Each number is of single episodes, then averaged: scores of
    different support sets need not be on one scale. The threshold is the same for all episodes.

    - ``auroc``: how often a query of a known class scores higher than one of another class; ties count half.
    - ``false_accepts``: share of queries of other classes with ``score >= threshold``.
    - ``false_rejects``: share of queries of known classes below it.

    Source: Liu et al. (2020), Few-Shot Open-Set Recognition using Meta-Learning, who report the first.

    Args:
        won: whole ``[T]``, from `pairs_won`.
        accepted: whole ``[T, way + others]``, accepted queries per class, other classes last; None without a
            threshold.
        way, others: number of known and of other classes. query: queries per class.
    """
    found = {"auroc": closed_interval(open_set_aurocs(won, way, others, query))}
    if accepted is not None:
        shares = accepted / query
        found["false_accepts"] = closed_interval(shares[:, way:].mean(axis=1))
        found["false_rejects"] = closed_interval(1 - shares[:, :way].mean(axis=1))
    return found
