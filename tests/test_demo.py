"""The page of `demo`: its answers, what it refuses, and, in Chromium, that a visitor can use it."""

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from command_line import complaint
from PIL import Image, ImageDraw, ImageOps

from bench.demo import pictures
from bench.demo.server import serving
from bench.serving.shipped import DRAWINGS, PICTURES, SHIPPED, shipped

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
SIDE = pictures.SIDE
RING = [(140 + 80 * math.cos(a), 140 + 80 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40)]
CROSS = ([(60, 60), (220, 220)], [(220, 60), (60, 220)])


def drawing(*lines, at=(0, 0), width=18) -> np.ndarray:
    """Black lines on white, as the canvas draws them."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    for line in lines:
        moved = [(x + at[0], y + at[1]) for x, y in line]
        ImageDraw.Draw(image).line(moved, "black", width, joint="curve")
    return np.asarray(image)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from bench.demo.page import Page

    return Page(shipped(DRAWINGS), ROOT / "results", tmp_path_factory.mktemp("runs"), None)


@pytest.mark.parametrize(("data", "pairs"), [(DRAWINGS, 0.9), (PICTURES, 0.6)])
def test_a_shipped_model_is_small_and_its_record_is_committed(data, pairs):
    record = shipped(data).record
    files = {path.name: path for path in (SHIPPED / record.run_id).iterdir()}
    assert set(files) == {"model.safetensors", "model.json", "calibration.json"}
    assert files["model.safetensors"].stat().st_size < 1_000_000
    committed = ROOT / "results" / f"{record.run_id}.json"
    assert committed.read_bytes() == (SHIPPED / committed.name).read_bytes()
    assert json.loads(files["model.json"].read_text())["weights_sha256"] == record.model
    assert record.dataset == data and not record.environment.git_dirty
    assert record.metrics["novel/pair_accuracy"].low > pairs


@pytest.mark.slow
def test_the_shipped_model_compares_handwritten_digits(page):
    """Digits that people wrote (UCI); the model was trained on type."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.concatenate([np.flatnonzero(digits.target == digit)[:40] for digit in range(10)])
    drawn = [Image.fromarray(255 - (pixels * 15.9).astype(np.uint8)) for pixels in digits.images[chosen]]
    canvases = [ImageOps.expand(one.resize((200, 200)).convert("RGB"), 40, "white") for one in drawn]
    model, labels = page.model(), digits.target[chosen]
    made = model.embed(
        [pictures.fit(np.asarray(one), model.size, 240).transpose(1, 2, 0) for one in canvases]
    )
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    said = (made @ made.T).numpy()[first, second] >= model.threshold
    assert said[same].mean() > 0.7 and (~said[~same]).mean() > 0.85


@pytest.mark.slow
def test_it_distinguishes_drawings(page):
    ring, other, cross = map(pictures.encode, (drawing(RING), drawing(RING, at=(20, -30)), drawing(*CROSS)))
    assert "<strong>Same</strong>" in page.compare(ring, other)
    assert "<strong>Different</strong>" in page.compare(ring, cross)
    assert "Cannot be compared" in page.compare(ring, ring[:-40])
    classes = page.add((), cross, " a  cross ")[0]
    classes, url, name, _ = page.add(classes, ring, "")
    assert [name for name, _ in classes] == ["a cross", "class 2"] and (url, name) == ("", "")
    probabilities, _ = page.classify(classes, other)
    assert probabilities["class 2"] > 0.5 and sum(probabilities.values()) == pytest.approx(1)
    assert page.add(classes, "", "x")[0] == classes and page.classify(classes[:1], ring) == (None, "")


@pytest.mark.parametrize(
    ("score", "threshold", "shown"),
    [
        (0.85, 0.646, ("0.850", "0.646")),
        (0.6499, 0.65, ("0.6499", "0.6500")),
        (0.649997, 0.650004, ("0.649997", "0.650004")),
        (0.65, 0.65, ("0.650", "0.650")),
    ],
)
def test_the_similarity_can_be_told_from_the_threshold(score, threshold, shown):
    pytest.importorskip("gradio")
    from bench.demo.page import distinct

    assert distinct(score, threshold) == shown


