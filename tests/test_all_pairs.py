"""Whole tables of tests at once give what the tests give one by one."""

import numpy as np
import pytest

from bench.statistics import closed_interval, compare_all, crossed_seeds, rank_ranges
from bench.statistics.all_pairs import Accumulator, ranges, significantly_better


def taken_in(table: np.ndarray, counts):
    sums = Accumulator([count for count in counts if count <= table.shape[1]])
    for row in table:
        sums.add(row)
    return sums.answers()


def some_rows(rng, sizes, spread):
    """Rows of ``[R, T]`` accuracies on shared episodes, whose means lie close enough for every outcome."""
    longest = max(count for _, count in sizes)
    hard = rng.normal(0, 0.08, longest)
    return [
        0.6
        + rng.normal(0, spread)
        + rng.normal(0, 0.004, (seeds, 1))
        + hard[:count]
        + rng.normal(0, 0.05, (seeds, count))
        for seeds, count in sizes
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "sizes",
    [
        [(1, 50)] * 9,
        [(3, 60), (4, 60), (5, 60), (3, 60), (10, 60), (3, 60), (3, 60)],
        [(1, 400), (2, 40), (3, 400), (5, 40), (3, 40), (4, 400), (2, 400), (6, 400)],
    ],
    ids=["one seed", "seeds", "mixed"],
)
def test_ranks_are_those_of_the_tests_one_by_one(monkeypatch, sizes, seed):
    monkeypatch.setattr("bench.statistics.all_pairs.ROWS_AT_ONCE", 3)  # so that there are several blocks
    tables = some_rows(np.random.default_rng(seed), sizes, spread=0.03)
    names = [str(i) for i in range(len(tables))]
    by_pairs = compare_all(dict(zip(names, tables, strict=True)))
    counts = {count for _, count in sizes}
    better = significantly_better(
        [{i: taken_in(table, counts) for i, table in enumerate(tables)}], len(tables)
    )
    assert 0 < sum(one.p <= 0.05 for one in by_pairs) < len(by_pairs)
    assert ranges(better) == list(rank_ranges(names, by_pairs).values())
    for one in by_pairs:
        pair = (int(one.first), int(one.second))[:: 1 if one.difference.value > 0 else -1]
        assert better[pair] == (one.p <= 0.05) and not better[pair[::-1]]


def test_holms_steps_are_all_taken():
    # Differences that are found only because clearer ones have been: at the first threshold few are.
    rng = np.random.default_rng(3)
    tables = some_rows(rng, [(1, 100)] * 25, spread=0.02)
    by_pairs = compare_all({str(i): table for i, table in enumerate(tables)})
    better = significantly_better([{i: taken_in(t, [100]) for i, t in enumerate(tables)}], 25)
    first_step = sum(one.difference.p <= 0.05 / len(by_pairs) for one in by_pairs)
    assert first_step < int(better.sum()) == sum(one.p <= 0.05 for one in by_pairs)


def test_equal_rows_are_never_told_apart_and_a_constant_lead_always_is():
    row = np.random.default_rng(0).uniform(0.4, 0.8, (1, 30))
    better = significantly_better([{0: taken_in(row, [30]), 1: taken_in(row, [30])}], 2)
    assert not better.any()
    lead = np.full((3, 30), 0.5), np.full((3, 30), 0.25)
    better = significantly_better([{i: taken_in(table, [30]) for i, table in enumerate(lead)}], 2)
    assert better.tolist() == [[False, True], [False, False]]


def test_families_are_not_compared_but_share_the_correction():
    rng = np.random.default_rng(1)
    tables = some_rows(rng, [(1, 80)] * 4, spread=0.0)
    tables[0] += 0.5
    tables[2] += 0.5
    own = [taken_in(table, [80]) for table in tables]
    better = significantly_better([{0: own[0], 1: own[1]}, {2: own[2], 3: own[3]}], 5)
    assert np.argwhere(better).tolist() == [[0, 1], [2, 3]]
    assert [tuple(r) for r in ranges(better)] == [(1, 4), (2, 5), (1, 4), (2, 5), (1, 5)]
    assert [tuple(r) for r in ranges(better, [0, 1])] == [(1, 1), (2, 2)]


def test_one_episode_is_no_test():
    single = {i: taken_in(np.full((1, 1), 0.1 * i), [1]) for i in range(3)}
    assert not significantly_better([single], 3).any()
    assert not significantly_better([], 3).any()


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_the_interval_is_that_of_the_whole_table(seeds):
    [table] = some_rows(np.random.default_rng(seeds), [(seeds, 90)], 0.02)
    found = taken_in(table, [20, 90]).interval()
    expected = crossed_seeds(table) if seeds >= 3 else closed_interval(table.mean(axis=0))
    assert found == pytest.approx(expected, rel=1e-12)


def test_seeds_that_answer_alike_leave_nothing_unexplained():
    row = np.random.default_rng(0).uniform(0, 1, 200)
    found = taken_in(np.tile(row, (4, 1)), [200])
    assert found.parts[200] == (0.0, 0.0)
    assert found.interval() == pytest.approx(crossed_seeds(np.tile(row, (4, 1))), rel=1e-12)
