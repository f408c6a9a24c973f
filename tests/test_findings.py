"""Tables of docs/findings.md and README, times of presets and pictures of README say what the records say."""

import re
from statistics import median

import pytest
from markdown_reader import plain
from recorded_numbers import LINK, NAMES, ROOT, SOURCE, difference, expected, read, rows, table

from bench.config.run_config import PRESETS
from bench.records.identity import changes, name_of
from bench.records.store import read_all
from bench.records.tracks import cost, on_gpu, partition_by_track
from bench.reporting.figures import scatter, shots
from bench.reporting.figures.picture import Palette
from bench.reporting.figures.rows import sections

README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    assert len(rows()) >= 140
    assert sum("as published" in "".join(row.values()) for row in rows()) == 4
    assert sum("re-measured" in "".join(row.values()) for row in rows()) == 1


def test_the_tables_of_pretraining_leave_nothing_out():
    """Every method recorded from both starts is compared, and every pretrained row's kept step is there."""
    own = [row for row in rows() if row["section"].startswith("2. ")]
    compared = {(row["split"], plain(row["A"]), plain(row["B"])) for row in own if "A" in row}
    listed = {plain(row["row"]) for row in own if "row" in row}
    both, pretrained = set(), set()
    for split in ("90-10", "cifar-fs", "fc100"):
        tracks, _ = partition_by_track([one for one in table(split).records if one.preset == "quick"])
        starts = {"pretrained": {}, "scratch": {}}
        for record in (one for records in tracks.values() for one in records):
            if start := record.hyperparameters.get("init"):
                starts[start][record.method] = name_of(record)
        pretrained |= set(starts["pretrained"].values())
        both |= {
            (split, name, starts["scratch"][method])
            for method, name in starts["pretrained"].items()
            if method in starts["scratch"]
        }
    columns = ("5w1s", "5w1s over classes", "5w5s", "5w5s over classes")
    for split, first, second in both - compared:  # ready to be pasted
        cells = [difference(split, first, second, column) for column in columns]
        print(f"| `{first}` | `{second}` | {split} | {' | '.join(cells)} |")
    assert (compared, listed) == (both, pretrained)


def unchanged(preset: str) -> list:
    """Records of a preset with nothing changed but the start."""
    records = read_all(ROOT / "results")[0]
    return [one for one in records if one.preset == preset and not changes(one)]


def minutes_of(preset: str, precision: str = "") -> list[float]:
    """Of unchanged runs on one core."""
    return [
        spent.one_core / 60
        for one in unchanged(preset)
        if not on_gpu(one) and precision in one.environment.precision and (spent := cost([one]))
    ]


def test_the_time_of_quick_is_that_of_its_records():
    said = re.search(r"median (\d+) minutes \((\d+) to (\d+)\) on one core", PRESETS["quick"])
    assert said and said[0] in README
    middle, low, high = map(int, said.groups())
    minutes = minutes_of("quick")
    assert median(minutes) == pytest.approx(middle, abs=1)
    inside = [low - 1 <= one <= high + 1 for one in minutes]
    assert sum(inside) >= 0.8 * len(inside)
    page = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
    assert f"[about {middle} minutes]" in page


def test_the_times_of_standard_are_those_of_its_records():
    said = re.search(
        r"(\d+) to (\d+) minutes in bfloat16, (\d+) to (\d+) in 32 bits, on one core", PRESETS["standard"]
    )
    assert said and said[0] in README
    found = [end(minutes_of("standard", precision)) for precision in ("bf16", "32") for end in (min, max)]
    assert [int(one) for one in said.groups()] == pytest.approx(found, abs=1)


def test_a_gpu_s_time_is_that_of_its_records():
    seconds = [
        one.timings.total_s + (one.pretraining.seconds if one.pretraining else 0)
        for one in unchanged("quick")
        if on_gpu(one)
    ]
    assert f"a `quick` run took {min(seconds):.0f} to {max(seconds):.0f} seconds" in " ".join(README.split())


@pytest.mark.slow
def test_the_pictures_of_the_readme_are_of_these_records():
    """Their alternative texts have the drawn numbers; CONTRIBUTING.md says how to draw them again."""
    records = [record for record in read_all(ROOT / "results")[0] if record.split == "90-10"]
    (section,) = sections([one for one in records if one.dataset == "cifar100"], ROOT / "results")
    pictures = {made.name: made for own in (scatter, shots) for made in own.pictures(section, Palette([]))}
    for name, file in (("training-time-fp32", "90-10.png"), ("shots", "90-10-shots.png")):
        assert f"![{pictures[name].alt}](docs/pictures/{file})" in README
