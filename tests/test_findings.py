"""docs/findings.md and the presets' times say what the records say."""

import json
import re
from functools import cache
from pathlib import Path
from statistics import median

import pytest
from markdown_reader import cells, plain

from bench.config.run_config import PRESETS
from bench.records.arrays import common_classes
from bench.records.identity import Table, name_of
from bench.records.store import read_all
from bench.records.tracks import processor_seconds
from bench.reporting.blocks import number, percent
from bench.reporting.compare import compare
from bench.reporting.figures import scatter, shots
from bench.reporting.figures.picture import Palette
from bench.reporting.figures.rows import sections
from bench.reporting.published import published
from bench.reporting.ranking.rows import Row, fill_in_intervals, load_answers, rows_of
from bench.statistics import ENOUGH_SEEDS, class_jackknife

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
SPLITS = ("90-10", "cifar-fs", "fc100", "40-60")
KEYS = {
    **{f"{shots} shot{'s' * (shots > 1)}": f"generalized/40+1/{shots}s/novel" for shots in (1, 5, 10, 20)},
    **{f"after {shots}": f"generalized/40+1/{shots}s/base" for shots in (5, 10, 20)},
    "before": "generalized/40+1/0s/base",
    "after 1 shot": "generalized/40+1/1s/base",
    **{setting: f"fewshot/{setting}" for setting in ("5w1s", "5w5s", "5w10s")},
    "all-way": "fewshot/allw1s",
    "pairs": "novel/pair_accuracy",
    "balanced pairs": "novel/pair_accuracy",
    "unbalanced pairs": "novel/unbalanced_pair_accuracy",
    "base pairs": "base/pair_accuracy",
    "base triplets": "base/triplet_accuracy",
    "novel pairs": "novel/pair_accuracy",
    "novel triplets": "novel/triplet_accuracy",
    "pairs of the class": "novel/pair_accuracy",
    "triplets of the class": "novel/triplet_accuracy",
    "minutes": "minutes",
    "minutes of the test, wall": "evaluate_s",
}
"""Heading, without its split -> metric or time."""
SOURCE = {"source's triplets": "80.0", "source's pairs": "68.8"}
"""Heading of a class's numbers -> what the source says of all classes together."""
NAMES = ("what", "head", "record", "row", "A", "B", "split", *SOURCE)
"""Columns without a number of ours."""
LINK = re.compile(r'<a href="(?:\.\./)?results/(.+?)\.json">')


def rows() -> list[dict[str, str]]:
    """Lines of the tables of findings and README whose numbers are records'.

    The first column's cell is also "what", its heading "head".
    """
    found = []
    for page in (PAGE, ROOT / "README.md"):
        for headings, *lines in cells(page.read_text(encoding="utf-8")):
            if {"record", "row", "A"} & set(headings):
                found += [
                    {"head": headings[0], "what": plain(line[0]), **dict(zip(headings, line, strict=True))}
                    for line in lines
                ]
    return [{k: v for k, v in row.items() if k != row["head"] or k == "A"} for row in found]


def expected(row: dict[str, str], heading: str) -> str:
    """What the cell of a line has to say."""
    if "A" in row:
        return difference(row, heading)
    source = row.get("record", row.get("row"))
    if links := LINK.findall(source):
        of_class = row["what"] if SOURCE.keys() & row.keys() else ""
        if len(links) == 2:
            return gain(*links, KEYS[heading])
        return from_record(links[0], KEYS[heading], row[heading], of_class)
    if source.startswith("<code>"):
        texts = (heading, row["what"], row["head"])
        split = next(split for text in texts for split in SPLITS if split in text)
        return from_row(seeded(split, plain(source)), heading.removeprefix(split).strip())
    return from_source(source, KEYS.get(heading, ""), row[heading])


