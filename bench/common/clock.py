"""Wall-clock and processor time."""

from __future__ import annotations

import os
import time
from typing import NamedTuple


class Spent(NamedTuple):
    """Wall-clock seconds, and processor seconds of all threads and of child processes that have ended."""

    seconds: float
    processor_s: float

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]
        return Spent(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(a - b for a, b in zip(self, other, strict=True)))


NOTHING = Spent(0.0, 0.0)


def now() -> Spent:
    """Time since an arbitrary moment; use differences."""
    return Spent(time.monotonic(), sum(os.times()[:4]))
