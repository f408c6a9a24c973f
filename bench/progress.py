"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

REDRAW_S = 0.2
LINE_S = 15.0


class Progress:
    """One piece of work after another, each with rate and time left.

    Args:
        stream: where it is shown; stderr unless told otherwise.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self._bar = None
        self._notes: dict[str, str] = {}
        self.total = self.done = 0

    def start(self, what: str, total: int, unit: str) -> None:
        """Begin `total` units of work."""
        self.stop()
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._notes = {}
        self.started = self.shown = time.monotonic()
        if self.terminal:
            self._bar = _bar(self.stream)
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, rate="", notes="")

    def due(self) -> bool:
        """Whether the next `advance` will draw."""
        if self.done + 1 >= self.total:
            return True
        return time.monotonic() - self.shown >= (REDRAW_S if self.terminal else LINE_S)

    def advance(self, units: int, **notes: str) -> None:
        """Count finished units; `notes` are shown until replaced."""
        self._notes.update(notes)
        due = self.due()
        self.done += units
        if due:
            self._show()

    def stop(self) -> None:
        """End the work in hand."""
        if self._bar is not None:
            self._show()
            self._bar.stop()
            self._bar = None
        self.total = 0

    def _show(self) -> None:
        now = time.monotonic()
        self.shown = now
        rate = self.done / max(now - self.started, 1e-9)
        notes = "  ".join(f"{name} {value}" for name, value in self._notes.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{rate:,.1f} {self.unit}/s", notes=notes)
            return
        left = (self.total - self.done) / max(rate, 1e-9)
        print(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit}  {rate:,.1f}/s  {clock(left)} left  {notes}".rstrip(),
            file=self.stream,
            flush=True,
        )


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(stream: TextIO):  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[notes]}"),
        console=Console(file=stream),
        refresh_per_second=5,
    )
