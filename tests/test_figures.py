"""Pictures: what they show, how they look, and what becomes of records that lack something."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import figure_records
import numpy as np
import pytest
from command_line import bench, complaint, write_images
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from record_factory import ON_GPU, make_record

from bench.records import store
from bench.records.arrays import pairs
from bench.records.identity import name_of
from bench.reporting.figures import (
    Gap,
    Options,
    Picture,
    checkpoint_figures,
    collect,
    novel,
    per_class,
    scatter,
    style,
)
from bench.reporting.figures.collect import drawn
from bench.reporting.figures.picture import Palette, spread
from bench.reporting.figures.rows import sections
from bench.run.materials import BRIEF_IMAGES
from bench.statistics import Interval

pytestmark = pytest.mark.slow
METHODS = ("protonet", "siamese_triplet", "<script>alert(1)</script>", "**x** | y")
UNIT = re.compile(r"\(.+\)")


def everything(directory: Path, runs: str = "no runs") -> list[Picture | Gap]:
    found, problems = store.read_all(directory)
    assert problems == []
    return collect(sections(found, directory), Options(directory, directory / runs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four methods at 90-10, two at 50-50, and three seeds of one."""
    directory = tmp_path_factory.mktemp("results")
    for number, method in enumerate(METHODS):
        seeds = range(3) if method == "siamese_triplet" else range(1)
        for seed in seeds:
            figure_records.write(directory, 90, 0.5 + 0.05 * number, method=method, seed=seed)
    for number, method in enumerate(METHODS[:2]):
        figure_records.write(directory, 50, 0.45 + 0.05 * number, method=method)
    return directory


@pytest.fixture(scope="module")
def found(folder) -> dict[str, Picture]:
    """Pictures by name."""
    return {item.name: item for item in everything(folder) if isinstance(item, Picture)}


def test_everything_is_drawn_that_records_alone_can_tell(folder, found):
    names = ["shots", "generalized-90+10", "training-time", "validation", "roc", "per-class"]
    assert set(found) == {
        "cifar100-splits",
        *(f"cifar100-90-10-{name}" for name in names),
        *(f"cifar100-50-50-{name}" for name in names if "+" not in name),
    }
    gaps = [item for item in everything(folder) if isinstance(item, Gap)]
    assert {gap.section for gap in gaps} == {"cifar100 90-10", "cifar100 50-50"}
    assert all("model" in gap.why for gap in gaps)


def test_every_axis_has_its_unit_and_every_picture_says_what_it_shows(found):
    for picture in found.values():
        assert picture.title and picture.caption and picture.alt
        with drawn(picture) as figure:
            shared = [figure.get_supxlabel(), figure.get_supylabel()]
            for axes in figure.axes:
                for own, common in zip((axes.get_xlabel(), axes.get_ylabel()), shared, strict=True):
                    label = own or common or next(a.get_xlabel() for a in reversed(figure.axes))
                    assert UNIT.search(label), (picture.name, label)
            assert figure.get_size_inches()[0] == style.WIDTH


def test_pictures_are_the_same_bytes_every_time(found):
    for name in ("cifar100-90-10-roc", "cifar100-splits"):
        made = []
        for _ in range(2):
            with drawn(found[name]) as figure:
                made.append((style.svg(figure), style.png(figure), style.inline_svg(figure, "p")))
        assert made[0] == made[1]
        assert not re.search(r"<dc:date>|\b20\d\d-\d\d-\d\d", made[0][0])


def test_a_page_s_svg_takes_the_page_s_colours_and_shares_no_id(found):
    seen: Counter[str] = Counter()
    for number, name in enumerate(("cifar100-90-10-validation", "cifar100-90-10-roc")):
        with drawn(found[name]) as figure:
            text = style.inline_svg(figure, f"p{number}")
        root = ET.fromstring(text)
        assert "width" not in root.attrib and root.attrib["viewBox"]
        own = re.findall(r'\bid="([^"]+)"', text)
        used = {match.strip("#)") for match in re.findall(r"#p\d-[^\")]+", text)}
        assert used == set(own)
        seen.update(own)
        assert "var(--ink)" in text and "var(--series-0)" in text
        assert not re.search(r"#[0-9a-f]{6}\b", text)
        assert "<style" not in text and "<!--" not in text
    assert max(seen.values()) == 1