def from_record(name: str, key: str, written: str, of_class: str = "") -> str:
    """A record's number, of one class if one is named, with as many digits as the page writes."""
    record = read(name)
    timings = record["timings"]
    if key == "minutes":
        return f"{(timings['processor_s'] + record['pretraining']['processor_s']) / 60:.0f}"
    if key == "evaluate_s":
        return f"{timings[key] / 60:.0f}"
    metric = (record["per_class"][of_class] if of_class else record["metrics"])[key]
    digits = len(written.split(" ")[0].partition(".")[2])
    return "".join(percent(metric["value"], metric["low"], metric["high"], digits))


def gain(name: str, other: str, key: str) -> str:
    """The mean difference of two records, other minus first, over the classes that both have."""
    pairs = [
        (own[key]["value"], read(other)["per_class"][one][key]["value"])
        for one, own in read(name)["per_class"].items()
        if key in own and key in read(other)["per_class"].get(one, {})
    ]
    return f"{100 * sum(b - a for a, b in pairs) / len(pairs):+.1f}" if pairs else "–"


@cache
def read(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def table(split: str) -> Table:
    return Table(ROOT / "results", "cifar100", split)


@cache
def seeded(split: str, name: str) -> Row:
    """The leaderboard's row of this name."""
    [row] = rows_of(record for record in table(split).records if name_of(record) == name)
    load_answers(row, ROOT / "results")
    fill_in_intervals(row)
    return row


def from_row(row: Row, heading: str) -> str:
    """A number of a row; † as on the leaderboard."""
    key, setting = KEYS.get(heading, "fewshot/5w1s"), "5w1s"
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


def difference(row: dict[str, str], heading: str) -> str:
    """A minus B over new episodes and seeds, or over classes; † if it does not apply to retraining."""
    setting, _, classes = heading.partition(" ")
    if setting not in seeded(row["split"], plain(row["A"])).first.episodes:
        return "–"
    found = compared(row["split"], plain(row["A"]), plain(row["B"]), setting)
    [comparison], [over_classes] = found.comparisons, found.new_classes
    own = comparison.difference
    ends = over_classes if classes else own
    interval = f"[{100 * ends.low:+.2f}, {100 * ends.high:+.2f}]"
    return interval if classes else f"{100 * own.value:+.2f} {interval}" + " †" * (not own.over_training)


def from_source(method: str, key: str, written: str) -> str:
    """The published number; some are only in the note on the source."""
    ours = [row for row in published() if row.method == method]
    values = [row.values[key] for row in ours if key in row.values]
    if not values and any(f"{key.partition('/')[0]} {written}" in row.source for row in ours):
        return written
    return " ± ".join(filter(None, *values)) if values else "–"


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["what"])
def test_each_number_is_the_record_s(row):
    said = {heading: text for heading, text in row.items() if heading not in NAMES}
    assert said == {heading: expected(row, heading) for heading in said}
    assert said


def test_records_of_uncommitted_code_are_marked():
    for row in rows():
        cell = row.get("record", "")
        dirty = any(read(name)["environment"]["git_dirty"] for name in LINK.findall(cell))
        assert ("uncommitted code" in cell) is dirty, row["what"]


@pytest.mark.parametrize("heading", SOURCE)
def test_the_source_s_classes_have_the_mean_that_it_gives(heading):
    of_classes = [float(row[heading]) for row in rows() if heading in row]
    assert len(of_classes) == 10 and f"{sum(of_classes) / 10:.1f}" == SOURCE[heading]


def test_the_page_has_all_its_tables():
    assert len(rows()) == 108
    assert sum("as published" in "".join(row.values()) for row in rows()) == 4


def test_pretrained_rows_that_are_said_to_share_a_network_share_it():
    """Seed by seed, on the splits with validation classes."""
    names = ("siamese_triplet (quick, pretrained, mining=soft)", "protonet (quick, pretrained)")
    for split in ("cifar-fs", "fc100"):
        triplet, proto = ({one.seed: one for one in seeded(split, name).records} for name in names)
        assert {one.kept_step for one in (*triplet.values(), *proto.values())} == {0}
        assert len(triplet.keys() & proto.keys()) >= 2
        for seed in triplet.keys() & proto.keys():
            assert triplet[seed].model == proto[seed].model
            assert triplet[seed].metrics["fewshot/5w1s"] == proto[seed].metrics["fewshot/5w1s"]
    for name in names:
        assert all(one.kept_step == one.timings.steps for one in seeded("90-10", name).records)
    for name in ("anil (quick, pretrained, test_steps=10)", "mtl (quick, pretrained)"):
        assert seeded("90-10", name).first.kept_step == 0


