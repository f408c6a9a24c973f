"""The hardest and the easiest novel classes: their accuracies, and some of their images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.common.errors import UserError
from bench.records.parts import Metric
from bench.records.store import Record
from bench.reporting.figures.picture import Gap, Picture, bars
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import GREY, INK, SERIES, SMALL, axes, of_model, plain
from bench.reporting.ranking.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.data.images import ImageSet

TITLE, IMAGES = "Hardest and easiest classes", "Images of the hardest and easiest classes"
KEYS = {
    "fewshot/5w1s": "5-way 1-shot accuracy (%; guessing: 20)",
    "novel/pair_accuracy": "pair accuracy (%; guessing: 50)",
    "novel/triplet_accuracy": "triplet accuracy (%; guessing: 50)",
}
MOST = 20  # bars
EACH, SIDE = 3, 16  # images of a class, and points


class Ranked(NamedTuple):
    """Classes of one row, from the hardest to the easiest.

    Attributes:
        key: the metric.
        row: whose numbers they are.
        classes: name and metric.
        others: for each of them the values of the section's other rows.
    """

    key: str
    row: Row
    classes: list[tuple[str, Metric]]
    others: list[list[float]]

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return [name for name, _ in self.classes]


def ends(classes: Sequence[str], most: int) -> list[str]:
    """Of ranked classes the first and the last, `most` together."""
    half = most // 2
    return list(classes) if len(classes) <= most else [*classes[:half], *classes[-half:]]


def ranked(section: Section) -> Ranked | None:
    """The classes of the section's best row that has any."""
    for key in KEYS:
        for row in section.best(key):
            own = {name: values[key] for name, values in row.first.per_class.items() if key in values}
            if own:
                classes = sorted(own.items(), key=lambda item: (item[1].value, item[0]))
                rest = [other.first.per_class for other in section.rows if other is not row]
                others = [
                    [per[name][key].value for per in rest if key in per.get(name, {})] for name, _ in classes
                ]
                return Ranked(key, row, classes, others)
    return None


def pictures(section: Section, data_root: Path | None, with_images: bool) -> list[Picture | Gap]:
    """Bars of the best row's classes with some of their images, and points of the other rows'.

    Args:
        section: of one split.
        data_root: ``--data-root``.
        with_images: whether to look for the images of the data set.
    """
    found = ranked(section)
    if found is None:
        return [Gap(TITLE, "needs numbers per class")]
    images: dict[str, np.ndarray] = {}
    gaps: list[Picture | Gap] = []
    try:
        if with_images:
            data = load_images(found.row.first, data_root)
            images = {name: _images_of(data, name) for name in ends(found.names, MOST)}
    except UserError as error:
        gaps = [Gap(IMAGES, f"{error.flag} {error.value}: {error.allowed}")]
    hardest, easiest = (
        f"{plain(name).strip()} {100 * own.value:.1f}%" for name, own in (found.classes[0], found.classes[-1])
    )
    left_out = len(found.classes) - len(ends(found.names, MOST))
    return [
        *gaps,
        Picture(
            name="per-class",
            title=of_model(TITLE, found.row.first),
            caption="Bars: the model of the best row of this split, with 95% intervals; points: "
            "other rows."
            + " Right: images of each class." * bool(images)
            + (f" {left_out} classes in between are left out." if left_out else ""),
            alt=f"Accuracy of each novel class; hardest {hardest}, easiest {easiest}.",
            draw=partial(_draw, found, images),
        ),
    ]


def _draw(found: Ranked, images: dict[str, np.ndarray]) -> Figure:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    chosen = set(ends(found.names, MOST))
    every = zip(found.classes, found.others, strict=True)
    shown = [(name, metric, others) for (name, metric), others in every if name in chosen]
    gap = 1 if len(chosen) < len(found.classes) else 0
    places = [i + (gap if i >= len(shown) / 2 else 0) for i in range(len(shown))]
    figure, (place,) = axes(0.9 + 0.24 * (len(shown) + gap))
    place.barh(
        places, [100 * metric.value for _, metric, _ in shown], 0.72,
        xerr=bars(metric for _, metric, _ in shown), color=SERIES[5].light, alpha=0.6,
        error_kw={"ecolor": INK.light, "elinewidth": 1.0, "capsize": 2},
    )  # fmt: skip
    for where, (name, _, others) in zip(places, shown, strict=True):
        place.plot([100 * value for value in others], [where] * len(others), "o", ms=2.6, color=INK.light)
        for number, image in enumerate(images.get(name, ())):
            place.add_artist(
                AnnotationBbox(
                    OffsetImage(image, zoom=SIDE / max(image.shape)),
                    (1, where), (4 + number * (SIDE + 1), 0),
                    xycoords=place.get_yaxis_transform(), boxcoords="offset points",
                    box_alignment=(0, 0.5), pad=0, frameon=False, annotation_clip=False,
                )
            )  # fmt: skip
    if gap:
        hidden = len(found.classes) - len(shown)
        place.annotate(f"… {hidden} classes in between …", (0.02, len(shown) // 2), size=SMALL,
                       xycoords=("axes fraction", "data"), va="center", color=GREY.light)  # fmt: skip
    place.set_yticks(places, [plain(name, 24) for name, *_ in shown])
    place.set_ylim(max(places) + 0.6, -0.6)
    place.set_xlim(0, 100)
    place.grid(visible=False, axis="y")
    place.set_xlabel(KEYS[found.key])
    place.set_ylabel("novel class (name)")
    return figure


def load_images(record: Record, data_root: Path | None) -> ImageSet:
    """The images of a record. Imports torch, which image sets are made of.

    Raises:
        UserError: they are not available, or differ.
    """
    from bench.data import sources
    from methods.backbones import interpolation

    size = record.config.get("image_size")
    size = size if isinstance(size, int) else None
    how = interpolation(record.backbone, size)
    data = sources.load(record.dataset, data_root, image_size=size, interpolation=how, offline=True)
    if data.fingerprint != record.fingerprint:
        raise UserError("--data-root", record.dataset, "must have the images of the record")
    return data


def _images_of(data: ImageSet, name: str) -> np.ndarray:
    """Images of a class, evenly spaced: uint8 ``[EACH, H, W, 3]``; repeats the last one if too few."""
    own = np.flatnonzero(data.labels.numpy() == data.class_names.index(name))
    chosen = own[np.linspace(0, len(own) - 1, EACH).round().astype(int)]
    return data.images[chosen].permute(0, 2, 3, 1).numpy()
