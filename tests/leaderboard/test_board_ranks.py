"""Ranks rest on paired tests of identical episodes, and say so where there are none."""

import numpy as np
import pytest
from board_reader import boards, column, render, with_columns
from markdown_reader import plain
from record_factory import EPISODES, make_episodes, make_record, metric, record_fields

from bench.records import store
from bench.statistics import RankRange, closed_interval, compare_all, rank_ranges, significantly_better

pytestmark = pytest.mark.usefixtures("nothing_published")

QUERIES = 75


def episodes_info(count: int, sha256: str = "0" * 64, seed: int = 0) -> dict:
    info = {"way": 5, "shot": 1, "query": 15, "count": count, "seed": seed, "sha256": sha256}
    return {"5w1s": info}


def some_answers(count: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Correct answers; episodes are hard or easy for every method alike."""
    hard = np.random.default_rng(0).normal(0, 0.1, 4 * EPISODES)[:count]
    return np.clip(np.rint(QUERIES * (mean + hard + rng.normal(0, 0.03, count))), 0, QUERIES).astype(np.uint8)


def written(folder, method: str, answers: list[np.ndarray], **changes) -> list[store.Record]:
    """Records of as many seeds as there are arrays of answers, with 5w1s alone."""
    made = []
    for seed, correct in enumerate(answers):
        metrics = {"fewshot/5w1s": closed_interval(correct / QUERIES)._asdict()}
        changes.setdefault("episodes", episodes_info(len(correct)))
        record = make_record(method=method, seed=seed, metrics=metrics, **changes)
        arrays = {"5w1s": correct, "5w1s/queries": np.array(QUERIES)}
        made.append(store.read(store.write(record, folder, arrays)))
    return made


def ranks(found, folder) -> dict[str, str]:
    [table] = boards(render(found, folder))
    names = [name.split()[0] for name in column(table, "method")]
    return dict(zip(names, column(table, "rank"), strict=True))


def expected(answers: dict[str, list[np.ndarray]]) -> dict[str, RankRange]:
    """Rows of three seeds are ranked among themselves, the others among all."""
    tables = {name: np.stack(own) / QUERIES for name, own in answers.items()}
    found: dict[str, RankRange] = {}
    for among in (tables, {name: own for name, own in tables.items() if len(own) >= 3}):
        found |= zip(among, rank_ranges(significantly_better(list(among), compare_all(among))), strict=True)
    return found


def test_ranks_are_those_of_paired_tests_with_holms_correction(tmp_path):
    rng = np.random.default_rng(1)
    seeds = {"a": 3, "b": 1, "c": 4, "d": 2, "e": 3}
    means = {"a": 0.6, "b": 0.61, "c": 0.64, "d": 0.55, "e": 0.645}
    answers = {
        name: [some_answers(EPISODES, means[name], rng) for _ in range(n)] for name, n in seeds.items()
    }
    found = [record for name, own in answers.items() for record in written(tmp_path, name, own)]
    shown = ranks(found, tmp_path)
    assert shown == {name: str(own) for name, own in expected(answers).items()}
    assert len(set(shown.values())) >= 3


def test_a_row_of_one_seed_does_not_change_the_rank_of_rows_of_three(tmp_path):
    rng = np.random.default_rng(1)
    answers = {name: [some_answers(EPISODES, 0.6, rng) for _ in range(3)] for name in ("a", "b")}
    found = [record for name, own in answers.items() for record in written(tmp_path, name, own)]
    assert ranks(found, tmp_path) == {"a": "1–2", "b": "1–2"}
    found += written(tmp_path, "lucky", [some_answers(EPISODES, 0.64, rng)])
    assert ranks(found, tmp_path) == {"a": "1–2", "b": "1–2", "lucky": "1"}


def test_a_method_that_ran_the_first_episodes_only_is_compared_on_those(tmp_path):
    rng = np.random.default_rng(2)
    answers = {
        "long": [some_answers(4 * EPISODES, 0.60, rng)],
        "other": [some_answers(4 * EPISODES, 0.615, rng)],
        "short": [some_answers(EPISODES, 0.7, rng)],
    }
    # Where the short one ran, the long one is better; over all of its episodes it is worse.
    answers["long"][0][:EPISODES] = answers["short"][0] + 2
    found = [
        record
        for name, own in answers.items()
        for record in written(
            tmp_path, name, own, episodes=episodes_info(len(own[0]), ("1" if name == "short" else "0") * 64)
        )
    ]
    [table] = boards(render(found, tmp_path))
    by_name = dict(zip(column(table, "method"), table, strict=True))
    wanted = expected(answers)
    assert {name: row["rank"] for name, row in by_name.items()} == {
        f"{name} (quick)": str(own) for name, own in wanted.items()
    }
    assert wanted["long"].last < wanted["short"].first
    assert by_name["short (quick)"]["marks"] == f"first {EPISODES} episodes"
    assert by_name["long (quick)"]["marks"] == "–"


@pytest.mark.parametrize("change", [{"sha256": "f" * 64}, {"seed": 5, "sha256": "f" * 64}])
def test_methods_on_other_episodes_are_not_compared(tmp_path, change):
    rng = np.random.default_rng(3)
    found = [
        *written(tmp_path, "high", [some_answers(EPISODES, 0.9, rng)]),
        *written(tmp_path, "low", [some_answers(EPISODES, 0.4, rng)]),
        *written(
            tmp_path, "apart", [some_answers(EPISODES, 0.6, rng)], episodes=episodes_info(EPISODES, **change)
        ),
    ]
    assert ranks(found, tmp_path) == {"high": "1", "apart": "–", "low": "2"}
    [table] = boards(render(found, tmp_path))
    assert column(table, "marks") == ["–", "other episodes", "–"]


def test_of_two_lists_of_episodes_those_that_most_rows_answered_are_ranked(tmp_path):
    rng = np.random.default_rng(3)
    found = [
        record
        for name, mean in (("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6), ("e", 0.5))
        for record in written(
            tmp_path,
            name,
            [some_answers(EPISODES, mean, rng)],
            episodes=episodes_info(EPISODES, ("1" if name in "ab" else "0") * 64),
        )
    ]
    assert ranks(found, tmp_path) == {"a": "–", "b": "–", "c": "1", "d": "2", "e": "3"}
    # No row is tied with one that it was not compared with: of a and c none is ranked.
    assert ranks([found[0], found[2]], tmp_path) == {"a": "–", "c": "–"}
    [best] = with_columns(render(found, tmp_path), "tied, new episodes")
    assert [(plain(row["highest"]), row["rows"]) for row in best] == [("c (quick)", "3")]
    assert "There are no two rows of one track with the same episodes." in render(
        [found[0], found[2]], tmp_path
    )


@pytest.mark.parametrize("trained_before", [False, True])
def test_an_untrained_embedding_has_no_rank(tmp_path, trained_before):
    rng = np.random.default_rng(6)
    found = [
        *written(tmp_path, "good", [some_answers(EPISODES, 0.7, rng)]),
        *written(tmp_path, "bad", [some_answers(EPISODES, 0.4, rng)]),
        *written(
            tmp_path,
            "random",
            [some_answers(EPISODES, 0.9, rng)],
            trained=False,
            weights="12" * 32 if trained_before else None,
        ),
    ]
    track, *others = boards(render(found, tmp_path))
    shown = list(zip(column(track, "method"), column(track, "rank"), strict=True))
    assert shown[:2] == [("good (quick)", "1"), ("bad (quick)", "2")]
    if trained_before:  # nobody knows on how many images
        assert column(others[0], "method") == ["random (quick, weights=12121212, no training)"]
        assert "rank" not in others[0][0]
    else:
        assert shown[2:] == [("random (quick, no training)", "–")]
        assert column(track, "marks") == ["–", "–", "untrained"]
        [best] = with_columns(render(found, tmp_path), "tied, new episodes")
        assert plain(best[0]["highest"]) == "good (quick)"


def test_rows_that_do_not_compare_stand_below_without_a_rank(tmp_path):
    rng = np.random.default_rng(4)
    found = [
        *written(tmp_path, "best", [some_answers(EPISODES, 0.7, rng)]),
        *written(tmp_path, "worst", [some_answers(EPISODES, 0.4, rng)]),
        *written(tmp_path, "imagenet", [some_answers(EPISODES, 0.9, rng)], external_data=True),
        *written(tmp_path, "together", [some_answers(EPISODES, 0.8, rng)], transductive=True),
    ]
    [table] = boards(render(found, tmp_path))
    assert [name.split()[0] for name in column(table, "method")] == ["best", "worst", "imagenet", "together"]
    assert column(table, "rank") == ["1", "2", "–", "–"]
    assert column(table, "marks") == ["–", "–", "external data", "transductive"]


@pytest.mark.parametrize("how", ["no file", "damaged", "not kept"])
def test_a_row_without_its_answers_has_no_rank(tmp_path, how):
    rng = np.random.default_rng(5)
    found = [
        record
        for name, mean in (("a", 0.7), ("b", 0.6), ("c", 0.4))
        for record in written(tmp_path, name, [some_answers(EPISODES, mean, rng)])
    ]
    if how == "not kept":
        found[1] = found[1].model_copy(update={"episode_file": None, "episode_file_sha256": None})
    else:
        (tmp_path / found[1].episode_file).write_bytes(b"no")
    if how == "no file":
        (tmp_path / found[1].episode_file).unlink()
    assert ranks(found, tmp_path) == {"a": "1", "b": "–", "c": "2"}
    text = render(found, tmp_path)
    assert column(boards(text)[0], "seeds") == ["1 †", "1 † ‡", "1 †"]
    assert "‡ some per-episode accuracies are missing: the row is not compared" in text


def test_a_table_without_5w1s_is_ranked_by_what_it_has(tmp_path):
    found = []
    for method, accuracy in (("worse", 0.6), ("better", 0.9)):
        metrics = record_fields()["metrics"] | {"fewshot/5w5s": metric(accuracy)}
        del metrics["fewshot/5w1s"]
        record = make_record(method=method, metrics=metrics)
        found.append(store.read(store.write(record, tmp_path, make_episodes(accuracy))))
    [table] = boards(render(found, tmp_path))
    assert column(table, "method") == ["better (quick)", "worse (quick)"]
    assert column(table, "rank") == ["1", "2"]


def test_a_method_that_learns_the_tested_classes_is_marked_and_has_no_rank():
    keys = ("base/pair_accuracy", "novel/pair_accuracy", "novel/triplet_accuracy")
    metrics = {key: make_record().metrics[key].model_dump() for key in keys}
    whole, tested = ({"split": digit * 64, "method": "0" * 64, "bench": "0" * 64} for digit in "12")
    learned = make_record(
        method="learned",
        metrics=metrics,
        episodes={},
        labelled_novel_images=500,
        classes=record_fields()["classes"] | {"novel_images": 990},
        sources=tested,
    )
    [table] = boards(render([make_record(sources=whole), learned]))
    assert dict(zip(column(table, "method"), column(table, "marks"), strict=True)) == {
        "protonet (quick)": "–",
        "learned (quick)": "500 labelled images of each novel class",
    }
    assert column(table, "rank")[-1] == column(table, "5w1s")[-1] == "–"
