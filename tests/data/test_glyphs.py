import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bench.data import glyphs, letters
from bench.data.glyph_characters import (
    CHARACTERS,
    CLOSE,
    CURVE,
    DIGIT_TYPEFACES,
    GLYPH_SIZE,
    MOVE,
    SIZE,
    TYPEFACES,
    Masks,
    load_masks,
    scan_convert,
)

LINE = 2
NAMES = [name for chars in CHARACTERS.values() for name in chars]
CHARS = [char for chars in CHARACTERS.values() for char in chars.values()]


@pytest.fixture(scope="module")
def masks() -> Masks:
    return load_masks()


@pytest.fixture(scope="module")
def zhe(masks: Masks) -> np.ndarray:
    return glyphs.draw_class("ж", masks)


def test_twenty_superclasses_of_five_different_characters() -> None:
    assert [len(chars) for chars in CHARACTERS.values()] == [5] * 20
    assert len(set(NAMES)) == len(set(CHARS)) == 100
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in [*NAMES, *CHARACTERS])


@pytest.mark.slow
def test_at_least_four_typefaces_hold_each_character(masks: Masks) -> None:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    held = [set(FT2Font(str(folder / face)).get_charmap()) for face in TYPEFACES]
    for char in CHARS:
        faces = sum(ord(char) in face for face in held)
        assert faces >= 4
        assert len(masks.of[char]) == faces + len(DIGIT_TYPEFACES) * char.isdigit()


def test_every_mask_is_inked_inside_an_empty_margin(masks: Masks) -> None:
    margin = (SIZE - GLYPH_SIZE) // 2
    outside = np.pad(np.zeros((GLYPH_SIZE, GLYPH_SIZE), dtype=bool), margin, constant_values=True)
    assert masks.pixels.dtype == np.float32
    assert masks.pixels[:, outside].max() == 0
    assert masks.pixels.max() == 1
    assert masks.pixels.mean(axis=(1, 2)).min() > 0.02


def square(low: float, high: float, clockwise: bool) -> tuple[list[list[float]], list[int]]:
    corners = [[low, low], [high, low], [high, high], [low, high]]
    corners = corners[::-1] if clockwise else corners
    return [*corners, corners[0]], [MOVE, LINE, LINE, LINE, CLOSE]


@pytest.mark.parametrize(("clockwise", "hole"), [(True, 1), (False, 0)])
def test_scan_conversion_fills_by_the_non_zero_winding_rule(clockwise: bool, hole: int) -> None:
    outer, inner = square(0, 4, clockwise=False), square(1, 3, clockwise)
    mask = scan_convert(np.array(outer[0] + inner[0], dtype=float), np.array(outer[1] + inner[1]))
    assert mask.sum() == GLYPH_SIZE**2 - hole * (GLYPH_SIZE / 2) ** 2
    assert mask[SIZE // 2, SIZE // 2] == 1 - hole


def test_scan_conversion_follows_curves_and_keeps_the_top_on_top() -> None:
    # The lower edge bulges downwards: a parabola through (0, 0), (2, -2), (4, 0) under a 4 x 4 square.
    vertices = np.array([[0, 4], [0, 0], [2, -4], [4, 0], [4, 4], [0, 4]], dtype=float)
    mask = scan_convert(vertices, np.array([MOVE, LINE, CURVE, CURVE, LINE, CLOSE]))
    unit = GLYPH_SIZE / 6
    assert mask.sum() / unit**2 == pytest.approx(16 + 2 / 3 * 4 * 2, rel=0.02)
    assert mask[: SIZE // 2].sum() > mask[SIZE // 2 :].sum()


@pytest.mark.slow
def test_a_class_is_the_same_every_time_and_with_any_number_of_threads(masks: Masks, zhe: np.ndarray) -> None:
    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(lambda char: glyphs.draw_class(char, masks), "5ж5ж"))
    np.testing.assert_array_equal(drawn[1], zhe)
    np.testing.assert_array_equal(drawn[3], zhe)
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_pixels_have_not_changed_without_a_new_version(zhe: np.ndarray) -> None:
    # After a change that is meant, raise GLYPHS_VERSION and put the new digest here.
    assert (glyphs.GLYPHS_VERSION, hashlib.sha256(zhe.tobytes()).hexdigest()[:16]) == (1, "5f2cb829cd52b3cc")


def test_images_of_a_class_all_differ_and_none_is_blank(zhe: np.ndarray) -> None:
    assert zhe.shape == (600, 3, 32, 32)
    assert zhe.dtype == np.uint8
    assert len({image.tobytes() for image in zhe}) == 600
    assert zhe.std(axis=(2, 3)).max(axis=1).min() > 5


@pytest.mark.parametrize("char", ["ж", "♞", "⊖", "\N{ARABIC LETTER JEEM}", "√"])
def test_characters_stand_out_from_what_surrounds_them(masks: Masks, char: str) -> None:
    rng = np.random.default_rng(3)
    ink = glyphs.draw_ink(char, masks, rng)
    images = glyphs.paint(ink, masks, rng).astype(np.float64)
    inked = (ink - ink.mean(axis=(1, 2), keepdims=True))[:, None]
    colour = images - images.mean(axis=(2, 3), keepdims=True)
    norms = np.sqrt((inked**2).sum(axis=(2, 3)) * (colour**2).sum(axis=(2, 3)))
    correlation = np.abs((inked * colour).sum(axis=(2, 3)) / norms).max(axis=1)
    assert np.median(correlation) > 0.5
    assert np.mean(correlation > 0.25) > 0.85


@pytest.mark.slow
def test_generate_builds_a_set_of_cifar_100s_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "IMAGES_PER_CLASS", 6)
    monkeypatch.setattr(glyphs, "HELD_OUT_PER_CLASS", 1)
    monkeypatch.setattr(glyphs, "BATCH", 3)
    calls: list[tuple[int, int]] = []
    built = glyphs.generate(lambda done, total: calls.append((done, total)))
    assert calls == [(done, 100) for done in range(1, 101)]
    assert (built.name, built.images.shape) == ("glyphs", (600, 3, 32, 32))
    assert built.class_names == tuple(sorted(NAMES))
    assert built.labels.bincount().tolist() == [6] * 100
    assert built.labels[built.held_out].tolist() == list(range(100))
    families = {name: family for family, chars in CHARACTERS.items() for name in chars}
    assert built.superclass == tuple(families[name] for name in built.class_names)
    again = glyphs.generate()
    assert again.fingerprint == built.fingerprint


