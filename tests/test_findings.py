"""docs/findings.md and the presets' times say what the records say."""

import json
import re
from pathlib import Path
from statistics import median

import pytest
from markdown_reader import plain, tables

from bench.config.run_config import PRESETS
from bench.records.store import read_all
from bench.reporting.figures import cost
from bench.reporting.figures.picture import Palette
from bench.reporting.figures.rows import sections
from bench.reporting.published import published

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
KEYS = {
    **{f"{shots} shot{'s' * (shots > 1)}": f"generalized/40+1/{shots}s/novel" for shots in (1, 5, 10, 20)},
    **{f"after {shots}": f"generalized/40+1/{shots}s/base" for shots in (5, 10, 20)},
    "before": "generalized/40+1/0s/base",
    "after 1 shot": "generalized/40+1/1s/base",
    **{setting: f"fewshot/{setting}" for setting in ("5w1s", "5w5s", "5w10s")},
    "base pairs": "base/pair_accuracy",
    "base triplets": "base/triplet_accuracy",
    "novel pairs": "novel/pair_accuracy",
    "novel triplets": "novel/triplet_accuracy",
    "pairs of the class": "novel/pair_accuracy",
    "triplets of the class": "novel/triplet_accuracy",
}
"""Heading -> metric."""
SOURCE = {"source's triplets": "80.0", "source's pairs": "68.8"}
"""Heading of a class's numbers -> what the source says of all classes together."""


def rows() -> list[dict[str, str]]:
    """Lines of the tables of findings and README that name records; the first column's heading is "what"."""
    return [
        {"what": plain(what), **dict(others)}
        for page in (PAGE, ROOT / "README.md")
        for table in tables(page.read_text(encoding="utf-8"))
        for row in table
        if "record" in row
        for (_, what), *others in [row.items()]
    ]


def said(row: dict[str, str]) -> dict[str, str]:
    """Metric -> its number on the page."""
    others = ("what", "record", *SOURCE)
    return {KEYS[heading]: text for heading, text in row.items() if heading not in others}


def from_record(name: str, key: str, written: str, of_class: str = "") -> str:
    """A record's number, of one class if one is named, with as many digits as the page writes."""
    record = json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))
    metric = (record["per_class"][of_class] if of_class else record["metrics"])[key]
    digits = len(written.split(" ")[0].partition(".")[2])
    half = (metric["high"] - metric["low"]) / 2
    return f"{100 * metric['value']:.{digits}f} ± {100 * half:.{digits}f}"


def from_source(method: str, key: str) -> str:
    [value] = [row.values[key] for row in published() if row.method == method and key in row.values]
    return " ± ".join(filter(None, value))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["what"])
def test_each_number_is_the_record_s(row):
    link = re.fullmatch(r'<a href="(?:\.\./)?results/(.+\.json)">.+</a>', row["record"])
    of_class = row["what"] if SOURCE.keys() & row.keys() else ""
    for key, text in said(row).items():
        found = from_record(link[1], key, text, of_class) if link else from_source(row["record"], key)
        assert text == found, key
    assert said(row)


@pytest.mark.parametrize("heading", SOURCE)
def test_the_source_s_classes_have_the_mean_that_it_gives(heading):
    of_classes = [float(row[heading]) for row in rows() if heading in row]
    assert len(of_classes) == 10 and f"{sum(of_classes) / 10:.1f}" == SOURCE[heading]


def test_the_page_has_all_its_tables():
    assert len(rows()) == 49
    assert sum("as published" in row["record"] for row in rows()) >= 2


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_a_presets_time_is_that_of_its_records(preset):
    pattern = r"median (\d+) minutes \((\d+) to (\d+)\) at (\d) thread"
    said = re.search(pattern, PRESETS[preset])
    assert said and said[0] in (ROOT / "README.md").read_text(encoding="utf-8")
    middle, low, high, threads = map(int, said.groups())
    minutes = [
        (record["timings"]["total_s"] + (record.get("pretraining") or {"seconds": 0})["seconds"]) / 60
        for record in (json.loads(path.read_text()) for path in (ROOT / "results").glob("*.json"))
        if record["preset"] == preset and record["environment"]["threads"] == threads
        if not record["config"]["overrides"] and record["environment"]["device"] == "cpu"
    ]
    assert median(minutes) == pytest.approx(middle, rel=0.25)
    inside = [low - 1 <= one <= high + 1 for one in minutes]
    assert sum(inside) >= 0.8 * len(inside)


def test_the_picture_of_the_readme_is_of_these_records():
    """Its alternative text has the numbers that are drawn; CONTRIBUTING.md says how it is drawn again."""
    records = [record for record in read_all(ROOT / "results")[0] if record.split == "90-10"]
    (section,) = sections([one for one in records if one.dataset == "cifar100"], ROOT / "results")
    (picture,) = cost.pictures(section, Palette([]))
    assert f"![{picture.alt}](docs/pictures/90-10.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
