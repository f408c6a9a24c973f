"""Intervals, paired tests and ranks: pure functions of arrays.

Every docstring names the population its numbers apply to, and when they are not valid. Each interval's
coverage is shown by simulation: ``benchmarks/coverage.py`` draws it, ``tests/statistics`` checks it.

Imports nothing else of bench; `records`, `evaluation`, `run`, `serving` and `reporting` import it.
"""

from bench.statistics.calibration import expected_calibration_error, fit_temperature
from bench.statistics.classes import (
    class_difference,
    class_differences,
    class_jackknife,
    pairs_over_classes,
    triplets_over_classes,
)
from bench.statistics.comparison import (
    Comparison,
    Difference,
    compare_all,
    corrected,
    holm,
    paired_difference,
    seeds_needed,
)
from bench.statistics.intervals import (
    Interval,
    balanced_interval,
    closed_interval,
    disjoint_episodes,
    mean_recall_interval,
    open_interval,
    proportion_interval,
)
from bench.statistics.joining import joint_accuracies, over_joins
from bench.statistics.open_set import open_set_aurocs, open_set_metrics, pairs_won
from bench.statistics.pairs import (
    PAIR_METRICS,
    best_threshold,
    pair_metrics,
    pairs_of_classes,
    triplets_of_classes,
)
from bench.statistics.ranks import RankRange, rank_ranges, significantly_better
from bench.statistics.seeds import ENOUGH_SEEDS, crossed_seeds, over_seeds
