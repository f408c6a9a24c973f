"""The characters of the `glyphs` data set and the typefaces that they are drawn from."""

from __future__ import annotations

# File names below matplotlib's `fonts/ttf`, listed one by one so that a face which a later matplotlib adds
# changes nothing.  Left out: faces of a handful of brackets (STIXSiz*, *Display), private code points
# (STIXNonUni*), TeX's own code tables (cmex10, cmmi10, cmsy10) and the placeholder face LastResort.
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

# Computer Modern faces: TeX's code table agrees with Unicode on digits and letters, not on signs
# (cmti10 has a pound where ASCII has the dollar).
DIGIT_TYPEFACES = ("cmb10.ttf", "cmr10.ttf", "cmss10.ttf", "cmti10.ttf", "cmtt10.ttf")

# Superclass -> class name -> character.  The family stands last in a class name, so that alphabetical
# order mixes the families and an alphabetical split holds classes of many families on either side.
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
