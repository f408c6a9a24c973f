"""Progress on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from bench.common.errors import one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

REDRAW_S = 0.2
LINE_S = 15.0


class Progress:
    """Shows tasks one after another, with rate and remaining time.

    Args:
        stream: by default stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self._bar: Bar | None = None
        self._notes: dict[str, str] = {}
        self.what, self.unit = "", ""
        self.total = self.done = 0

    def start(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a task of `total` units, of which `done` are already finished."""
        self.stop()
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._before = done
        self._notes = {}
        self.started = self.shown = time.monotonic()
        if self.terminal:
            self._bar = _bar(self.stream)
            self._task = self._bar.add_task(one_line(what), total=total, completed=done, rate="", notes="")
            self._bar.start()

    def due(self, units: int = 1) -> bool:
        """Whether `advance` by this many units will draw."""
        if self.done + units >= self.total:
            return True
        return time.monotonic() - self.shown >= (REDRAW_S if self.terminal else LINE_S)

    def advance(self, units: int, **notes: str) -> None:
        """Count finished units; show `notes` until they are replaced."""
        self._notes.update(notes)
        due = self.due(units)
        self.done += units
        if due:
            self._show()

    def stop(self) -> None:
        """End the current task, finished or not, and restore the terminal."""
        if self._bar is not None:
            self._show()
            self._bar.stop()
            self._bar = None
        self.what, self.total = "", 0

    def _show(self) -> None:
        now = time.monotonic()
        self.shown = now
        seconds = now - self.started
        rate = (self.done - self._before) / max(seconds, 1e-9)
        notes = "  ".join(f"{name} {value}" for name, value in self._notes.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{rate:,.1f} {self.unit}/s", notes=notes)
            return
        left = (self.total - self.done) / max(rate, 1e-9)
        when = f"{clock(left)} left" if self.done < self.total else f"in {clock(seconds)}"
        done = f"{self.done:,}/{self.total:,} {self.unit}"
        line = f"{one_line(self.what)}: {done}  {rate:,.1f}/s  {when}  {notes}"
        print(line.rstrip(), file=self.stream, flush=True)


@contextmanager
def shown() -> Iterator[Callable[[str, int, int], None]]:
    """The (what, done, total) callback of the data sources, shown on stderr."""
    progress = Progress()

    def show(what: str, done: int, total: int) -> None:
        if (progress.what, progress.total) != (what, total):
            progress.start(what, total, "items")
        progress.advance(done - progress.done)

    try:
        yield show
    finally:
        progress.stop()


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[notes]}", markup=False),
        console=Console(file=stream),
        refresh_per_second=5,
        redirect_stdout=False,  # the bar is on stderr; results stay on stdout
    )
