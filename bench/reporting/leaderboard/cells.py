"""The cells of tables: names, numbers, marks."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase
from typing import TYPE_CHECKING

from bench.records import identity
from bench.records.store import Record
from bench.records.tracks import Track, cost, images_seen, kept, pretraining_share, uncommitted
from bench.reporting.blocks import NOTHING, Cell, Code, Number, duration, number, parameter_count, table
from bench.reporting.ranking.rows import ENOUGH_SEEDS, Row
from bench.reporting.ranking.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

TIME = "time (threads)"
NEW_CLASSES = "rank, new classes"
VARIATIONS = "variations"


def cells(row: Row, of: Table) -> dict[str, Cell]:
    """Heading -> cell of a row's line in its table."""
    first, rank = row.first, row.ranks.get(of.ranked_by)
    new_classes = row.new_class_ranks.get(of.ranked_by)
    notes = (" †" if len(row.records) < ENOUGH_SEEDS else "") + ("" if row.whole else " ‡")
    return {
        "rank": Number(str(rank), rank.first) if rank else NOTHING,
        "method": name(row),
        NEW_CLASSES: Number(str(new_classes), new_classes.first) if new_classes else NOTHING,
        "backbone": (Code(first.backbone),),
        **{heading: number(row.intervals.get(key), digits) for heading, (key, digits) in of.columns.items()},
        "seeds": Number(f"{len(row.records)}{notes}", len(row.records)),
        "images": images(row.records),
        "pretraining": share(row.records),
        "kept step": kept_step(row.records),
        TIME: training_time(row.records),
        "parameters": Number(parameter_count(first.parameters), first.parameters),
        "date": (f"{max(record.created for record in row.records):%Y-%m-%d}",),
        "marks": _marks(row, of),
    }


def board(of: Table) -> DataFrame:
    """All lines of a table."""
    return table(cells(row, of) for row in of.rows)


def name(row: Row) -> Cell:
    """A row's name."""
    return (Code(identity.name_of(row.first)),)


def guessing(tables: Iterable[Table]) -> dict[str, list[float]]:
    """Heading -> percent that guessing gives, in each table's setting, from low to high."""
    found: dict[str, set[float]] = {}
    for one in tables:
        for heading, (key, _) in one.columns.items():
            setting = key.removeprefix("fewshot/")
            ways = {row.first.episodes[setting].way for row in one.rows if setting in row.first.episodes}
            if setting != key:
                found.setdefault(heading, set()).update(100 / way for way in ways)
            elif any(key in row.intervals for row in one.rows):
                found[heading] = {50.0}  # pairs, triplets, open set
    return {heading: sorted(values) for heading, values in found.items() if values}


def track_name(track: Track | None) -> Cell:
    """Name of a table, in addition to its split."""
    return (Code(track.preset), ", ", Code(track.backbone)) if track else (VARIATIONS,)


def images(records: Iterable[Record]) -> Cell:
    """Training images seen; the mean over the seeds that record it."""
    seen = [own for record in records if (own := images_seen(record)) is not None]
    mean = round(sum(seen) / max(1, len(seen)))
    return Number(f"{mean:,}", mean) if seen else NOTHING


def share(records: Iterable[Record]) -> Cell:
    """The pretraining's share of the images; the mean over the seeds that record it."""
    shares = [own for record in records if (own := pretraining_share(record)) is not None]
    if not shares:
        return NOTHING
    return (f"{100 * sum(shares) / len(shares):.0f}%",) if any(shares) else ("none",)


def kept_step(records: Iterable[Record]) -> Cell:
    """The kept step and the number of steps."""
    return (kept(records) or NOTHING[0],)


def training_time(records: Iterable[Record]) -> Cell:
    """Processor time, if recorded, and wall-clock time; the means over seeds, with threads."""
    spent = cost(records)
    if spent is None:
        return NOTHING
    processor = "" if spent.processor is None else f"{duration(spent.processor)}, "
    return Number(f"{processor}{duration(spent.wall)} wall ({spent.threads})", spent.one_core)


def _marks(row: Row, table: Table) -> Cell:
    first, setting = row.first, table.ranked_by
    info = row.episodes(setting)
    count = info.count if info else table.most_episodes
    measured = f"fewshot/{setting}" in row.intervals
    marks = {
        **dict.fromkeys(identity.marks(first), True),
        "other episodes": measured and row.whole and not (row.apart or setting in row.ranks),
        f"first {count:,} episodes": count < table.most_episodes,
    }
    if table.track is None:
        marks["other episodes"] = False
        marks["images not recorded"] = any(images_seen(record) is None for record in row.records)
    for letter, (rows, _) in zip(ascii_lowercase, table.shared, strict=False):
        marks[f"network {letter}"] = any(row is one for one in rows)
    marks["uncommitted code"] = uncommitted(row.records)
    return (", ".join(mark for mark, on in marks.items() if on),) if any(marks.values()) else NOTHING


def network_notes(table: Table) -> list[Cell]:
    """Notes on the table's marks ``network a``, ``network b``, ...: rows that use the same network."""
    return [
        (
            f"network {letter}: ",
            *joined([name(row) for row in rows]),
            f" use the same trained network in seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}.",
        )
        for letter, (rows, seeds) in zip(ascii_lowercase, table.shared, strict=False)
        if any(row is one for row in rows for one in table.rows)
    ]


def joined(parts: list[Cell]) -> Cell:
    """Cells joined with commas."""
    return tuple(piece for i, part in enumerate(parts) for piece in ((", ", *part) if i else part))
