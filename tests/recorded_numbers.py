"""Numbers of the committed records, as docs/findings.md and README.md write them."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
from markdown_reader import cells, plain

from bench.records.arrays import common_classes
from bench.records.identity import Table, name_of
from bench.records.tracks import kept
from bench.reporting.blocks import number, percent
from bench.reporting.compare import compare
from bench.reporting.published import published
from bench.reporting.ranking.rows import ENOUGH_SEEDS, Row, fill_in_intervals, load_answers, rows_of
from bench.statistics import class_jackknife
from bench.statistics.joining import joint_accuracies
from bench.statistics.student import t_quantile

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
TEXT = " ".join(PAGE.read_text(encoding="utf-8").split())
SPLITS = ("90-10", "cifar-fs", "fc100", "40-60")
JOINED = "generalized/40+1"
KEYS = {
    **{f"{shots} shot{'s' * (shots > 1)}": f"{JOINED}/{shots}s/novel" for shots in (1, 5, 10, 20)},
    **{f"after {shots}": f"{JOINED}/{shots}s/base" for shots in (5, 10, 20)},
    **{f"harmonic, {shots}": f"{JOINED}/{shots}s/harmonic" for shots in (1, 5, 10, 20)},
    "before": f"{JOINED}/0s/base",
    "after 1 shot": f"{JOINED}/1s/base",
    **{setting: f"fewshot/{setting}" for setting in ("5w1s", "5w5s", "5w10s")},
    "all-way": "fewshot/allw1s",
    "pairs": "novel/pair_accuracy",
    "balanced pairs": "novel/pair_accuracy",
    "unbalanced pairs": "novel/unbalanced_pair_accuracy",
    "base pairs": "base/pair_accuracy",
    "base triplets": "base/triplet_accuracy",
    "base AUC": "base/pair_auc",
    "novel pairs": "novel/pair_accuracy",
    "novel triplets": "novel/triplet_accuracy",
    "novel AUC": "novel/pair_auc",
    "pairs of the class": "novel/pair_accuracy",
    "triplets of the class": "novel/triplet_accuracy",
}
"""Heading, without its split -> metric."""
SOURCE = {"source's triplets": "80.0", "source's pairs": "68.8"}
"""Heading of a class's numbers -> what the source says of all classes together."""
NAMES = ("section", "what", "head", "record", "row", "A", "B", "split", "measure", "floor", *SOURCE)
"""Columns without a number of ours."""
LINK = re.compile(r'<a href="(?:\.\./)?results/(.+?)\.json">')


@cache
def rows() -> list[dict[str, str]]:
    """Lines of the tables of findings and README whose numbers are records'.

    The first column's cell is also "what", its heading "head"; "section" is the heading above the table.
    """
    found = []
    for page in (PAGE, ROOT / "README.md"):
        for part in page.read_text(encoding="utf-8").split("\n## "):
            for headings, *lines in cells(part):
                if {"record", "row", "A"} & set(headings):
                    own = {"section": part.partition("\n")[0], "head": headings[0]}
                    named = [dict(zip(headings, line, strict=True)) for line in lines]
                    found += [own | {"what": plain(line[headings[0]])} | line for line in named]
    return [{k: v for k, v in row.items() if k != row["head"] or k == "A"} for row in found]


def expected(row: dict[str, str], heading: str) -> str:
    """What the cell of a line has to say."""
    if "A" in row:
        return difference(row["split"], plain(row["A"]), plain(row["B"]), heading)
    source = row.get("record", row.get("row"))
    if links := LINK.findall(source):
        if len(links) == 2:
            return gain(*links, KEYS[heading])
        of_class = row["what"] if SOURCE.keys() & row.keys() else ""
        measure = row["measure"] if heading == "recorded" else heading
        return from_record(links[0], measure, row[heading], of_class)
    split = next((one for one in SPLITS for text in (heading, row["what"], row["head"]) if one in text), "")
    if source.startswith("<code>"):
        return from_row(split, plain(source), heading.removeprefix(split).strip())
    return from_source(source, split, KEYS.get(heading, ""), row[heading])


def from_record(name: str, heading: str, written: str, of_class: str = "") -> str:
    """A record's number, of one class if one is named, with as many digits as the page writes."""
    record = read(name)
    timings, before = record["timings"], record.get("pretraining") or {}
    facts = {
        "made": record["created"][:10],
        "minutes": f"{(timings.get('processor_s', 0) + before.get('processor_s', 0)) / 60:.0f}",
        "minutes of the test, wall": f"{timings['evaluate_s'] / 60:.0f}",
        "seconds, wall": f"{timings['total_s'] + before.get('seconds', 0):.0f}",
        "seconds of the test, wall": f"{timings['evaluate_s']:.0f}",
    }
    if heading in facts:
        return facts[heading]
    metric = (record["per_class"][of_class] if of_class else record["metrics"])[KEYS[heading]]
    digits = len(written.split(" ")[0].partition(".")[2])
    return percent(metric["value"], metric["low"], metric["high"], digits)[0]