def test_lines_pass_through_the_records_numbers_and_have_their_names(found):
    with drawn(found["cifar100-90-10-shots"]) as figure:
        (axes,) = figure.axes
        lines = [container.lines[0].get_data(orig=False) for container in axes.containers]
        names = {text.get_text().replace("\n", " "): text for text in axes.texts}
    best = ["**x** | y", "<script>alert(1)</script>", "siamese_triplet", "protonet"]
    assert set(names) == {f"{name} (quick)" for name in best}
    for accuracy, (x, y) in zip((65, 60, None, 50), lines, strict=True):
        np.testing.assert_allclose(x, [1, 5], atol=0.5)
        if accuracy:  # the other one has several seeds
            np.testing.assert_allclose(y, [accuracy, accuracy + 10])
    ends = {name: text.xy for name, text in names.items()}
    assert ends["protonet (quick)"] == pytest.approx((lines[3][0][1], 60))


def test_bars_are_the_records_numbers_beside_the_published_ones(found):
    """The best of the two methods that are recorded on both splits, and the re-measured source."""
    picture = found["cifar100-splits"]
    assert "siamese_triplet (quick)" in picture.title and "re-measured" in picture.caption
    with drawn(picture) as figure:
        heights = {
            axes.get_title(loc="left"): [[bar.get_height() for bar in own] for own in axes.containers
                                         if hasattr(own, "patches")]
            for axes in figure.axes
        }  # fmt: skip
        diamonds = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "D"]
        assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["50-50", "90-10"]
    np.testing.assert_allclose(heights["triplets"], [[75], [80], [62], [67]])
    np.testing.assert_allclose(heights["5-way 1-shot"], [[50], [55]], atol=1)  # 3 seeds at 90-10
    np.testing.assert_allclose(diamonds[0], 86.44)
    assert len(diamonds) == 4


def test_of_many_methods_the_leading_ones_are_named_and_the_others_grey(tmp_path):
    for number in range(9):
        changed = {"overrides": {"steps": number, "distance": "cosine"}}
        figure_records.write(tmp_path, accuracy=0.4 + 0.03 * number, method=f"method{number}", config=changed)
    found = {item.name: item for item in everything(tmp_path) if isinstance(item, Picture)}
    leading = {f"method{n} (quick, distance=cosine, steps={n})" for n in range(2, 9)}
    for name in ("shots", "validation", "training-time", "roc"):
        picture = found[f"cifar100-90-10-{name}"]
        assert "7 leading methods are named; 2 others are grey" in picture.caption
        with drawn(picture) as figure:
            (axes,) = figure.axes
            texts = [*axes.texts, *(text for legend in figure.legends for text in legend.get_texts())]
            named = {text.get_text().replace("\n", " ").partition(", AUC")[0] for text in texts}
            assert named == leading
            grey = [line for line in axes.lines if line.get_color() == style.GREY.light]
            assert len(grey) >= 2
    with drawn(found["cifar100-90-10-generalized-90+10"]) as figure:
        assert len(figure.legends[0].get_texts()) == 7
    assert "best 7 of 9" in found["cifar100-90-10-generalized-90+10"].caption


def test_no_picture_has_more_than_eight_panels(found):
    for picture in found.values():
        with drawn(picture) as figure:
            assert len(figure.axes) <= 8, picture.name


def test_names_are_moved_apart_and_no_further_than_that():
    rng = np.random.default_rng(0)
    for _ in range(50):
        middles, heights = np.sort(rng.uniform(0, 10, 7)), rng.uniform(0.5, 2, 7)
        placed = np.array(spread(middles, heights))
        gaps = np.diff(placed) - (heights[1:] + heights[:-1]) / 2
        assert gaps.min() > -1e-9
        # Boxes that touch are a group, which lies where its members would have it on average.
        for group in np.split(np.arange(7), np.flatnonzero(gaps > 1e-9) + 1):
            assert placed[group].mean() == pytest.approx(middles[group].mean())


