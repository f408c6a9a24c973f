"""What stands in the cells: names, numbers, marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.configurations import changes
from bench.leaderboard.blocks import NOTHING, Cell, Code
from bench.leaderboard.rows import COLUMNS, ENOUGH_SEEDS, Row
from bench.records import Record

if TYPE_CHECKING:
    from bench.statistics import Interval


def cells(row: Row, ranked_by: str, most_episodes: int) -> dict[str, Cell]:
    """Heading -> cell of a row's line in its table.

    Args:
        row: the row.
        ranked_by: the setting whose ranks are shown.
        most_episodes: how many episodes of that setting other rows answered.
    """
    first, rank = row.first, row.ranks.get(ranked_by)
    notes = (" †" if len(row.records) < ENOUGH_SEEDS else "") + ("" if row.whole else " ‡")
    return {
        "rank": (str(rank),) if rank else NOTHING,
        "method": method(row),
        "backbone": (Code(first.backbone),),
        **{heading: number(row.intervals.get(key), digits) for heading, (key, digits) in COLUMNS.items()},
        "seeds": (f"{len(row.records)}{notes}",),
        "parameters": (parameter_count(first.parameters),),
        "training time": training_time(row.records),
        "date": (f"{max(record.created for record in row.records):%Y-%m-%d}",),
        "marks": _marks(row, ranked_by, most_episodes),
    }


def method(row: Row) -> Cell:
    """A row's name: method and preset."""
    return Code(row.first.method), " (", Code(row.first.preset), ")"


def name(row: Row) -> Cell:
    """A row's name where the rest of its line is not to be seen."""
    changed = changes(row.first)
    return (*method(row), *((", ", Code(changed)) if changed else ()))


def number(interval: Interval | None, digits: int) -> Cell:
    """Percent with the half-width of the interval."""
    if interval is None:
        return NOTHING
    return (f"{100 * interval.value:.{digits}f} ± {100 * interval.half_width:.{digits}f}",)


def training_time(records: list[Record]) -> Cell:
    """The mean over the seeds that were trained."""
    times = [record.timings.train_s for record in records if record.trained]
    return (duration(sum(times) / len(times)),) if times else NOTHING


def _marks(row: Row, ranked_by: str, most_episodes: int) -> Cell:
    first = row.first
    marks: list[Cell] = []
    if first.external_data:
        marks.append(("external data",))
    if first.transductive:
        marks.append(("transductive",))
    if not first.trained:
        marks.append(("no training",))
    if first.weights:
        marks.append(("weights ", Code(first.weights[:8])))
    info = first.episodes.get(ranked_by)
    if info and info.count < most_episodes:
        marks.append((f"first {info.count:,} episodes",))
    if changed := changes(first):
        marks.append(("changed ", Code(changed)))
    return joined(marks) or NOTHING


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