def gain(name: str, other: str, key: str) -> str:
    """Other minus first, over the classes that joined in both, with the interval over classes."""
    first, second = joins(name, key), joins(other, key)
    by_class = np.array([second[one] - first[one] for one in first.keys() & second.keys()])
    if not len(by_class):
        return "–"
    half = t_quantile(len(by_class) - 1, 0.95) * by_class.std(ddof=1) / len(by_class) ** 0.5
    low, mean, high = (100 * (by_class.mean() + end) for end in (-half, 0, half))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def joins(name: str, key: str) -> dict[int, float]:
    """Class that joined alone -> a metric, the mean over its draws; empty for what is not kept per class."""
    join, _, metric = key.rpartition("/")
    with np.load(ROOT / "results" / f"{name}.npz") as arrays:
        if f"{join}/novel" not in arrays:
            return {}
        found = joint_accuracies(arrays[f"{join}/novel"], arrays[f"{join}/base"], 1, 40)[metric]
        classes = arrays[f"{JOINED}/classes"].tolist()
    return dict(zip(classes, found.mean(axis=1).tolist(), strict=True))


@cache
def read(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def table(split: str) -> Table:
    return Table(ROOT / "results", "cifar100", split)


def of_name(split: str, name: str) -> list:
    return [record for record in table(split).records if name_of(record) == name]


@cache
def seeded(split: str, name: str) -> Row:
    """The leaderboard's row of this name."""
    [row] = rows_of(of_name(split, name))
    load_answers(row, ROOT / "results")
    fill_in_intervals(row)
    return row


def from_row(split: str, name: str, heading: str) -> str:
    """A number of a row; † as on the leaderboard."""
    if heading == "kept":
        return kept(of_name(split, name)) or "–"
    row, key, setting = seeded(split, name), KEYS.get(heading, "fewshot/5w1s"), "5w1s"
    value = [record.metrics[key].value for record in row.records]
    if heading == "lowest seed":
        return f"{100 * min(value):.1f}"
    if heading == "highest seed":
        return f"{100 * max(value):.1f}"
    if heading == "always different":
        return f"{100 * row.first.constant_answer[KEYS['unbalanced pairs']]:.0f}"
    if heading == "± new classes":
        interval = class_jackknife(row.answers[setting].mean(axis=0), common_classes(row.records, setting))
    else:
        interval = row.first.metrics[key] if heading == "± episodes" else row.intervals[key]
    [text] = number(interval, 1)
    dagger = " †" * (heading in KEYS and len(row.records) < ENOUGH_SEEDS)
    return text.split(" ± ")[1] if heading.startswith("±") else text + dagger


@cache
def compared(split: str, first: str, second: str, setting: str):
    return compare([first, second], table(split), setting)


def ends(split: str, first: str, second: str, setting: str):
    """First minus second: over episodes and retraining, and over classes."""
    found = compared(split, first, second, setting)
    [comparison], [over_classes] = found.comparisons, found.new_classes
    return comparison.difference, over_classes


def difference(split: str, first: str, second: str, heading: str) -> str:
    """First minus second over new episodes and seeds, or over classes; † if not for retraining."""
    setting, _, classes = heading.partition(" ")
    if setting not in seeded(split, first).first.episodes:
        return "–"
    own, over_classes = ends(split, first, second, setting)
    shown = over_classes if classes else own
    interval = f"[{100 * shown.low:+.2f}, {100 * shown.high:+.2f}]"
    return interval if classes else f"{100 * own.value:+.2f} {interval}" + " †" * (not own.over_training)


def from_source(method: str, split: str, key: str, written: str) -> str:
    """The published number; some are only in the note on the source. Pairs may be at the best threshold."""
    ours = [row for row in published() if row.method == method and (row.split == split or not split)]
    keys = (key, f"{key}_oracle")
    values = [row.values[one] for row in ours for one in keys if one in row.values]
    if not values and any(f"{key.partition('/')[0]} {written}" in row.source for row in ours):
        return written
    return " ± ".join(filter(None, *values)) if values else "–"


def says(sentence: str, *values: object) -> None:
    assert sentence.format(*values) in TEXT


def signs(split: str, first: str, second: str, setting: str) -> tuple[int, ...]:
    """Over episodes and retraining, and over classes: 1 if the first is better, -1 if worse, 0 if neither."""
    return tuple((one.low > 0) - (one.high < 0) for one in ends(split, first, second, setting))


def points(split: str, first: str, second: str, setting: str) -> float:
    return 100 * ends(split, first, second, setting)[0].value


def lines(section: str, heading: str) -> list[dict[str, str]]:
    """The lines of a section's tables that have this column."""
    return [row for row in rows() if row["section"].startswith(section) and heading in row]


def numbers(section: str, heading: str) -> dict[str, list[float]]:
    """First cell -> the numbers of a column's cell."""
    return {
        row["what"]: [float(text) for text in re.findall(r"[-+]?\d[\d.]*", row[heading])]
        for row in lines(section, heading)
    }


def highest(heading: str) -> str:
    """The row of section 1 whose number is the highest."""
    return plain(max(lines("1. ", heading), key=lambda row: float(row[heading].split(" ")[0]))["row"])


def differences(section: str) -> list[tuple[str, str, str]]:
    """Split, first and second method of each line."""
    return [(row["split"], plain(row["A"]), plain(row["B"])) for row in lines(section, "A")]


def linked(section: str, heading: str) -> dict[str, dict]:
    """First cell -> the record that a line links to."""
    found = {row["what"]: LINK.findall(row.get("record", "")) for row in lines(section, heading)}
    return {what: read(names[0]) for what, names in found.items() if len(names) == 1}
