"""The characters of the `glyphs` data set, and their shapes in all typefaces that have them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

SIZE = 32  # pixels, of an image and of a mask
GLYPH_SIZE = 24  # pixels, the longer side of a glyph inside its mask
OVERSAMPLING = 4  # samples per pixel and axis when an outline is scan-converted
CURVE_EDGES = 6  # straight edges per curve
MOVE, CURVE, CLOSE = 1, 3, 79  # matplotlib's path codes; all others are lines

# File names in matplotlib's `fonts/ttf`, listed so that faces added by later releases change nothing. Not
# used: faces with only brackets (STIXSiz*, *Display), private code points (STIXNonUni*), TeX's code tables
# (cmex10, cmmi10, cmsy10) and the placeholder face LastResort.
TYPEFACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "STIXGeneralItalic.ttf",
)

# Computer Modern faces: TeX's code table agrees with Unicode for digits and letters, but not for signs
# (cmti10 has a pound sign at ASCII's dollar).
DIGIT_TYPEFACES = ("cmb10.ttf", "cmr10.ttf", "cmss10.ttf", "cmti10.ttf", "cmtt10.ttf")

# Superclass -> class name -> character. The family is last in a class name, so that alphabetical order mixes
# families and both sides of an alphabetical split have classes of many families.
CHARACTERS: dict[str, dict[str, str]] = {
    "arabic": {
        "ain_arabic": "\N{ARABIC LETTER AIN}",
        "jeem_arabic": "\N{ARABIC LETTER JEEM}",
        "qaf_arabic": "\N{ARABIC LETTER QAF}",
        "seen_arabic": "\N{ARABIC LETTER SEEN}",
        "waw_arabic": "\N{ARABIC LETTER WAW}",
    },
    "armenian": {
        "ayb_armenian": "ա",
        "da_armenian": "դ",
        "feh_armenian": "ֆ",
        "ken_armenian": "կ",
        "za_armenian": "զ",
    },
    "arrows": {
        "double_arrow": "⇓",
        "looped_arrow": "↬",
        "two_way_arrow": "↔",
        "up_arrow": "↑",
        "zigzag_arrow": "↯",
    },
    "calculus": {
        "integral_sign": "∫",
        "nabla_sign": "∇",
        "partial_sign": "∂",
        "root_sign": "√",
        "sum_sign": "∑",
    },
    "chess": {
        "bishop_chess": "♝",
        "king_chess": "♚",
        "knight_chess": "♞",
        "queen_chess": "♛",
        "rook_chess": "♜",
    },
    "circled_operators": {
        "dot_circled": "⊙",
        "minus_circled": "⊖",
        "plus_circled": "⊕",
        "slash_circled": "⊘",
        "times_circled": "⊗",
    },
    "currency": {
        "cent_currency": "¢",
        "dollar_currency": "$",
        "euro_currency": "€",
        "pound_currency": "£",
        "yen_currency": "¥",
    },
    "cyrillic": {
        "de_cyrillic": "д",
        "shcha_cyrillic": "щ",
        "ya_cyrillic": "я",
        "yu_cyrillic": "ю",
        "zhe_cyrillic": "ж",
    },
    "digits": {
        "five_digit": "5",
        "four_digit": "4",
        "seven_digit": "7",
        "three_digit": "3",
        "two_digit": "2",
    },
    "georgian": {
        "ban_georgian": "ბ",
        "hae_georgian": "ჰ",
        "jil_georgian": "ძ",
        "qar_georgian": "ყ",
        "zen_georgian": "ზ",
    },
    "greek": {
        "gamma_greek": "γ",
        "lambda_greek": "λ",
        "omega_greek": "ω",
        "psi_greek": "ψ",
        "xi_greek": "ξ",
    },
    "hebrew": {
        "alef_hebrew": "\N{HEBREW LETTER ALEF}",
        "lamed_hebrew": "\N{HEBREW LETTER LAMED}",
        "mem_hebrew": "\N{HEBREW LETTER MEM}",
        "shin_hebrew": "\N{HEBREW LETTER SHIN}",
        "tsadi_hebrew": "\N{HEBREW LETTER TSADI}",
    },
    "lao": {
        "ho_lao": "ຮ",
        "ko_lao": "ກ",
        "ngo_lao": "ງ",
        "so_lao": "ສ",
        "nyo_lao": "ຍ",
    },
    "latin": {
        "ash_latin": "æ",
        "eng_latin": "ŋ",
        "eth_latin": "ð",
        "sharp_s_latin": "ß",
        "thorn_latin": "þ",
    },
    "logic": {
        "element_of_logic": "∈",
        "empty_set_logic": "∅",
        "exists_logic": "∃",
        "for_all_logic": "∀",
        "union_logic": "∪",
    },
    "music": {
        "eighth_note_music": "♪",
        "flat_music": "♭",
        "natural_music": "♮",
        "quarter_note_music": "♩",
        "sharp_music": "♯",
    },
    "planets": {
        "jupiter_planet": "♃",
        "mars_planet": "♂",
        "neptune_planet": "♆",
        "saturn_planet": "♄",
        "venus_planet": "♀",
    },
    "punctuation": {
        "ampersand_mark": "&",
        "at_mark": "@",
        "pilcrow_mark": "¶",
        "question_mark": "?",
        "section_mark": "§",
    },
    "weather": {
        "cloud_weather": "☁",
        "comet_weather": "☄",
        "snowman_weather": "☃",
        "sun_weather": "☀",
        "umbrella_weather": "☂",
    },
    "zodiac": {
        "gemini_zodiac": "♊",
        "leo_zodiac": "♌",
        "pisces_zodiac": "♓",
        "sagittarius_zodiac": "♐",
        "scorpius_zodiac": "♏",
    },
}


@dataclass(frozen=True)
class Masks:
    """Every character in every typeface that has it.

    Attributes:
        pixels: float32 ``[M, SIZE, SIZE]``, ink coverage of each pixel, in 0..1.
        of: character -> its range of masks.
    """

    pixels: np.ndarray
    of: dict[str, range]


@lru_cache(maxsize=2)
def load_masks(
    chars: str = "".join(char for chars in CHARACTERS.values() for char in chars.values()),
) -> Masks:
    """Scan-convert characters, by default those of `glyphs`, in every typeface that has them."""
    import matplotlib
    from matplotlib.ft2font import FT2Font, LoadFlags

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {face: FT2Font(str(folder / face)) for face in (*TYPEFACES, *DIGIT_TYPEFACES)}
    held = {face: font.get_charmap() for face, font in fonts.items()}
    pixels: list[np.ndarray] = []
    of = {}
    for char in chars:
        first = len(pixels)
        for face in (*TYPEFACES, *DIGIT_TYPEFACES) if char.isdigit() else TYPEFACES:
            if ord(char) in held[face]:
                fonts[face].load_char(ord(char), flags=LoadFlags.NO_SCALE)
                pixels.append(scan_convert(*fonts[face].get_path()))
        of[char] = range(first, len(pixels))
    return Masks(np.stack(pixels), of)


def scan_convert(vertices: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Fill a TrueType outline with the non-zero winding rule: a mask, float32 ``[SIZE, SIZE]`` in 0..1.

    The glyph is centred and its longer side becomes `GLYPH_SIZE` pixels.

    Args:
        vertices: ``[V, 2]``, y upwards, in any unit.
        codes: ``[V]``, matplotlib's path codes; a quadratic curve has two vertices, control and end.
    """
    starts, ends = edges(vertices, codes)
    low, high = ends.min(0), ends.max(0)
    fine = SIZE * OVERSAMPLING
    scale = GLYPH_SIZE * OVERSAMPLING / (high - low).max()
    x0, y0 = ((starts - (low + high) / 2) * scale * [1, -1] + fine / 2).T
    x1, y1 = ((ends - (low + high) / 2) * scale * [1, -1] + fine / 2).T
    # Each edge changes the winding number of everything to its right on the rows that it crosses.
    heights = np.arange(fine)[:, None] + 0.5
    turn = (y0 <= heights).astype(np.int8) - (y1 <= heights)
    row, edge = np.nonzero(turn)
    x = x0[edge] + (heights[row, 0] - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
    winding = np.zeros((fine, fine), dtype=np.int32)
    np.add.at(winding, (row, np.ceil(x - 0.5).astype(np.int64)), turn[row, edge])
    inked = winding.cumsum(axis=1) != 0
    blocks = inked.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING).sum(axis=(1, 3), dtype=np.int32)
    return blocks.astype(np.float32) / OVERSAMPLING**2


def edges(vertices: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outline as short straight edges: starts and ends, each ``[E, 2]``."""
    segments = []
    first = here = vertices[0]
    control = None
    for code, vertex in zip(codes.tolist(), vertices, strict=True):
        if code == MOVE:
            first = here = vertex
        elif code == CURVE and control is None:
            control = vertex
        else:
            last = first if code == CLOSE else vertex
            segments.append((here, last if control is None else control, last))  # a line is a straight curve
            here, control = last, None
    begin, middle, end = np.array(segments).transpose(1, 0, 2)[:, :, None]
    t = np.arange(CURVE_EDGES + 1)[:, None] / CURVE_EDGES
    points = (1 - t) ** 2 * begin + 2 * t * (1 - t) * middle + t**2 * end
    return points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2)
