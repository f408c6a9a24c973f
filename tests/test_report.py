"""The HTML report: what stands in it, that it runs nothing of others, and, in Chromium, that it works."""

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import figure_records
import pytest
from command_line import bench, complaint
from record_factory import make_record

from bench.records import store
from bench.reporting import html_table, report
from bench.reporting.figures import Gap, Options, collect
from bench.reporting.figures.rows import sections

pytestmark = pytest.mark.slow
VOID = {"meta", "link", "input", "br", "path", "use", "image"}
HOSTILE = figure_records.HOSTILE[:3]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: elements with attributes, and the text of each table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, list[list[str]]] = {}
        self.text: Counter[str] = Counter()
        self.open: list[str] = []
        self.table = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = attributes["id"]
            self.tables[self.table], self.values[self.table] = [], []
        elif tag == "tr":
            self.tables[self.table].append([])
            self.values[self.table].append([])
        elif tag in ("td", "th"):
            self.tables[self.table][-1].append("")
            self.values[self.table][-1].append(attributes.get("data-value"))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[data.strip()] += 1
        if {"td", "th"} & set(self.open):
            self.tables[self.table][-1][-1] += data

    def column(self, table: str, heading: str) -> list[tuple[str, str]]:
        """What is shown in a column and what it is sorted by, row by row."""
        shown, values = self.tables[f"{table}-table"], self.values[f"{table}-table"]
        where = shown[0].index(heading)
        return [(row[where], own[where]) for row, own in zip(shown[1:], values[1:], strict=True)]


def write_records(directory: Path) -> None:
    for number, method in enumerate(("protonet", *HOSTILE)):
        figure_records.write(directory, 90, 0.5 + 0.05 * number, method=method)
    for seed in range(3):
        figure_records.write(directory, 90, 0.6, method="siamese_triplet", seed=seed)
    figure_records.write(directory, 50, 0.45, method="protonet")
    figure_records.write(
        directory, 90, 0.4, method="outsider", external_data=True, dataset="<b>glyphs</b>",
        backbone='"><img src=x onerror=alert(1)>',
        command="python -m bench run\n</script><script>alert(2)</script>",
    )  # fmt: skip


def made(directory: Path, few_pictures: bool = True) -> str:
    found, problems = store.read_all(directory)
    assert problems == []
    own = sections(found, directory)
    pictures = collect(own, Options(directory, directory / "no runs"))
    if few_pictures:
        pictures = [
            p for p in pictures if isinstance(p, Gap) or p.name.endswith(("90-10-shots", "per-class"))
        ]
    return report.render(own, pictures, found, lambda *_: None, "")


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
    assert page.column("results", "time (threads)")[0] == ("10 min 10 s wall (2)", "610.0")


def test_the_reader_is_guided(page, text):
    """The guide is first, the accuracy is in sight of a narrow window, headings are explained."""
    assert text.index('id="reading"') < text.index('id="results"')
    headings = {name: table[0][:2] for name, table in page.tables.items()}
    assert headings["best-table"] == ["highest", "accuracy"] and headings["runs-table"] == ["run", "5w1s"]
    assert headings["results-table"] == ["method", "5w1s"]
    hints = [a["title"] for tag, a in page.elements if tag == "button" and "title" in a]
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
    monkeypatch.chdir(tmp_path)
    store.write(make_record(), Path("results"))
    answer = bench("report")
    assert (answer.code, answer.out) == (0, "report.html\n")
    assert Page(Path("report.html").read_text(encoding="utf-8")).column("runs", "seed") == [("0", "0")]
    Path("results/bad.json").write_text("{}")
    answer = bench("report", "--output", "other.html")
    assert answer.code == 1 and "bad.json" in answer.err and Path("other.html").exists()


def test_bad_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--results nowhere" in complaint("report", "--results", "nowhere")
    Path("results").mkdir()
    Path("file").write_text("")
    assert "--output" in complaint("report", "--output", "file/report.html")