def test_an_alphabetical_split_leaves_many_families_on_either_side() -> None:
    families = {name: family for family, chars in CHARACTERS.items() for name in chars}
    names = sorted(NAMES)
    assert len({families[name] for name in names[:10]}) >= 5
    assert len({families[name] for name in names[-10:]}) >= 5


@pytest.fixture(scope="module")
def drawn() -> tuple[Masks, np.ndarray]:
    masks = load_masks("4RД")
    return masks, np.stack([letters.draw_class(char, masks) for char in "4RД"])


def test_letters_are_the_same_every_time_and_all_differ(drawn: tuple[Masks, np.ndarray]) -> None:
    masks, images = drawn
    assert (letters.draw_class("R", masks) == images[1]).all()
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest[:16] == "d4329ad15a989b06", "raise LETTERS_VERSION"
    assert len(np.unique(images.reshape(3 * letters.IMAGES_PER_CLASS, -1), axis=0)) == 300


def test_letters_are_dark_on_a_light_ground_and_near_the_middle(drawn: tuple[Masks, np.ndarray]) -> None:
    images = drawn[1][:, :, 0].reshape(-1, SIZE, SIZE)
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert (np.median(border, axis=1) == 255).all() and images.min(axis=(1, 2)).max() < 130
    ink = 255 - images.astype(float)
    centre = ink.sum(axis=1) @ np.arange(SIZE) / ink.sum(axis=(1, 2))
    assert np.abs(centre - (SIZE - 1) / 2).max() < 5


def test_letters_builds_a_set_of_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "CHARACTERS", "4RД")
    data, seen = letters.generate(), []
    letters.generate(lambda *step: seen.append(step))
    assert data.images.shape == (300, 3, SIZE, SIZE) and seen == [(1, 3), (2, 3), (3, 3)]
    assert sorted(data.class_names) == ["de letter capital cyrillic", "four digit", "r letter capital latin"]
    assert sum(data.held_out.tolist()) == 3 * letters.HELD_OUT_PER_CLASS


def test_letters_are_491_without_known_twins() -> None:
    assert len(set(letters.CHARACTERS)) == len(letters.CHARACTERS) == 491
    assert len({letters.class_name(char) for char in letters.CHARACTERS}) == 491
    assert not {"Α", "А", "o", "c"} & set(letters.CHARACTERS), "as A, O and C"
