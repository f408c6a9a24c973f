"""The HTML report: what stands in it, and that it runs nothing of others."""

import base64
import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from command_line import bench
from record_factory import make_record
from report_reader import HOSTILE, Page, made, write_records

from bench.records import store
from bench.reporting import html_table
from bench.reporting.published import HEADINGS
from bench.reporting.ranking.rows import COLUMNS
from bench.reporting.report_tables import HINTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    write_records(directory)
    return directory


@pytest.fixture(scope="module")
def text(folder) -> str:
    return made(folder)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_nothing_of_others_is_run(page, text):
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["script"] == tags["style"] == 1 and tags["img"] == tags["b"] - text.count("<b>") == 0
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    shown = [shown for shown, _ in page.column("results", "method")]
    for name in HOSTILE:
        assert f"{name} (quick)" in shown
    (command,) = [shown for shown, _ in page.column("runs", "command") if "alert(2)" in shown]
    assert command == "showpython -m bench run\n</script><script>alert(2)</script>"
    options = [attributes["value"] for tag, attributes in page.elements if tag == "option"]
    assert options == ["", "<b>glyphs</b>", "cifar100", "", "90-10", "50-50"] or set(options) == {
        "", "<b>glyphs</b>", "cifar100", "90-10", "50-50"
    }  # fmt: skip
    summaries = {
        attributes["data-dataset"] for tag, attributes in page.elements if "data-dataset" in attributes
    }
    assert summaries == {"<b>glyphs</b>", "cifar100"}


def test_control_characters_are_written_out():
    assert html_table.escape("a\x1b[2J\u202e<") == "a\\x1b[2J\\u202e&lt;"


def test_it_asks_nothing_of_the_network(page, text):
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert set(re.findall(r"url\((.)", text)) <= {"#"} and "@import" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert all(
        address.startswith("http://www.w3.org/") for address in addresses
    )  # names of XML, never fetched
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_tables_say_what_the_records_say(page, folder):
    by_method = dict(
        zip((m for m, _ in page.column("results", "method")), page.column("results", "5w1s"), strict=True)
    )
    found = {r.method: r for r in store.read_all(folder)[0] if r.seed == 0 and r.split == "90-10"}
    for name in (*HOSTILE, "outsider"):
        metric = found[name].metrics["fewshot/5w1s"]
        half = max(metric.value - metric.low, metric.high - metric.value)
        assert by_method[f"{name} (quick)"] == (
            f"{100 * metric.value:.2f} ± {100 * half:.2f}",
            str(metric.value),
        )
    assert {seeds for seeds, _ in page.column("results", "seeds")} == {"1 †", "3"}
    assert ("external data", "external data") in page.column("results", "marks")
    assert len(page.column("runs", "run")) == 9 == len(list(folder.glob("*.json")))
    joined = page.column("generalized", "harmonic")
    assert len(joined) == 4 * 6 and joined[0][0].startswith("41.0 ±")
    assert {shots for shots, _ in page.column("generalized", "shots")} == {"1", "5", "10", "20"}
    assert page.column("best", "setting")[0] == ("5w1s", "5w1s")
    assert "5w10s" not in page.tables["results-table"][0]  # no record has it


def test_numbers_are_sorted_as_numbers_and_blanks_are_marked(page):
    for heading in ("rank", "5w1s", "novel pairs", "parameters", "time (threads)", "seeds"):
        for shown, value in page.column("results", heading):
            assert value == "" if shown == "–" else float(value) >= 0
    assert page.column("results", "parameters")[0] == ("113 k", "112832")
    assert page.column("results", "time (threads)")[0] == ("10 min 10 s wall (2)", "1220.0")


def test_the_reader_is_guided(page, text):
    """The guide is first, the accuracy is in sight of a narrow window, headings are explained."""
    assert text.index('id="reading"') < text.index('id="results"')
    headings = {name: table[0][:2] for name, table in page.tables.items()}
    assert headings["best-table"] == ["highest", "accuracy"] and headings["runs-table"] == ["run", "5w1s"]
    assert headings["results-table"] == ["method", "5w1s"]
    hints = [a["title"] for tag, a in page.elements if tag == "button" and "title" in a]
    assert len(hints) == sum(len(table[0]) for table in page.tables.values())
    assert {*COLUMNS, *HEADINGS.values()} <= HINTS.keys()
    assert all(page.text[hint] for hint in hints)  # said under More too, for those who cannot point
    assert any(hint.endswith("15 queries per class. Guessing gives 20.") for hint in hints)
    assert "Guessing gives 20 at 5w1s, " in text


def test_it_can_be_read_by_ear_and_with_the_keyboard(page):
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if attributes.get("role") == "img":
            assert len(attributes["aria-label"]) > 20
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0" and attributes["role"] == "region"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "href"):
            target = attributes.get(name, "")
            if target and (name == "aria-labelledby" or target.startswith("#")):
                assert target.strip("#") in ids
    tags = [tag for tag, _ in page.elements]
    assert tags.count("figure") == tags.count("figcaption") > 0 and tags.count("main") == 1
    assert dict(page.elements)["html"]["lang"] == "en"


def test_pictures_that_lack_something_are_named_with_the_reason(page):
    said = " ".join(page.text)
    assert "Not drawn:" in said and "needs the model of a run" in said


def test_the_same_bytes_every_time(folder, text):
    assert made(folder) == text


def test_no_records(tmp_path):
    page = Page(made(tmp_path))
    assert page.tables == {} and page.text["No results yet."] == 1


def test_records_from_before(tmp_path):
    store.write(make_record(), tmp_path)
    page = Page(made(tmp_path))
    assert page.column("results", "5w1s") == [("64.00 ± 1.00", "0.64")]


def test_the_command(tmp_path, monkeypatch):
    """One of the runs measured only pairs, on the classes of another data set."""
    monkeypatch.chdir(tmp_path)
    store.write(whole := make_record(), Path("results"))
    pairs = {key: metric.model_dump() for key, metric in whole.metrics.items() if "pair" in key}
    part = {"metrics": pairs, "episodes": {}, "per_class": {}, "dataset": "folder:a -> folder:b"}
    store.write(make_record(method="part", run_id="part", **part), Path("results"))
    answer = bench("report")
    assert (answer.code, answer.out) == (0, "report.html\n")
    page = Page(Path("report.html").read_text(encoding="utf-8"))
    assert [shown for shown, _ in page.column("results", "5w1s")] == ["64.00 ± 1.00", "–"]
    assert page.column("runs", "seed") == [("0", "0")] * 2
    Path("results/bad.json").write_text("{}")
    answer = bench("report", "--output", "other.html")
    assert answer.code == 1 and "bad.json" in answer.err and Path("other.html").exists()