@pytest.mark.slow
@pytest.mark.parametrize("split", ["90-10", "cifar-fs", "fc100"])
def test_no_other_network_but_easy_s_on_fc100_is_better_than_class_means(split):
    """In both intervals, among the rows with three seeds; of the same networks only two are, at one shot."""
    means = "nearest_centroid (quick)"
    quick = {name_of(one) for one in table(split).records if one.preset == "quick"} - {means}
    names = sorted(name for name in quick if len(seeded(split, name).records) >= ENOUGH_SEEDS)
    assert len(names) >= 10
    for setting in ("5w1s", "5w5s"):
        found = compare([means, *names], table(split), setting)
        both = zip(found.comparisons, found.new_classes, strict=True)
        better = {
            one.second for one, new in both if one.first == means and max(one.difference.high, new.high) < 0
        }
        of_same_networks = {"finetune (quick)", "logistic_head (quick)"} & better
        assert better - of_same_networks == ({"easy (quick)"} if split == "fc100" else set())
        assert len(of_same_networks) == (2 if (split, setting) == ("fc100", "5w1s") else 0)


@pytest.mark.parametrize("split", ["90-10", "cifar-fs", "fc100"])
def test_other_answers_of_the_networks_of_class_means(split):
    means = {one.seed: one for one in seeded(split, "nearest_centroid (quick)").records}
    for name in ("logistic_head (quick)", "finetune (quick)"):
        for one in seeded(split, name).records:
            assert one.pretraining.model == means[one.seed].pretraining.model
            for key in ("fewshot/5w1s", "fewshot/5w5s"):
                difference = one.metrics[key].value - means[one.seed].metrics[key].value
                assert abs(difference) < 0.01
                assert difference > 0 or (split, key) != ("fc100", "fewshot/5w1s")


def test_no_record_reaches_the_constant_answer():
    key = KEYS["unbalanced pairs"]
    records = [record for split in SPLITS for record in table(split).records if key in record.metrics]
    assert records
    assert all(record.metrics[key].value < record.constant_answer[key] for record in records)


def on_one_core(record) -> float:
    """Seconds of a run at one thread: its processor time, which other programs hardly change, if recorded."""
    pretraining = record.pretraining.seconds if record.pretraining else 0.0
    return processor_seconds(record) or record.timings.total_s + pretraining


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_a_presets_time_is_that_of_its_records(preset):
    pattern = r"median (\d+) minutes \((\d+) to (\d+)\) on one core"
    said = re.search(pattern, PRESETS[preset])
    assert said and said[0] in (ROOT / "README.md").read_text(encoding="utf-8")
    middle, low, high = map(int, said.groups())
    minutes = [
        on_one_core(record) / 60
        for record in read_all(ROOT / "results")[0]
        if record.preset == preset and record.environment.device == "cpu"
        if record.environment.threads == 1 and not record.config["overrides"]
    ]
    assert median(minutes) == pytest.approx(middle, rel=0.25)
    inside = [low - 1 <= one <= high + 1 for one in minutes]
    assert sum(inside) >= 0.8 * len(inside)


@pytest.mark.slow
def test_the_pictures_of_the_readme_are_of_these_records():
    """Their alternative texts have the drawn numbers; CONTRIBUTING.md says how to draw them again."""
    records = [record for record in read_all(ROOT / "results")[0] if record.split == "90-10"]
    (section,) = sections([one for one in records if one.dataset == "cifar100"], ROOT / "results")
    pictures = {made.name: made for own in (scatter, shots) for made in own.pictures(section, Palette([]))}
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, file in (("training-time", "90-10.png"), ("shots", "90-10-shots.png")):
        assert f"![{pictures[name].alt}](docs/pictures/{file})" in page
