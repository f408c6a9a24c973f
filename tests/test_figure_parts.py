"""Parts of pictures: places and fonts of names, colours, and the choice of what is shown."""

import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import figure_records
import numpy as np
import pytest
from record_factory import make_record

from bench.evaluation.answers import ContractError
from bench.records import store
from bench.reporting.figures import Picture, checkpoint_figures, novel, scatter, style
from bench.reporting.figures.picture import Palette, spread
from bench.reporting.figures.rows import Section, sections
from bench.reporting.figures.trained import Trained
from bench.sampling.episodes import ClassPool
from bench.statistics import Interval

pytestmark = pytest.mark.slow


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
    from matplotlib.font_manager import FontEntry, fontManager

    damaged = FontEntry(fname=str(tmp_path / "damaged.ttf"), name="", weight=400)
    (tmp_path / "damaged.ttf").write_bytes(b"nothing")
    monkeypatch.setattr(fontManager, "ttflist", [damaged, *fontManager.ttflist])
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
def test_colours_are_distinguished_with_any_colour_vision(theme):
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


def test_the_pareto_front():
    rng = np.random.default_rng(0)
    points = [
        (str(i), float(t), Interval(float(a), 0.0, 1.0, 9))
        for i, (t, a) in enumerate(zip(rng.integers(1, 20, 40), rng.integers(1, 20, 40) / 20, strict=True))
    ]
    front = {(seconds, own.value) for _, seconds, own in scatter.pareto_front(points)}
    unbeaten = {
        (t, a.value)
        for _, t, a in points
        if not any(u <= t and b.value >= a.value and (u, b.value) != (t, a.value) for _, u, b in points)
    }
    assert front == unbeaten


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


def row(**changes) -> SimpleNamespace:
    return SimpleNamespace(first=make_record(**changes), records=[make_record(**changes)], intervals={})


def test_rows_of_one_name_are_numbered():
    """As records of one configuration on other versions of a backbone have one."""
    table = SimpleNamespace(rows=[row(), row(), row(method="reptile")], track="some")
    found = [one.label for one in Section([table], Path()).rows]
    assert found == ["protonet (quick)", "protonet (quick) #2", "reptile (quick)"]


def test_sections_of_one_title_name_their_images(tmp_path):
    """Their pictures are other files."""
    for number, fingerprint in enumerate(("ab" * 32, "cd" * 32)):
        figure_records.write(tmp_path, seed=number, fingerprint=fingerprint)
    titles = [section.title for section in sections(store.read_all(tmp_path)[0], tmp_path)]
    assert titles == [f"cifar100 90-10 {start} protocol 1" for start in ("abababab", "cdcdcdcd")]


def test_no_two_pictures_are_the_same_file(tmp_path):
    for number, dataset in enumerate(("folder:a b", "folder:a-b")):
        figure_records.write(tmp_path, seed=number, dataset=dataset, fingerprint=f"{number}" * 64)
    names = [item.name for item in figure_records.everything(tmp_path) if isinstance(item, Picture)]
    assert {"folder-a-b-90-10-shots", "folder-a-b-90-10-shots-2"} <= set(names)
    assert len(names) == len(set(names))


def test_what_a_model_cannot_draw_is_said(tmp_path, monkeypatch):
    """One novel class; embeddings that are not finite; and no model that generates features."""

    def not_finite(chosen):
        raise ContractError("embed returned NaN or infinite values")

    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "model.safetensors").touch()
    generating = row(run_id="generating", hyperparameters={"test_generated": 5})
    table = SimpleNamespace(rows=[row(run_id="plain"), generating], track="some")
    trained = SimpleNamespace(
        pool=ClassPool(np.zeros(20, np.int64)),
        names=["a"],
        record=make_record(),
        embeddings=not_finite,
        predictor=SimpleNamespace(method=SimpleNamespace(transductive=False, fixed_embedding=True)),
    )
    trained.episodes = partial(Trained.episodes, trained)
    monkeypatch.setattr(checkpoint_figures, "Trained", lambda *_: trained)
    gaps = checkpoint_figures.pictures(Section([table], tmp_path), tmp_path, None)
    assert [gap.why for gap in gaps] == [
        "embed returned NaN or infinite values",
        "there are fewer than 2 novel classes",
        "there are fewer than 2 novel classes",
        "needs a model that generates features in the folder --runs",
    ]
