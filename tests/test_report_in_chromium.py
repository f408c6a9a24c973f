"""The HTML report in Chromium: it sorts, filters, changes colours, and asks nothing of the network."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess

import pytest
from report_reader import HOSTILE, made, write_records

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


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
def whole(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("results")
    write_records(directory)
    return made(directory, few_pictures=False)


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
