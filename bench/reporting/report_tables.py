"""The tables of the HTML report: those of the leaderboard, merged by kind, and all runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bench.records.naming import JOINT
from bench.records.store import Record
from bench.reporting import html_table
from bench.reporting.blocks import Cell, Grid, table, without_empty_columns
from bench.reporting.figures.rows import Section
from bench.reporting.frame import frame, runs
from bench.reporting.leaderboard.cells import NEW_CLASSES, TIME, board, guessing, network_notes, track_name
from bench.reporting.leaderboard.generalized import joined
from bench.reporting.leaderboard.overview import best_of_each
from bench.reporting.published import lines, published
from bench.reporting.ranking.rows import SETTINGS
from bench.reporting.ranking.tables import Table, newest

if TYPE_CHECKING:
    from pandas import DataFrame

BEST = "Best: its lead over every other row of the track also holds for new classes. Tied: for new episodes."
RESULTS = "Percent ± half of the 95% interval. Ranks are within a track; variations have none."
GENERALIZED = "Novel classes join the base classes, from a few support images each."
NAMES = ("run", "highest", "method")
LEADING = ("accuracy", *SETTINGS, *JOINT)
HINTS = {
    "method": "The method, its preset, and what was changed.",
    "run": "Its id: `python -m bench show RUN` prints everything about it.",
    "highest": "The row with the highest accuracy.",
    "accuracy": "Of the highest row.",
    "5w1s": "Accuracy: 5 novel classes, 1 support image per class, 15 queries per class.",
    "5w5s": "Accuracy: 5 novel classes, 5 support images per class, 15 queries per class.",
    "5w10s": "Accuracy: 5 novel classes, 10 support images per class, 15 queries per class.",
    "5w, shots not given": "Accuracy: 5 novel classes; the source does not say how many support images.",
    "all-way 1-shot": "Accuracy: all novel classes at once, 1 support image per class.",
    "novel pairs": "Do two images show the same novel class? Balanced accuracy.",
    "base pairs": "Do two images show the same base class? Balanced accuracy.",
    "AUC": "Area under the ROC curve of pairs of images of novel classes.",
    "EER": "Equal error rate of pairs of images of novel classes; lower is better.",
    "open-set AUC": "In 5w1s episodes: telling queries of two further novel classes from the others.",
    "novel triplets": "How often an image is more similar to one of its own novel class than to another one.",
    "base triplets": "How often an image is more similar to one of its own base class than to another one.",
    "novel pairs at 0.2": "As novel pairs, at a threshold of 0.2.",
    "novel pairs at best": "As novel pairs, at the best threshold of the tested pairs.",
    "novel AUC": "Area under the ROC curve of pairs of images of novel classes.",
    "base pairs at 0.2": "As base pairs, at a threshold of 0.2.",
    "base pairs at best": "As base pairs, at the best threshold of the tested pairs.",
    "base AUC": "Area under the ROC curve of pairs of images of base classes.",
    "unbalanced pairs": "Accuracy on pairs that are not half same, half different.",
    **{
        f"novel, {shots}-shot": f"Accuracy on a class that joined with {shots} support images."
        for shots in (1, 5, 10, 20)
    },
    "novel": "Accuracy on the joined classes, with the base classes as further answers.",
    "base": "Accuracy on the base classes, with the joined classes as further answers.",
    "all": "Accuracy on base and joined classes together.",
    "harmonic": "Harmonic mean of the accuracies on novel and base classes.",
    "before": "Accuracy on the base classes before any class joined.",
    "classes": "Base classes + classes that join them.",
    "shots": "Support images per joining class.",
    "rank": "Within the track, for new episodes of these classes. Overlapping ranges are ties.",
    NEW_CLASSES: "Within the track, for other novel classes. Overlapping ranges are ties.",
    "best": "The highest row, if no other is tied with it and it leads for new classes too.",
    "tied, new episodes": "No row is significantly better than these for other episodes of these classes.",
    "not separable, new classes": "For other novel classes, the highest row may not be better than these.",
    "rows": "Rows of the track that are compared on the same episodes.",
    "data set": "The images.",
    "split": "How the classes are divided into base and novel classes.",
    "protocol": "Version of splits, episodes and metrics; numbers of two versions are not comparable.",
    "track": "Preset, backbone and number of training images: methods are ranked within it.",
    "setting": "Ways and shots of the episodes; of published results, how they were tested.",
    "backbone": "The network that embeds images.",
    "seed": "Random seed of the training.",
    "seeds": "Number of trainings; †: too few for an interval that covers retraining.",
    "images": "Training images seen, repetitions and pretraining included.",
    "pretraining": "Share of the images that the shared classifier of the base classes saw.",
    "kept step": "Training step of the evaluated weights.",
    TIME: "Processor and wall-clock time of the run and its pretraining, with the number of threads. A GPU's "
    "time is only in the latter.",
    "parameters": "Learnable weights of the backbone.",
    "date": "Of the newest record.",
    "created": "When the run ended, UTC.",
    "device": "What the run was made on.",
    "marks": "Why the row is not comparable with all others.",
    "source": "Where the numbers were published.",
    "command": "Makes the run again.",
}
"""Heading of a column -> what it means; a setting without one, such as 10w5s, is an accuracy."""

ASIDE = "As reported by their sources, with other episodes and budgets; not ranked with ours."


def tables(
    found: Sequence[Section], records: Sequence[Record]
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The tables that have rows, and what their headings mean.

    Returns:
        Identity of a table -> its title, and the table as HTML; heading of a column -> its hint.
    """
    boards = [one for section in found for one in section.tables]
    datasets = {section.first.dataset for section in found}
    chances = {
        heading: " to ".join(dict.fromkeys(f"{value:.3g}" for value in (values[0], values[-1])))
        for heading, values in guessing(boards).items()
    }
    hints = HINTS | {
        heading: f"{HINTS.get(heading, 'Accuracy over episodes.')} Guessing gives {chance}."
        for heading, chance in chances.items()
    }
    chance = "".join(f" {chances[heading]} at {heading}," for heading in chances if heading in SETTINGS)
    protocols = len({one.first.protocol_version for one in boards}) > 1
    parts = {
        "best": ("The best of each track", BEST, best_of_each(newest(boards))),
        "results": (
            "Results",
            f"{RESULTS} Guessing gives{chance} 50 at pairs and triplets." + "".join(_networks(boards)),
            concatenated((board(one), _of(one, protocols)) for one in boards),
        ),
        "generalized": (
            "Base and novel classes jointly",
            GENERALIZED,
            concatenated(
                (cells, _where(section.first) | {"classes": (classes,)})
                for section in found
                for classes, cells in joined(section.tables).items()
            ),
        ),
        "published": ("Published by others", ASIDE, lines(r for r in published() if r.dataset in datasets)),
        "runs": ("Runs", "The exact command of every record.", runs(frame(records))),
    }
    grids = {identity: in_order(cells) for identity, (_, _, cells) in parts.items() if not cells.empty}
    shown = {
        identity: (parts[identity][0], html_table.table(identity, *parts[identity][:2], grid, hints))
        for identity, grid in grids.items()
    }
    headings = dict.fromkeys(heading for grid in grids.values() for heading in grid.columns)
    return shown, {heading: hints[heading] for heading in headings if heading in hints}


