"""The records of the leaderboard's benchmark are valid, and their tables are what it says."""

import numpy as np
from board_reader import boards, column

from bench.records import store
from bench.records.arrays import read_episodes
from bench.reporting import leaderboard
from benchmarks import many_records


def test_generated_records_are_valid_and_make_full_tables(tmp_path):
    many_records.write(tmp_path, 155, episodes=20)
    found, problems = store.read_all(tmp_path)
    assert len(found) == 155 and problems == []
    first = found[0]
    values = read_episodes(first, tmp_path, first.episodes)
    for name, accuracies in values.items():
        assert len(accuracies) == first.episodes[name].count == 20
        assert np.isclose(accuracies.mean(), first.metrics[f"fewshot/{name}"].value)
    tables = boards(leaderboard.render(found, tmp_path))
    assert len(tables) == len(many_records.SPLITS) * len(many_records.PRESETS)
    # A row each; the last five records are one more row of the first split.
    assert sorted(len(table) for table in tables) == [1] * 29 + [2]
    assert {seeds for table in tables for seeds in column(table, "seeds")} == {"5"}
