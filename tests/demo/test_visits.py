"""The page of `demo` in Chromium: a visitor can use it, and nothing leaves the machine."""

import io
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import watched
from command_line import bench, write_images
from drawings import CROSS, RING, drawing, png
from PIL import Image

from bench.demo.pictures import SIDE
from bench.demo.server import serving
from bench.records.schema import MODEL_FILE
from bench.serving.shipped import shipped

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TABS = "Same or different", "Your own classes", "Episodes", "Leaderboard"


class Served(NamedTuple):
    """A page, and the record of a run whose episodes it can show."""

    address: str
    record: Path


@pytest.fixture(scope="module")
def served(chromium, tmp_path_factory):
    """The page; at the end: the server has talked to this machine alone."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("served")
    results, runs, hosts = folder / "results", folder / "runs", set()
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def watched_connect(self, address):
        hosts.add(address[0] if isinstance(address, tuple) else "a file")
        return connect(self, address)

    def watched_resolve(host, *arguments, **options):
        hosts.add(host)
        return resolve(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        patch.setenv("GRADIO_TEMP_DIR", "")  # set by the server, and taken back here
        patch.setattr(socket.socket, "connect", watched_connect)
        patch.setattr(socket, "getaddrinfo", watched_resolve)
        write_images(folder / "images", classes=12, each=24)
        answer = bench(
            "run", "--method", "nearest_centroid", "--preset", "smoke", "--no-train", "--backbone", "conv4",
            "--weights", shipped().folder / MODEL_FILE, "--dataset", f"folder:{folder / 'images'}",
            "--split", "50-50", "--measure", "5w1s", "--device", "cpu", "--results", results, "--runs", runs,
        )  # fmt: skip
        assert answer.code == 0, answer.err
        for path in (ROOT / "results").glob("siamese-triplet_cifar100_90-10_quick_s0_*"):
            shutil.copy(path, results)
        with serving(None, results, runs, None, None, False) as address:
            yield Served(address, Path(answer.out.split()[-1]))
    assert hosts == {"127.0.0.1"}


@pytest.fixture
def visit(chromium, served):
    """Opens the page as a new visitor; at the end: nothing asked of other hosts, no errors, no files."""
    opened = []

    def open_page(**options):
        page = chromium.new_context(**options).new_page()
        opened.append((page, *watched(page)))
        page.goto(served.address)
        page.wait_for_selector("#first canvas")
        return page

    yield open_page
    for page, problems, requests in opened:
        page.context.close()
        assert problems == []
        assert [one for one in requests if not one.startswith((served.address, "data:", "blob:"))] == []
    assert [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file()] == []


def draw(page, pad: str, *lines) -> None:
    page.locator(f"{pad} canvas").scroll_into_view_if_needed()
    box = page.locator(f"{pad} canvas").bounding_box()
    scale = box["width"] / SIDE
    for line in lines:
        points = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in line]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def upload(page, pad: str, name: str, content: bytes, kind: str = "image/png") -> None:
    page.locator(f"{pad} input[type=file]").set_input_files(
        {"name": name, "mimeType": kind, "buffer": content}
    )


def open_tab(page, name: str) -> None:
    tab = page.locator(f"role=tab[name='{name}']").first
    if not tab.is_visible():  # in a narrow window
        page.click(".overflow-menu > button")
        tab = page.locator(f".overflow-dropdown button:has-text('{name}')")
    tab.click()


def says(page, where: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_contain_text(text, timeout=120_000)


def has(page, where: str, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_have_count(count, timeout=120_000)


def test_drawings_and_uploaded_pictures_are_compared(visit):
    page = visit()
    says(page, "#same", "Waiting for two pictures")
    draw(page, "#first", RING)
    draw(page, "#second", RING)
    says(page, "#same", "Same")
    score, threshold = re.search(r"Similarity (\S+), threshold (\S+)\.", page.inner_text("#same")).groups()
    assert float(score) >= float(threshold)
    page.click("#second >> text=Clear")
    says(page, "#same", "Waiting")
    draw(page, "#second", *CROSS)
    says(page, "#same", "Different")
    page.click("#second >> text=Undo")
    page.click("#second >> text=Undo")
    says(page, "#same", "Waiting")

    buffer = io.BytesIO()
    Image.fromarray(drawing(RING)).resize((400, 300)).save(buffer, "PNG")
    upload(page, "#second", "ring.png", buffer.getvalue())
    says(page, "#second", "ring.png")
    says(page, "#same", "Same")
    for name, content, kind, problem in (
        ("broken.png", png((50, 50))[:40], "image/png", "damaged"),
        ("notes.txt", b"hello", "text/plain", "Not a PNG"),
        ("large.png", bytes(11_000_000), "image/png", "has 11 MB; at most 10 MB"),
        ("huge.png", png((8000, 6251)), "image/png", "has 8000 x 6251 pixels; at most 50 million"),
    ):
        upload(page, "#second", name, content, kind)
        says(page, "#second", problem)
    says(page, "#same", "Same")  # the picture before is still there


def add_class(page, name: str, *lines) -> None:
    from playwright.sync_api import expect

    draw(page, "#example", *lines)
    page.fill("#name textarea, #name input", name)
    page.click("text=Add class")
    expect(page.locator("#name textarea, #name input")).to_have_value("", timeout=120_000)


def test_visitors_do_not_see_each_other_s_classes(visit):
    page, other = visit(), visit()
    for own in (page, other):
        open_tab(own, "Your own classes")
    add_class(page, "ring", RING)
    add_class(page, "cross", *CROSS)
    draw(page, "#query", RING)
    says(page, "#answer h2", "ring")
    add_class(other, "dot", [(140, 140), (141, 140)])
    has(other, "#support img", 1)
    says(other, "#support", "at least two classes")
    draw(other, "#query", RING)
    add_class(other, "line", [(60, 140), (220, 140)])
    other.wait_for_selector("#answer h2")
    answer = other.inner_text("#answer")
    assert "dot" in answer and "line" in answer and "ring" not in answer and "cross" not in answer
    add_class(page, "cross", *CROSS)  # again: the list is new
    has(page, "#support img", 2)
    says(page, "#answer h2", "ring")
    page.click("text=Remove all")
    says(page, "#support", "at least two classes")
    has(other, "#support img", 2)


FOCUSED = """(wanted) => {
  const focused = document.activeElement;
  return focused.textContent.trim() === wanted || focused.matches(wanted);
}"""


def tab_to(page, wanted: str, back: bool = False) -> None:
    """Press Tab until what is wanted has the focus: a selector, or the text of a button."""
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate(FOCUSED, wanted):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def draw_by_keys(page, *keys: str) -> None:
    for key in (" ", *(key for key in keys for _ in range(8)), " "):
        page.keyboard.press(key)


CORNER = "ArrowRight", "ArrowDown", "ArrowLeft"
STROKE = "ArrowUp", "ArrowUp"


def test_the_keyboard_is_enough(visit):
    page = visit()
    for pad in ("#first", "#second"):
        tab_to(page, f"{pad} canvas")
        draw_by_keys(page, *CORNER)
    says(page, "#same", "Same")
    page.keyboard.press("Delete")
    says(page, "#same", "Waiting")
    tab_to(page, "Undo")
    page.keyboard.press("Enter")
    says(page, "#same", "Same")

    tab_to(page, "Your own classes", back=True)
    page.keyboard.press("Enter")
    page.wait_for_selector("#example canvas")
    for name, keys, count in (("corner", CORNER, 1), ("stroke", STROKE, 2)):
        tab_to(page, "#example canvas", back=count > 1)
        draw_by_keys(page, *keys)
        tab_to(page, "#name textarea, #name input")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        has(page, "#support img", count)
    tab_to(page, "#query canvas")
    draw_by_keys(page, *STROKE)
    says(page, "#answer h2", "stroke")


FITS = """([width, dark]) => {
  const colour = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return innerWidth === width && document.documentElement.scrollWidth <= width
    && (dark ? Math.max(...colour) < 64 : Math.min(...colour) > 191);
}"""


def test_every_tab_in_narrow_and_wide_windows_light_and_dark(visit, served):
    """One visit: pictures, the answers of an episode, the leaderboard; then each tab in each window."""
    page = visit()
    draw(page, "#first", RING)
    draw(page, "#second", *CROSS)
    says(page, "#same", "Different")
    open_tab(page, "Leaderboard")
    says(page, "#board", "siamese_triplet")

    open_tab(page, "Episodes")
    page.click("input[aria-label='Run']")
    page.click(f"[role=option]:has-text('{served.record.stem}')")
    page.fill("[aria-label='number input for Episode']", "2")
    page.click("button:has-text('Show')")
    says(page, "#episode", "Episode 2,")
    with np.load(served.record.with_suffix(".npz")) as answers:
        right = int(answers["5w1s"][1])
    assert 0 < right < 75
    has(page, "#episode .right img", right)
    has(page, "#episode .wrong img", 75 - right)
    page.check("label:has-text('Only mistakes') input")
    has(page, "#episode .right img", 0)
    has(page, "#episode .wrong img", 75 - right)

    for width in (420, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        for tab in TABS:
            open_tab(page, tab)
            for colours in ("dark", "light"):
                page.emulate_media(color_scheme=colours)
                page.wait_for_function(FITS, arg=[width, colours == "dark"])
                if folder := os.environ.get("SCREENSHOTS"):
                    name = f"{tab.replace(' ', '-')}-{width}-{colours}.png"
                    page.screenshot(path=f"{folder}/{name}", full_page=True)


def test_gradio_s_own_upload_is_limited_and_stays_in_the_temporary_folder(served):
    import httpx

    upload_to = f"{served.address}gradio_api/upload"
    assert httpx.post(upload_to, files={"files": ("a.png", bytes(2_000_000))}).status_code == 413
    (path,) = httpx.post(upload_to, files={"files": ("../../a.png", b"x")}).json()
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert Path(path).is_relative_to(folder) and folder.is_relative_to(tempfile.gettempdir())
    shutil.rmtree(Path(path).parent)