def test_the_page_is_made_before_torch_is_imported():
    """Torch and Lightning take seconds, in which the page can be open already."""
    pytest.importorskip("gradio")
    code = """if True:
        import sys
        from pathlib import Path
        from bench.demo.page import Page
        from bench.demo.runs import chosen
        folder = Path("results")
        Page(chosen(None, folder, folder), folder, folder, None).blocks()
        assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_there_are_not_too_many_classes(page):
    classes = ()
    for number in range(13):
        classes, *_, listed = page.add(classes, pictures.encode(drawing(RING)), f"<{number}>")
    assert len(classes) == 10 and "At most 10 classes" in listed and "&lt;9&gt;" in listed


def test_place_and_size_of_a_drawing_do_not_matter():
    small, large = (drawing([(100, 100), (100, 100 + s), (100 + s, 100)], width=s // 8) for s in (60, 120))
    fitted = [pictures.fit(pixels, 32).astype(float) for pixels in (small, large)]
    assert np.abs(fitted[0] - fitted[1]).mean() < 10
    assert np.abs(np.argwhere(fitted[0][0] < 128).mean(axis=0) - 15.5).max() < 4


def test_a_drawing_has_the_ground_of_the_images_that_the_model_knows():
    black_on_white = drawing(RING)
    corners = {level: pictures.fit(black_on_white, 28, level)[0, 0, 0] for level in (33, 128, 235)}
    assert corners == {33: 0, 128: 255, 235: 255}  # MNIST's, glyphs', Omniglot's
    assert pictures.fit(255 - black_on_white, 28, 235)[0, 0, 0] == 255


def test_a_photograph_is_not_cropped():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = Image.fromarray(photo).resize((32, 32), Image.Resampling.BILINEAR)
    assert (pictures.fit(photo, 32) == np.asarray(expected).transpose(2, 0, 1)).all()
    blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
    assert (pictures.fit(blank, 32) == 255).all()


def png(size: tuple[int, int], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind)
    return buffer.getvalue()


def url(content: bytes) -> str:
    import base64

    return pictures.PREFIX + base64.b64encode(content).decode()


def test_the_canvas_comes_back():
    pixels = drawing(RING)
    assert (pictures.decode(pictures.encode(pixels)) == pixels).all()


@pytest.mark.parametrize(
    "sent",
    [
        None, 3, "", {"path": "/etc/passwd"}, "file:///etc/passwd", pictures.PREFIX, pictures.PREFIX + "%%%",
        url(png((SIDE, SIDE))[:60]), url(b"\x89PNG\r\n\x1a\n" + bytes(100)), url(png((SIDE, SIDE), "JPEG")),
        url(png((SIDE + 1, SIDE))), url(png((6000, 6000))), pictures.PREFIX + "A" * pictures.LONGEST,
    ],
)  # fmt: skip
def test_what_is_not_a_canvas_is_refused(sent):
    with pytest.raises(pictures.NotAPicture):
        pictures.decode(sent)


def test_bad_flags_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing else writes there
    assert "--port 80: must be 1024 to 65535" in complaint("demo", "--port", 80)
    assert "no such folder" in complaint("demo", "--run", "x", "--results", tmp_path / "none")


# In a browser.


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    results = tmp_path_factory.mktemp("results")  # of two records: the page is made for each visitor
    for path in (ROOT / "results").glob("*_90-10_quick_s0_*"):
        if path.name.startswith(("siamese-triplet_cifar100", "nearest-centroid_cifar100")):
            shutil.copy(path, results)
    with serving(None, results, tmp_path_factory.mktemp("runs"), None, None, False) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(address):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Opens the page as a new visitor; at the end: no request to other hosts, no error on the console."""
    opened, problems, requests = [], [], []

    def open_page(**options):
        context = chromium.new_context(**options)
        page = context.new_page()
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("#first canvas")
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert problems == []
    assert [one for one in requests if not one.startswith((address, "data:", "blob:"))] == []


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