def test_names_are_shown_as_they_are_written(found, recwarn):
    with drawn(found["cifar100-90-10-per-class"]) as figure:
        style.png(figure)
        labels = [label.get_text().strip() for label in figure.axes[0].get_yticklabels()]
    assert labels[:5] == list(figure_records.HOSTILE[:5]) or labels[0] == "<script>alert(1)</scrip…"
    assert "$x_1^2$" in labels and "_hidden" in labels and "a?[2J?b" in labels
    assert not recwarn.list


def draws(letter: str, path: Path) -> str:
    """A font with one letter, a square; its name."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font, name = FontBuilder(1000), f"Square{ord(letter)}"
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return name


def test_names_in_any_script_take_a_font_that_has_their_letters(tmp_path, monkeypatch, capsys, recwarn):
    """U+13000 and U+12000, hieroglyph and cuneiform, stand for letters that the figures' font lacks."""
    from matplotlib.font_manager import fontManager

    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    style._families.cache_clear()
    name = draws("\U00013000", tmp_path / "square.ttf")
    fontManager.addfont(tmp_path / "square.ttf")
    for _ in range(2):
        figure, (axes,) = style.axes(2.0)
        axes.set_xticks([0, 1], ["\U00013000 cat", "\U00012000"])
        assert style.png(figure)
        assert name in axes.get_xticklabels()[0].get_fontfamily()
    said = capsys.readouterr().err
    assert said.count("no installed font has these letters of figures") == 1
    assert "\U00012000" in said and "\U00013000" not in said and not recwarn
    style._families.cache_clear()


def test_labels_are_one_line_and_not_too_long():
    assert style.plain("a\n b\t c") == "a b c"
    assert style.plain("") == "–"
    assert style.plain("x" * 99, 10) == "x" * 9 + "…"
    assert style.plain("_x").strip() == "_x" and not style.plain("_x").startswith("_")


def test_times_of_a_gpu_and_of_the_processor_are_two_pictures(tmp_path):
    figure_records.write(tmp_path, accuracy=0.6)
    figure_records.write(tmp_path, accuracy=0.7, method="reptile", environment=ON_GPU)
    pictures = {item.name: item for item in everything(tmp_path) if isinstance(item, Picture)}
    on_cpu, on_gpu = (pictures["cifar100-90-10-training-time" + name] for name in ("", "-gpu"))
    assert "protonet" in on_cpu.alt and "reptile" not in on_cpu.alt
    assert "reptile" in on_gpu.alt and "protonet" not in on_gpu.alt


def test_records_from_before_lack_pictures_and_break_none(tmp_path):
    store.write(make_record(), tmp_path)
    found = everything(tmp_path)
    drawn_names = {item.name for item in found if isinstance(item, Picture)}
    assert drawn_names == {"cifar100-90-10-" + n for n in ("shots", "training-time", "per-class")}
    missing = {item.title for item in found if isinstance(item, Gap)}
    assert {"ROC curves of pairs", "Base and novel classes from split to split"} <= missing


