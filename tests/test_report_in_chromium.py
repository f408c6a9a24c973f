"""The HTML report in Chromium: it sorts, filters, changes colours, fits the window, and asks for nothing."""

import pytest
from browser import watched
from report_reader import HOSTILE, made, write_records

pytestmark = pytest.mark.slow

PROBE = """async () => {
  const column = (table, number) =>
    [...document.querySelectorAll(`#${table}-table tbody tr:not([hidden])`)]
      .map((row) => row.cells[number].textContent);
  const heads = [...document.querySelectorAll("#results-table thead th")];
  const where = (name) => heads.findIndex((head) => head.textContent === name);
  const click = (name) => heads[where(name)].querySelector("button").click();
  const result = {};
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
  await new Promise((done) => setTimeout(done)); // after the page's own
  result.all = column("results", 0).length;
  const theme = document.getElementById("theme");
  result.colours = [];
  for (let i = 0; i < 3; i++) {
    result.colours.push(getComputedStyle(document.body).backgroundColor);
    theme.click();
  }
  return result;
}"""

LAYOUT = """() => {
  for (const group of document.querySelectorAll("details")) group.open = true;
  const pictures = [...document.querySelectorAll("figure svg")];
  const heights = pictures.map((one) => one.getBoundingClientRect().height);
  const seconds = [...document.querySelectorAll("thead th:nth-child(2)")];
  return {
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ends: seconds.map((head) => [head.textContent, head.getBoundingClientRect().right]),
    pictures: heights.length,
    flat: heights.filter((height) => height < 100).length,
    broken: [...document.images].filter((one) => !one.complete || !one.naturalWidth).length,
  };
}"""


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """The report in a narrow window; at the end: no errors, and nothing asked for but the page."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "results").mkdir()
    write_records(folder / "results")
    (folder / "page.html").write_text(
        made(folder / "results", ("cifar100-90-10", "splits")), encoding="utf-8"
    )
    page = chromium.new_page(viewport={"width": 420, "height": 900})
    problems, requests = watched(page)
    page.goto(address := (folder / "page.html").as_uri())
    yield page
    assert problems == []
    assert [one for one in requests if not one.startswith("data:")] == [address]


@pytest.mark.parametrize("width", [420, 1280])
def test_it_fits_the_window(page, width):
    """The name and the accuracy are in sight without scrolling to the right."""
    page.set_viewport_size({"width": width, "height": 900})
    found = page.evaluate(LAYOUT)
    assert (found["width"], found["overflow"]) == (width, 0)
    assert [name for name, end in found["ends"] if not 0 < end <= width] == []
    assert [name for name, _ in found["ends"]] == ["accuracy", "5w1s", "novel", "5w1s", "5w1s"]
    assert (found["pictures"], found["flat"], found["broken"]) == (7, 0, 0)


def test_it_sorts_filters_and_changes_colours(page):
    found = page.evaluate(PROBE)
    numbers = [float(cell.split(" ±")[0]) for cell in found["falling"]]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 4
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
