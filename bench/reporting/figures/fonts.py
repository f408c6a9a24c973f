"""Fonts for letters that the figures' own font lacks, such as Chinese or Thai class names."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_told: set[str] = set()
"""Letters that a warning has named."""


def save(figure: Figure, stream: Any, **options: Any) -> None:
    """`Figure.savefig`, with letters from any installed font that has them; warns once about the others."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # otherwise they have no text before the first drawing
    texts = figure.findobj(Text)
    families = _families("".join(sorted({letter for text in texts for letter in text.get_text()})))
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # said in our words
        figure.savefig(stream, **options)


@cache
def _families(letters: str) -> list[str]:
    """Installed fonts for the letters that matplotlib's default font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    missing = {letter for letter in letters if letter.isprintable()}
    missing -= _letters(get_font(findfont(FontProperties(family="DejaVu Sans"))))
    families = []
    # Last Resort has a box for every letter.
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")]
    for font in sorted(fonts, key=lambda font: (font.weight != 400, font.name, font.fname)):
        if not missing:
            break
        try:
            found = missing & _letters(get_font(font.fname))
        except (OSError, RuntimeError):  # a damaged font
            continue
        if found:
            families.append(font.name)
            missing -= found
    if new := missing - _told:
        _told.update(new)
        some = " ".join(sorted(new)[:10])
        print(f"warning: no installed font has these letters of figures: {some}", file=sys.stderr)
    return families


def _letters(font: Any) -> set[str]:
    return {chr(code) for code in font.get_charmap()}