def test_a_damaged_file_costs_its_own_pictures_only(folder, tmp_path):
    for path in folder.glob("*-90-0.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = next(path for path in sorted(tmp_path.glob("*.npz")))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = everything(tmp_path)
    about = [item.why for item in found if isinstance(item, Gap) and damaged.stem in item.why]
    assert len(about) == 2 and "does not belong" in about[0]
    with drawn(next(p for p in found if isinstance(p, Picture) and p.name.endswith("roc"))) as figure:
        assert len(figure.legends[0].get_texts()) == len(METHODS) - 1


def test_pairs_are_drawn_again_from_the_pools(folder):
    record = next(r for r in store.read_all(folder)[0])
    found = pairs(record, folder)
    np.testing.assert_array_equal(found.same, found.scores > 0.5)
    assert found.same.sum() == figure_records.PAIRS / 2


def test_which_method_pays():
    rng = np.random.default_rng(0)
    points = [
        (str(i), float(t), Interval(float(a), 0.0, 1.0, 9))
        for i, (t, a) in enumerate(zip(rng.integers(1, 20, 40), rng.integers(1, 20, 40) / 20, strict=True))
    ]
    paying = {(seconds, own.value) for _, seconds, own in scatter.pays(points)}
    unbeaten = {
        (t, a.value)
        for _, t, a in points
        if not any(u <= t and b.value >= a.value and (u, b.value) != (t, a.value) for _, u, b in points)
    }
    assert paying == unbeaten


def test_hardest_and_easiest_classes(folder):
    section = next(s for s in sections(store.read_all(folder)[0], folder) if "50-50" in s.title)
    found = per_class.ranked(section)
    assert [name for name, _ in found.classes] == figure_records.CLASSES
    assert found.row.label == "siamese_triplet (quick)" and len(found.others[0]) == 1
    assert per_class.ends("abcdefg", 4) == ["a", "b", "f", "g"] and per_class.ends("abc", 4) == list("abc")


def test_the_most_confused_classes_stay_in_their_order():
    assert novel.most_confused(np.diag([0.9, 0.1, 0.5, 0.2]), 2).tolist() == [1, 3]


def test_the_typical_episode_is_the_first_nearest_to_the_mean():
    assert novel.typical(np.array([0.2, 0.5, 0.61, 0.59]), 0.6) == 2


def test_t_sne_keeps_far_apart_what_is_far_apart():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (30, 8)), rng.normal(40, 1, (30, 8))]).astype(np.float32)
    places = novel.t_sne(features)
    own = np.linalg.norm(places[:30] - places[:30].mean(axis=0), axis=1).max()
    assert np.linalg.norm(places[:30].mean(axis=0) - places[30:].mean(axis=0)) > 2 * own
    np.testing.assert_array_equal(novel.t_sne(np.ones((9, 3))), np.zeros((9, 2)))


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb.clip(1e-3, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


VISION = {  # rows of Machado, Oliveira and Fernandes 2009, severity 1
    "all colours": "1 0 0 / 0 1 0 / 0 0 1",
    "protanopia": "0.152286 1.052583 -0.204868 / 0.114503 0.786281 0.099216 / -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 / 0.280085 0.672501 0.047413 / -0.01182 0.04294 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 / -0.078411 0.930809 0.147602 / 0.004733 0.691367 0.3039",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_told_apart_whatever_the_eyes(theme):
    colours = [linear(getattr(colour, theme)) for colour in style.SERIES]
    for vision, rows in VISION.items():
        matrix = np.array([row.split() for row in rows.split("/")], dtype=float)
        seen = [lab(matrix @ colour) for colour in colours]
        for (i, a), (j, b) in itertools.combinations(enumerate(seen), 2):
            assert np.linalg.norm(a - b) > 10, (vision, i, j)
    weights = np.array([0.2126, 0.7152, 0.0722])
    paper = weights @ linear(getattr(style.PAPER, theme)) + 0.05
    for colour in (*colours, linear(getattr(style.GREY, theme))):
        own = weights @ colour + 0.05
        assert max(own, paper) / min(own, paper) > 2.8
    assert len(set(style.MARKERS)) == len(style.SERIES) == len(style.DASHES)


def test_a_row_has_the_same_colour_in_every_picture_as_far_as_colours_go():
    palette = Palette("abcdefghij")
    for rows in itertools.combinations("abcdefghij", 4):
        assert len(set(palette.numbers(rows).values())) == 4
    assert palette.numbers("ag")["g"] == palette.numbers("gb")["g"] == 6
    assert sorted(palette.numbers("abcdefg").values()) == list(range(7))


def test_files(tmp_path):
    figure_records.write(tmp_path / "results")
    answer = bench(
        "figures", "--results", tmp_path / "results", "--output", tmp_path / "out", "--runs", tmp_path
    )
    assert answer.code == 0, answer.err
    paths = [Path(line) for line in answer.out.splitlines()]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    captions = (tmp_path / "out/captions.txt").read_text(encoding="utf-8").splitlines()
    pictures = [path for path in paths if path.suffix != ".txt"]
    assert {path.suffix for path in pictures} == {".png", ".svg"}
    assert len(pictures) == 2 * len(captions) > 0
    assert sorted(line.split(": ")[0] for line in captions) == sorted({path.stem for path in pictures})
    for path in pictures:
        if path.suffix == ".png":
            assert Image.open(path).size[0] == style.WIDTH * style.PIXELS_PER_INCH
        else:
            ET.parse(path)
    assert "not drawn: cifar100 90-10: " in answer.err


def test_only_the_named_runs_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in ("protonet", "matching"):
        for base in (90, 50):
            figure_records.write(tmp_path / "results", base, 0.5, method=method)
    command = ["figures", "--results", tmp_path / "results", "--output", tmp_path / "out", "--runs", tmp_path]
    answer = bench(*command, "--method", "matching", "--split", "90-10")
    assert answer.code == 0, answer.err
    captions = (tmp_path / "out/captions.txt").read_text(encoding="utf-8")
    assert "matching" in captions and "protonet" not in captions and "50-50" not in captions
    said = complaint(*command, "--method", "matchin")
    assert said.startswith("--method matchin: has no records; did you mean matching?")
    assert "--split 10-90: has no records; " in complaint(*command, "--split", "10-90")
    assert "--run none: no such run in " in complaint(*command, "--run", "none")


def test_bad_input(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--results nowhere" in complaint("figures", "--results", "nowhere")
    Path("file").write_text("")
    assert "--output" in complaint("figures", "--results", folder, "--output", "file/figures")


def test_records_that_are_damaged_are_named(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    answer = bench("figures", "--results", tmp_path, "--output", tmp_path / "out")
    assert answer.code == 1 and "warning:" in answer.err and "bad.json" in answer.err


def test_torch_is_not_imported_for_records_alone():
    code = "import bench.reporting.figures, bench.reporting.report, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder with a run: its record, called one of `quick`, its model and its data."""
    place = tmp_path_factory.mktemp("run")
    write_images(place / "images", classes=16, each=24)
    parts = ["base"] * 5 + ["validation"] * 5 + ["novel"] * 6
    lines = [f"class{number},{part}" for number, part in enumerate(parts)]
    (place / "split.csv").write_text("\n".join(["class,part", *lines]))
    answer = bench(
        "run", "--method", "protonet_hallucination", "--preset", "smoke", "--steps", 2, "--precision", "fp32",
        "--dataset", f"folder:{place / 'images'}", "--split", place / "split.csv",
        "--results", place / "results", "--runs", place / "runs", "--device", "cpu",
        "--way", 5, "--shot", 1, "--query", 15, "--episodes", 40,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (path,) = (place / "results").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preset": "quick"}))
    return place


def test_pictures_of_a_trained_method(ran):
    found = everything(ran / "results", "../runs")
    made = {re.sub(r".*csv@[0-9a-f]+-", "", item.name): item for item in found if isinstance(item, Picture)}
    assert {"per-class", "embeddings", "confusions", "episode", "generated"} <= set(made)
    (record,), _ = store.read_all(ran / "results")
    model = f"{name_of(record)}, seed 0, 5w1s accuracy {100 * record.metrics['fewshot/5w1s'].value:.1f}%"
    assert "protonet_hallucination (quick, from scratch, steps=2)" in model
    for name in ("embeddings", "confusions", "episode", "generated", "per-class"):
        assert made[name].title.endswith(f": {model}")
    with drawn(made["per-class"]) as figure:  # three images of each of the six classes
        assert len(figure.findobj(AnnotationBbox)) == 3 * 6
    with drawn(made["generated"]) as figure:
        (axes,) = figure.axes
        sizes = [len(points.get_offsets()) for points in axes.collections]
    assert sizes == [15, 10, 1] * 5  # queries, generated features and support of each class
    with drawn(made["episode"]) as figure:
        assert len(figure.axes[0].images) == 5 * (1 + checkpoint_figures.SHOWN_QUERIES)
    with drawn(made["embeddings"]) as figure:
        assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 6 * BRIEF_IMAGES


def test_a_trained_method_answers_as_it_did_in_its_run(ran):
    from bench.reporting.figures.trained import Trained
    from bench.sampling.episodes import Setting

    (record,), _ = store.read_all(ran / "results")
    trained = Trained(record, ran / "runs", None)
    episodes = trained.episodes(Setting(5, 1, 15, 40))
    assert episodes.sha256() == record.episodes["5w1s"].sha256
    right = trained.answers(episodes) == episodes.labels
    with np.load(ran / "results" / record.episode_file) as file:
        np.testing.assert_allclose(right.sum(axis=1), file["5w1s"], atol=1)
    pixels = trained.pixels(episodes.support)
    assert pixels.shape == (40, 5, 1, 32, 32, 3) and pixels.dtype == np.uint8


def test_methods_that_learn_in_each_episode_answer_the_same_queries(tiny, tiny_split):
    import torch
    from torch import nn

    from bench.data.normalisation import Normaliser
    from bench.evaluation import adapted
    from bench.reporting.figures.trained import Trained
    from bench.run.models import Model
    from bench.sampling.episodes import ClassPool, Setting, draw
    from bench.serving.predictor import Predictor
    from methods.method import Method

    class Learner(Method):
        fixed_embedding = False

        def adapt(self, support):
            means = support.flatten(3).mean(dim=2)
            return lambda query: -torch.cdist(query.flatten(2), means)

    pool = ClassPool(tiny.labels[tiny_split.novel_images].numpy())
    episodes = draw(pool, "some", Setting(4, 2, 5, 6))
    normalise = Normaliser(tiny.images, tiny_split.train)
    trained = Trained.__new__(Trained)
    method, card = Learner(nn.Identity(), None, 8).eval(), SimpleNamespace(precision="32-true")
    trained.predictor = Predictor(Model(method, normalise, card), Path(), "cpu")
    trained.data, trained.split = tiny, tiny_split
    right = trained.answers(episodes) == episodes.labels
    where = tiny.images, tiny_split.novel_images, normalise, "32-true"
    expected = adapted.evaluate(method, *where, pool, episodes)
    np.testing.assert_array_equal(right.sum(axis=1), expected.hits.sum(axis=1))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("weights", "not the weights of model.json"),
        ("another model", "not the model of this record"),
        ("images", "must have the images of the record"),
        ("configuration", "has a configuration of another version"),
    ],
)
def test_what_is_not_the_record_s_own_is_not_drawn(ran, tmp_path, damage, why):
    (path,) = (ran / "results").glob("*.json")
    record = json.loads(path.read_text())
    if damage == "images":
        record |= {"fingerprint": "0" * 64, "episode_file": None, "episode_file_sha256": None}
    elif damage == "configuration":
        record["config"]["speed"] = 5
    elif damage == "another model":
        record["model"] = "0" * 64
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / path.name).write_text(json.dumps(record))
    kept = tmp_path / "runs" / record["run_id"]
    shutil.copytree(ran / "runs" / record["run_id"], kept)
    if damage == "weights":
        (kept / "model.safetensors").write_bytes(b"nothing")
    gaps = {
        item.title: item.why for item in everything(tmp_path / "results", "../runs") if isinstance(item, Gap)
    }
    for title in (
        checkpoint_figures.TSNE,
        checkpoint_figures.CONFUSIONS,
        checkpoint_figures.EPISODE,
        checkpoint_figures.GENERATED,
    ):
        assert why in gaps[title]
