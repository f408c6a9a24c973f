"""A column holds one setting: way, shot and queries per class. What has no column or row is counted."""

import numpy as np
import pytest
from board_reader import boards, render
from markdown_reader import plain
from record_factory import EPISODES, QUERIES, episode_info, make_record, metric, record_fields

from bench.records import store
from bench.records.store import Record

pytestmark = pytest.mark.usefixtures("nothing_published")

STANDARD = record_fields()["episodes"]
SPREAD = np.random.default_rng(0).integers(-5, 6, EPISODES)
OWN = {"10w5s": (10, 5, 15), "5w1s5q": (5, 1, 5)}


def written(folder, *own: str, correct: int = 40, hour: int = 12, **changes) -> Record:
    """A record of the standard settings and of some of the user's own."""
    episodes = STANDARD | {name: episode_info(*OWN[name], sha256="d" * 64) for name in own}
    metrics = record_fields()["metrics"] | {f"fewshot/{name}": metric(correct / 75) for name in own}
    record = make_record(
        episodes=episodes, metrics=metrics, created=f"2025-03-01T{hour:02}:00:00Z", **changes
    )
    arrays = {name: (correct + SPREAD).astype(np.uint16) for name in episodes}
    arrays |= {f"{name}/queries": np.array(QUERIES.get(name, 75)) for name in episodes}
    return store.read(store.write(record, folder, arrays))


def test_a_setting_of_ones_own_has_a_column_of_its_own(tmp_path):
    found = [
        written(tmp_path, "10w5s", method="ten", correct=30),
        written(tmp_path, "5w1s5q", method="five", correct=50),
        written(tmp_path, method="neither", correct=20),
    ]
    [table] = boards(render(found, tmp_path))
    headings = list(table[0])
    own = headings.index("all-way 1-shot") + 1
    assert headings[own : own + 2] == ["5w1s5q", "10w5s"]
    by_name = {plain(row["method"]): row for row in table}
    assert [by_name[f"{name} (quick)"]["5w1s5q"] for name in ("ten", "five", "neither")] == [
        "–", "66.67 ± 1.00", "–"
    ]  # fmt: skip
    assert by_name["ten (quick)"]["10w5s"] == "40.00 ± 1.00"
    # Ranks are of 5w1s, in which all three were compared.
    assert [by_name[f"{name} (quick)"]["rank"] for name in ("five", "ten", "neither")] == ["1", "2", "3"]


def test_runs_that_differ_in_their_own_setting_are_one_row(tmp_path):
    found = [
        written(tmp_path, "10w5s", run_id="first", hour=1, correct=30, command="first command"),
        written(tmp_path, "5w1s5q", run_id="second", hour=2, correct=45, command="second command"),
        written(tmp_path, run_id="third", hour=3),
    ]
    text = render(found, tmp_path)
    [[row]] = boards(text)
    assert (row["10w5s"], row["5w1s5q"], row["seeds"]) == ("40.00 ± 1.00", "60.00 ± 1.00", "1 †")
    assert "first command" in text and "second command" in text
    assert "Not in the tables" not in text
    again = [*found, written(tmp_path, "10w5s", run_id="fourth", hour=4, correct=60)]
    text = render(again, tmp_path)
    [[row]] = boards(text)
    assert row["10w5s"] == "80.00 ± 1.00"
    assert "Not in the tables: 2 older runs of a configuration and seed that ran again." in text


@pytest.mark.slow
def test_seeds_are_averaged_over_the_same_episodes_only(tmp_path):
    for seed, correct in enumerate((30, 45)):
        written(tmp_path, "10w5s", seed=seed, correct=correct)
    found, _ = store.read_all(tmp_path)
    [[row]] = boards(render(found, tmp_path))
    assert row["10w5s"].startswith(f"{100 * (37.5 + SPREAD.mean()) / 75:.2f} ±")
    other = found[0].episodes | {"10w5s": found[0].episodes["10w5s"].model_copy(update={"sha256": "e" * 64})}
    found[0] = found[0].model_copy(update={"episodes": other})
    text = render(found, tmp_path)
    [[row]] = boards(text)
    assert row["10w5s"] == "60.00 ± 1.00"
    assert "Not in the tables: 1 setting on other episodes than its column." in text


@pytest.mark.parametrize("count", [1, 3])
def test_what_has_no_row_is_counted(tmp_path, count):
    kept = {"metrics": {}, "per_class": {}}
    found = [make_record(method="shown"), make_record(method="old protocol", protocol_version=1)]
    found[0] = found[0].model_copy(update={"protocol_version": 2})
    for number in range(count):
        found.append(make_record(preset="smoke", run_id=f"smoke{number}"))
        found.append(make_record(failure="its loss became NaN", run_id=f"failed{number}", seed=9, **kept))
        found.append(
            make_record(
                method="shown",
                run_id=f"again{number}",
                created=f"2025-02-{1 + number:02}T00:00:00Z",
                protocol_version=2,
            )
        )
    s = "s" if count > 1 else ""
    assert render(found).endswith(
        f"Not in the tables: {count} smoke run{s}, {count} failed run{s}, "
        f"{count} older run{s} of a configuration and seed that ran again. "
        "Not in the summary: 1 run of an older protocol version.\n"
    )
    assert "Not in the" not in render([make_record()])
