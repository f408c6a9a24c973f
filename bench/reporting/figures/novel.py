"""Draws a trained method's results for novel images: t-SNE, confusions, an episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.reporting.figures.style import GREY, INK, MARKERS, PAPER, SERIES, SMALL, axes, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # of a confusion matrix
RIGHT, WRONG = SERIES[0], SERIES[1]
HEIGHT = 4.0  # inches, of a cloud of points
KINDS = (("o", 22, "real: query"), ("x", 28, "generated"), ("*", 170, "real: support"))
"""Marker, area in square points and name of the features of a method that generates some."""


class Points(NamedTuple):
    """A t-SNE of some classes.

    Attributes:
        places: float ``[n, 2]``.
        classes: int ``[n]``, positions in `names`.
        names: of the classes.
    """

    places: np.ndarray
    classes: np.ndarray
    names: list[str]


def t_sne(features: np.ndarray) -> np.ndarray:
    """Two coordinates of each row such that near stays near: float ``[n, 2]``, the same every time."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    scatter = features.std()
    if not np.isfinite(features).all() or scatter == 0 or len(features) < 4:
        return np.zeros((len(features), 2))
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features / scatter)


def draw_points(points: Points, kinds: np.ndarray | None = None) -> Figure:
    """Features, as points in the colour and form of their class.

    Args:
        points: of all.
        kinds: int ``[n]``, positions in `KINDS`, for the forms of these instead.
    """
    from matplotlib.lines import Line2D

    figure, (place,) = axes(HEIGHT + 0.1 * len(points.names))
    handles, words = [], []
    if kinds is not None:
        for form, area, word in KINDS:
            handles.append(Line2D([], [], ls="", color=INK.light, marker=form, ms=area**0.5))
            words.append(word)
    for number, name in enumerate(points.names):
        colour, form = SERIES[number % 6].light, MARKERS[(number + 3 * (number // 6)) % len(MARKERS)]
        own = points.classes == number
        parts = [(own, form, 22)]
        if kinds is not None:
            parts = [(own & (kinds == kind), form, area) for kind, (form, area, _) in enumerate(KINDS)]
        for chosen, marker, area in parts:
            line: dict[str, Any] = {"lw": 0.4, "edgecolors": PAPER.light, "alpha": 0.85}
            if marker == "x":
                line = {"lw": 1.3}
            x, y = points.places[chosen].T
            place.scatter(x, y, s=area, marker=marker, color=colour, **line)
        handles.append(Line2D([], [], ls="", marker=form if kinds is None else "s", color=colour))
        words.append(name)
    place.set_xticks([])
    place.set_yticks([])
    place.set_xlabel("t-SNE, first coordinate (no unit)")
    place.set_ylabel("t-SNE, second coordinate (no unit)")
    legend(figure, handles, words)
    return figure


def draw_confusions(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Shares as a matrix of blue; numbers where there is room."""
    from matplotlib.colors import to_rgb

    size = len(names)
    figure, (place,) = axes(4.9 if size > 6 else 4.0)
    pixels = np.empty((size, size, 4))
    pixels[..., :3] = to_rgb(SERIES[0].light)
    darkest = max(float(shares.max()), 1e-9)
    pixels[..., 3] = 0.8 * shares / darkest  # see-through, so that it goes with a light and a dark page
    place.imshow(pixels, vmin=0, vmax=1)
    if size <= 12:
        for i in range(size):
            for j in range(size):
                if shares[i, j] >= 0.005:
                    place.annotate(
                        f"{100 * shares[i, j]:.0f}", (j, i), ha="center", va="center", size=8, color=INK.light
                    )
    labels = [plain(name, 16) for name in names]
    place.set_xticks(range(size), labels, rotation=60, ha="right", rotation_mode="anchor", size=8)
    place.set_yticks(range(size), labels, size=8)
    place.grid(visible=False)
    place.set_xlabel(f"answer (class; % of the row, darkest {100 * darkest:.0f}%)")
    place.set_ylabel("truth (class)")
    return figure


def draw_episode(support: np.ndarray, query: np.ndarray, given: np.ndarray, names: Sequence[str]) -> Figure:
    """A row for each class: its support image, then queries, each with the answer.

    Args:
        support: uint8 ``[way, H, W, 3]``, one image per class.
        query: uint8 ``[way, n, H, W, 3]``, queries of each class.
        given: int ``[way, n]``, the answers.
        names: of the classes.
    """
    way, queries = given.shape
    figure, (place,) = axes(1.13 * way + 0.5)
    for i, name in enumerate(names):
        top = 1.5 * i
        place.annotate(
            plain(name, 30), (0, top - 0.1), va="bottom", size=SMALL, weight="bold", annotation_clip=False
        )
        _image(place, support[i], 0, top, INK.light)
        for j in range(queries):
            right = given[i, j] == i
            colour = (RIGHT if right else WRONG).light
            _image(place, query[i, j], 1.3 + j, top, colour, "-" if right else (0, (2, 1)))
            word = "✓" if right else plain(names[given[i, j]], 11)
            place.annotate(word, (1.3 + j + 0.5, top + 1.05), ha="center", va="top", size=7.5, color=colour,
                           annotation_clip=False)  # fmt: skip
    place.annotate(
        "support", (0.5, -0.5), ha="center", va="bottom", size=SMALL, color=GREY.light, annotation_clip=False
    )
    place.annotate(
        "queries and answers", (1.3, -0.5), va="bottom", size=SMALL, color=GREY.light, annotation_clip=False
    )
    place.set_xlim(-0.1, 1.3 + queries)
    place.set_ylim(1.5 * way - 0.1, -0.9)
    place.set_aspect("equal")  # images stay square
    place.axis("off")
    return figure


def _image(place: Axes, image: np.ndarray, left: float, top: float, frame: str, dashes: object = "-") -> None:
    from matplotlib.patches import Rectangle

    edge = 0.06
    inside = (left + edge, left + 1 - edge, top + 1 - edge, top + edge)
    place.imshow(image, extent=inside, interpolation="nearest", aspect="auto")
    place.add_patch(
        Rectangle(
            (left + edge, top + edge), 1 - 2 * edge, 1 - 2 * edge, fill=False, ec=frame, lw=2.2, ls=dashes
        )
    )


def most_confused(shares: np.ndarray, most: int = MOST_CLASSES) -> np.ndarray:
    """Positions of the `most` classes that are answered wrongly most often, in their own order."""
    hardest = np.argsort(np.diag(shares), kind="stable")[:most]
    return np.sort(hardest)


def typical(correct: np.ndarray, mean: float) -> int:
    """The first of the episodes whose accuracy is nearest to the mean.

    Args:
        correct: ``[E]`` accuracies.
        mean: of all.
    """
    distance = np.abs(correct - mean)
    return int(np.flatnonzero(np.isclose(distance, distance.min()))[0])