PROBE = """
const said = [];
addEventListener("error", (event) => said.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => said.push(event.violatedDirective));
addEventListener("load", async () => {
  const column = (table, number) =>
    [...document.querySelectorAll(`#${table}-table tbody tr:not([hidden])`)]
      .map((row) => row.cells[number].textContent);
  const heads = [...document.querySelectorAll("#results-table thead th")];
  const where = (name) => heads.findIndex((head) => head.textContent === name);
  const click = (name) => heads[where(name)].querySelector("button").click();
  const result = { said };
  const accuracy = where("5w1s");
  click("5w1s");
  result.falling = column("results", accuracy);
  result.marked = heads[accuracy].getAttribute("aria-sort");
  click("5w1s");
  result.rising = column("results", accuracy);
  click("rank");
  click("rank");
  result.ranks = column("results", where("rank"));
  click("method");
  result.methods = column("results", 0);
  const form = document.getElementById("filter");
  const set = (name, value) => {
    form.elements[name].value = value;
    form.dispatchEvent(new Event("input", { bubbles: true }));
  };
  set("text", "PROTONET quick");
  result.found = column("results", 0);
  result.count = document.getElementById("results-table-count").textContent;
  set("text", "");
  set("dataset", "<b>glyphs</b>");
  result.dataset = column("results", 0);
  const groups = document.querySelectorAll(".group:not([hidden]) > summary");
  result.groups = [...groups].map((one) => one.textContent);
  set("dataset", "");
  set("split", "50-50");
  result.split = column("results", where("split"));
  form.reset();
  await new Promise((done) => setTimeout(done, 50));
  result.all = column("results", 0).length;
  const theme = document.getElementById("theme");
  result.colours = [];
  for (let i = 0; i < 3; i++) {
    result.colours.push(getComputedStyle(document.body).backgroundColor);
    theme.click();
  }
  for (const group of document.querySelectorAll(".group")) group.open = true;
  const pictures = [...document.querySelectorAll("figure svg")];
  result.flat = pictures.filter((one) => one.getBoundingClientRect().height < 100).length;
  result.pictures = pictures.length;
  result.broken = [...document.images].filter((one) => !one.complete || !one.naturalWidth).length;
  result.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const fetched = performance.getEntriesByType("resource").map((one) => one.name);
  result.asked = fetched.filter((name) => !/^data:/.test(name));
  const out = document.createElement("pre");
  out.id = "probed";
  out.textContent = JSON.stringify(result);
  document.body.append(out);
});
"""


@pytest.fixture(scope="module")
def whole(folder) -> str:
    return made(folder, few_pictures=False)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_chromium(whole, tmp_path, width):
    """Sorts, filters, changes colours, and looks for errors and broken images, as a reader would."""
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = whole.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    text = text.replace("<style>", f"<script>{PROBE}</script><style>", 1)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    command += ["--virtual-time-budget=20000", (tmp_path / "page.html").as_uri()]
    answer = subprocess.run(
        command, capture_output=True, timeout=300, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert b"CONSOLE" not in answer.stderr, answer.stderr.decode(errors="replace")
    probed = re.search(r'<pre id="probed">(.*?)</pre>', answer.stdout.decode(), re.DOTALL)
    assert probed, answer.stderr.decode(errors="replace")
    found = json.loads(html.unescape(probed[1]))
    numbers = [float(cell.split(" ±")[0]) for cell in found["falling"]]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 4
    assert found["rising"] == found["falling"][::-1] or sorted(found["rising"]) == sorted(found["falling"])
    assert [float(cell.split(" ±")[0]) for cell in found["rising"]] == sorted(numbers)
    assert found["marked"] == "descending"
    assert found["ranks"][0].startswith("1") and found["ranks"][-1] == "–"
    assert found["methods"] == sorted(found["methods"], key=str.lower) or set(HOSTILE) <= {
        name.removesuffix(" (quick)") for name in found["methods"]
    }
    assert found["found"] == ["protonet (quick)"] * 2 and found["count"] == f"2 of {len(numbers)} rows"
    assert found["dataset"] == ["outsider (quick)"] and found["groups"] == [
        "<b>glyphs</b>", "<b>glyphs</b> 90-10"
    ]  # fmt: skip
    assert found["split"] == ["50-50"] and found["all"] == len(numbers)
    assert len(set(found["colours"][1:])) == 2
    assert (found["said"], found["broken"], found["flat"], found["asked"]) == ([], 0, 0, [])
    assert found["pictures"] > 10 and found["wide"] <= 0