def in_order(cells: DataFrame) -> Grid:
    """The name first, then the accuracies, so that a narrow window shows both; no empty columns."""
    name = next(heading for heading in NAMES if heading in cells)
    leading = [name, *(heading for heading in LEADING if heading in cells)]
    whole = cells[[*leading, *(heading for heading in cells if heading not in leading)]]
    return without_empty_columns(whole, leading=1)


def _where(record: Record) -> dict[str, Cell]:
    return {"data set": (record.dataset,), "split": (record.split,)}


def _of(one: Table, protocol: bool) -> dict[str, Cell]:
    version = {"protocol": (str(one.first.protocol_version),)} if protocol else {}
    return _where(one.first) | {"track": track_name(one.track)} | version


def concatenated(parts: Iterable[tuple[DataFrame, dict[str, Cell]]]) -> DataFrame:
    """Tables concatenated, with columns for what the rows of each share."""
    return table(
        shared | dict(zip(map(str, cells), row, strict=True))
        for cells, shared in parts
        for row in cells.itertuples(index=False, name=None)
    )


def _networks(boards: Sequence[Table]) -> Iterable[str]:
    """Which rows use the same network, as HTML."""
    for one in boards:
        for note in network_notes(one):
            where = html_table.escape(f"{one.first.dataset} {one.first.split}")
            yield f"<br>{where}, {html_table.line(track_name(one.track))}, {html_table.line(note)}"
