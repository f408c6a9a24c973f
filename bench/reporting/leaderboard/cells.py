"""What stands in the cells: names, numbers, marks."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase
from typing import TYPE_CHECKING

from bench.records import identity
from bench.records.store import Record
from bench.records.tracks import Track, cost, images_seen, kept, pretraining_share, uncommitted
from bench.reporting.leaderboard.blocks import NOTHING, Cell, Code
from bench.reporting.leaderboard.rows import ENOUGH_SEEDS, Row
from bench.reporting.leaderboard.tables import Table

if TYPE_CHECKING:
    from bench.statistics import Interval

TIME = "time (threads)"
NEW_CLASSES = "rank, new classes"
VARIATIONS = "variations"


def cells(row: Row, table: Table) -> dict[str, Cell]:
    """Heading -> cell of a row's line in its table."""
    first, rank = row.first, row.ranks.get(table.ranked_by)
    new_classes = row.new_class_ranks.get(table.ranked_by)
    notes = (" †" if len(row.records) < ENOUGH_SEEDS else "") + ("" if row.whole else " ‡")
    return {
        "rank": (str(rank),) if rank else NOTHING,
        "method": name(row),
        NEW_CLASSES: (str(new_classes),) if new_classes else NOTHING,
        "backbone": (Code(first.backbone),),
        **{
            heading: number(row.intervals.get(key), digits)
            for heading, (key, digits) in table.columns.items()
        },
        "seeds": (f"{len(row.records)}{notes}",),
        "images": images(row.records),
        "pretraining": _share(row.records),
        "kept step": (kept(row.records) or NOTHING[0],),
        TIME: training_time(row.records),
        "parameters": (parameter_count(first.parameters),),
        "date": (f"{max(record.created for record in row.records):%Y-%m-%d}",),
        "marks": _marks(row, table),
    }


def name(row: Row) -> Cell:
    """A row's name."""
    return (Code(identity.name_of(row.first)),)


def track_name(track: Track | None) -> Cell:
    """What a table is called beside its split."""
    return (Code(track.preset), ", ", Code(track.backbone)) if track else (VARIATIONS,)


def number(interval: Interval | None, digits: int) -> Cell:
    """Percent with the half-width of the interval."""
    if interval is None:
        return NOTHING
    return (f"{100 * interval.value:.{digits}f} ± {100 * interval.half_width:.{digits}f}",)


def images(records: Iterable[Record]) -> Cell:
    """Training images seen; the mean over the seeds that say how many."""
    seen = [own for record in records if (own := images_seen(record)) is not None]
    return (f"{round(sum(seen) / len(seen)):,}",) if seen else NOTHING


def _share(records: Iterable[Record]) -> Cell:
    shares = [own for record in records if (own := pretraining_share(record)) is not None]
    if not shares:
        return NOTHING
    return (f"{100 * sum(shares) / len(shares):.0f}%",) if any(shares) else ("none",)


def training_time(records: Iterable[Record]) -> Cell:
    """The mean over the seeds, with their threads: processor time, or marked as wall-clock time."""
    spent = cost(records)
    if spent is None:
        return NOTHING
    return (f"{duration(spent.seconds)}{'' if spent.on_processor else ' wall'} ({spent.threads})",)


def _marks(row: Row, table: Table) -> Cell:
    first, setting = row.first, table.ranked_by
    info = row.episodes(setting)
    count = info.count if info else table.most_episodes
    measured = f"fewshot/{setting}" in row.intervals
    marks = {
        "external data": first.external_data,
        "transductive": first.transductive,
        identity.labelled_novel(first): bool(first.labelled_novel_images),
        "untrained": identity.untrained(first),
        "other episodes": measured and row.whole and not (row.apart or setting in row.ranks),
        f"first {count:,} episodes": count < table.most_episodes,
    }
    if table.track is None:
        marks["other episodes"] = False
        marks["images not recorded"] = any(images_seen(record) is None for record in row.records)
    for letter, rows in zip(ascii_lowercase, table.shared, strict=False):
        marks[f"network {letter}"] = any(row is one for one in rows)
    marks["uncommitted code"] = uncommitted(row.records)
    return (", ".join(mark for mark, on in marks.items() if on),) if any(marks.values()) else NOTHING


def network_notes(table: Table) -> list[Cell]:
    """What the table's marks ``network a``, ``network b``, ... mean: who answers with the same network."""
    return [
        (
            f"network {letter}: ",
            *joined([name(row) for row in rows]),
            " answer with the same trained network.",
        )
        for letter, rows in zip(ascii_lowercase, table.shared, strict=False)
        if any(row is one for row in rows for one in table.rows)
    ]


def joined(parts: list[Cell]) -> Cell:
    """Cells one after the other, with commas between them."""
    return tuple(piece for i, part in enumerate(parts) for piece in ((", ", *part) if i else part))


def duration(seconds: float) -> str:
    """Seconds for people: ``54 s``, ``9 min 54 s``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter_count(count: int) -> str:
    """A count for people: ``640``, ``113 k``, ``2.0 M``."""
    if count >= 999_500:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.0f} k" if count >= 1000 else str(count)
