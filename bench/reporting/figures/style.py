"""The style of all figures: size, fonts, colours and markers, and how they are saved.

Figures are drawn in the light colours. On a page the SVG's colours are variables of the style sheet, so that
one figure works in light and dark mode.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.common.streams import say
from bench.records.identity import name_of
from bench.records.store import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8
"""Inches. Shown 400 pixels wide, letters of 9 points are still 10 pixels high."""

PIXELS_PER_INCH = 200  # of PNG files
SMALL = 9.0  # points
LINE = 0.18  # inches, of a line of small letters


class Colour(NamedTuple):
    """One colour on a light and on a dark page."""

    light: str
    dark: str


INK = Colour("#1f2329", "#e7e9ec")
GREY = Colour("#7c828b", "#8d949e")
GRID = Colour("#dde0e5", "#353a43")
PAPER = Colour("#ffffff", "#1b1e24")
SERIES = (
    Colour("#0072b2", "#3f97e8"),
    Colour("#d55e00", "#f0772b"),
    Colour("#009e73", "#14b88f"),
    Colour("#a63d85", "#dd85bd"),
    Colour("#7a5c00", "#f0dc5a"),
    Colour("#3f9fd9", "#9fd8fa"),
    INK,
)
"""Distinguishable with any colour blindness; each also has its own marker and dashes."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), "-", "--")
VARIABLES = {
    "ink": INK,
    "grey": GREY,
    "grid": GRID,
    "paper": PAPER,
    **{f"series-{i}": colour for i, colour in enumerate(SERIES[:-1])},
}
"""Name of a page's variable -> colour."""

FONT = "DejaVu Sans"
LOOK: Any = {
    "font.family": FONT,
    "font.size": 10.0,
    "text.parse_math": False,  # a class name may be $1$
    "text.color": INK.light,
    "axes.labelcolor": INK.light,
    "axes.edgecolor": GREY.light,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": GRID.light,
    "grid.linewidth": 0.7,
    "xtick.color": INK.light,
    "ytick.color": INK.light,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "fewshot-bench",  # ids, and so files, are the same every time
}


_warned_of: set[str] = set()
"""Letters that a warning has named."""

ACCURACY = {
    "fewshot/5w1s": "5w1s accuracy",
    "novel/pair_accuracy": "pair accuracy",
    "novel/triplet_accuracy": "triplet accuracy",
}
"""Metric key -> words; the first available one describes a model's quality."""


def axes(height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the common width and its axes, one below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    made = figure.subplots(rows, squeeze=False, **options)
    return figure, list(made.ravel())


def plain(text: str, longest: int = 34) -> str:
    """Any text as a label: one line, printable, not too long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split())) or "–"
    line = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return f" {line}" if line.startswith("_") else line  # matplotlib hides labels that start with _


def row_name(label: str) -> str:
    """The name of a row in text: as `plain`, but long enough for what was changed."""
    return plain(label, 140).strip()


def of_model(title: str, record: Record) -> str:
    """The title of a figure of one model, with the model's name and accuracy."""
    parts = [f"{title}: {row_name(name_of(record))}", f"seed {record.seed}"]
    if key := next(filter(record.metrics.__contains__, ACCURACY), None):
        parts.append(f"{ACCURACY[key]} {100 * record.metrics[key].value:.1f}%")
    return ", ".join(parts)


def folded(label: str, width: int) -> str:
    """The name of a row as a label, in lines of at most `width` letters."""
    return "\n".join(textwrap.wrap(plain(label, 140), width))


def legend(figure: Figure, handles: list[Any], labels: list[str], columns: int = 2) -> None:
    """A legend below the axes, where it hides nothing; in one column if a label is long.

    The figure, made for a legend of so many columns, becomes higher if that takes more lines.
    """
    texts = [folded(label, 55) for label in labels]
    lines = math.ceil(len(texts) / columns)
    if max(map(len, texts)) > 25:
        columns = 1
        width, height = figure.get_size_inches()
        more = sum(text.count("\n") + 1 for text in texts) - lines
        figure.set_size_inches(width, height + LINE * more)
    place: Any = "outside lower center"
    figure.legend(handles, texts, loc=place, ncols=columns, handlelength=2.6)


def entitle(figure: Figure, title: str, where: str) -> None:
    """Put above the picture what it shows, and of what; on a page headings say that."""
    lines = [*textwrap.wrap(plain(title, 200), 55), plain(where, 55)]
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * len(lines))
    figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=10)


def png(figure: Figure) -> bytes:
    """The picture on white."""
    stream = io.BytesIO()
    metadata = {"Software": None}
    save(figure, stream, format="png", dpi=PIXELS_PER_INCH, facecolor=PAPER.light, metadata=metadata)
    return stream.getvalue()


def svg(figure: Figure, background: str = PAPER.light) -> str:
    """The picture as a file of its own."""
    stream = io.StringIO()
    save(figure, stream, format="svg", facecolor=background, metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+\n", "\n", stream.getvalue())


def inline_svg(figure: Figure, prefix: str) -> str:
    """The picture as an element of a page, in the page's colours.

    Args:
        figure: the picture.
        prefix: put before its ids, which would otherwise be those of the page's other pictures.
    """
    text = svg(figure, "none")
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    used = set(re.findall(r'(?:url\(|xlink:href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'(?<= d=")[^"]+', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), text)
    for variable, colour in VARIABLES.items():
        text = text.replace(colour.light, f"var(--{variable})")
    text = re.sub(r"\s*\n\s*", "\n", text)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).strip()


def style_sheet() -> str:
    """The page's variables."""
    return "\n".join(f"--{name}: light-dark({c.light}, {c.dark});" for name, c in VARIABLES.items())


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
    missing -= _letters(get_font(findfont(FontProperties(family=FONT))))
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
    if new := missing - _warned_of:
        _warned_of.update(new)
        some = " ".join(sorted(new)[:10])
        say(f"warning: no installed font has these letters of figures: {some}")
    return families


def _letters(font: Any) -> set[str]:
    return {chr(code) for code in font.get_charmap()}