@pytest.mark.slow
def test_two_drawings_are_compared(visit):
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


@pytest.mark.slow
def test_pictures_are_uploaded(visit):
    page = visit()
    buffer = io.BytesIO()
    Image.fromarray(drawing(RING)).resize((400, 300)).save(buffer, "PNG")
    upload(page, "#first", "ring.png", buffer.getvalue())
    says(page, "#first", "ring.png")
    draw(page, "#second", RING)
    says(page, "#same", "Similarity")
    upload(page, "#first", "broken.png", png((50, 50))[:40])
    says(page, "#first", "damaged")
    upload(page, "#first", "notes.txt", b"hello", "text/plain")
    says(page, "#first", "Not a PNG")
    upload(page, "#first", "large.png", bytes(11_000_000))
    says(page, "#first", "at most 10 MB")
    says(page, "#same", "Similarity")  # the picture before is still there


@pytest.mark.slow
def test_classes_of_ones_own(visit):
    page = visit()
    open_tab(page, "Your own classes")
    for name, lines in (("ring", (RING,)), ("cross", CROSS)):
        draw(page, "#example", *lines)
        page.fill("#name textarea, #name input", name)
        page.click("text=Add class")
        says(page, "#support", name)
    draw(page, "#query", RING)
    says(page, "#answer", "ring")
    assert page.inner_text("#answer").split("\n")[1].strip() == "ring" or "ring" in page.inner_text(
        "#answer h2"
    )
    other = visit()
    open_tab(other, "Your own classes")
    says(other, "#support", "at least two classes")
    assert other.locator("#support img").count() == 0  # another visitor's pictures are not here
    page.click("text=Remove all")
    says(page, "#support", "at least two classes")


@pytest.mark.slow
def test_the_keyboard_is_enough(visit):
    page = visit()
    for pad in ("#first", "#second"):
        page.focus(f"{pad} canvas")
        page.keyboard.press("Space")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            for _ in range(8):
                page.keyboard.press(key)
        page.keyboard.press("Space")
    says(page, "#same", "Same")
    page.keyboard.press("Delete")
    says(page, "#same", "Waiting")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Undo"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "colours"), [(420, "dark"), (1200, "light")])
def test_it_fits_the_window(visit, width, colours, tmp_path):
    page = visit(viewport={"width": width, "height": 900}, color_scheme=colours)
    draw(page, "#first", RING)
    draw(page, "#second", *CROSS)
    says(page, "#same", "Different")
    for tab in ("Same or different", "Your own classes", "Leaderboard"):
        open_tab(page, tab)
        page.wait_for_timeout(1500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{tab.replace(' ', '-')}-{width}-{colours}.png", full_page=True)


@pytest.mark.slow
def test_gradio_s_own_upload_is_limited_and_stays_in_the_temporary_folder(visit, address):
    import httpx

    large = httpx.post(f"{address}gradio_api/upload", files={"files": ("a.png", bytes(2_000_000))})
    assert large.status_code == 413
    small = httpx.post(f"{address}gradio_api/upload", files={"files": ("../../a.png", b"x")})
    (path,) = small.json()
    assert Path(path).is_relative_to(os.environ["GRADIO_TEMP_DIR"])
    assert os.environ["GRADIO_TEMP_DIR"].startswith(tempfile.gettempdir())


@pytest.mark.slow
def test_the_leaderboard_and_episodes_are_shown(visit):
    page = visit()
    open_tab(page, "Leaderboard")
    says(page, "#board", "siamese_triplet")
    open_tab(page, "Episodes")
    page.click("button:has-text('Show')")
    page.wait_for_selector("#episode .right img", timeout=300_000)  # draws the data set, if it is not cached
    count = page.locator("#episode .wrong img").count()
    assert count + page.locator("#episode .right img").count() == 75
    page.check("label:has-text('Only mistakes') input")
    page.wait_for_selector("#episode .right", state="detached")
    assert page.locator("#episode .wrong img").count() == count
