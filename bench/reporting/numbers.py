"""Formats numbers: percent with intervals, durations, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.records.store import Metric
from bench.reporting.blocks import NOTHING, Cell, Number

if TYPE_CHECKING:
    from bench.statistics import Interval


def number(interval: Interval | Metric | None, digits: int = 2) -> Cell:
    """Percent ± the distance to the interval's farther end."""
    return NOTHING if interval is None else percent(interval.value, interval.low, interval.high, digits)


def percent(value: float, low: float, high: float, digits: int = 2) -> Number:
    """``73.21 ± 0.18``, of fractions."""
    half = max(value - low, high - value)
    return Number(f"{100 * value:.{digits}f} ± {100 * half:.{digits}f}", value)


def duration(seconds: float) -> str:
    """Duration as text: ``54 s``, ``9 min 54 s``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter_count(count: int) -> str:
    """Count as text: ``640``, ``113 k``, ``2.0 M``."""
    if count >= 999_500:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.0f} k" if count >= 1000 else str(count)
