"""Progress on stderr: a bar in a terminal or a notebook, plain lines elsewhere."""

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
NOTEBOOK_S = 0.5
LINE_S = 15.0
WIDTH = 16  # characters of a bar

Report = Callable[[str, int, int], None]
"""Told what is done, how much of it, and how much there is in all."""


class Progress:
    """Shows tasks one after another, with rate and remaining time.

    Args:
        stream: by default stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.notebook = not self.terminal and _is_notebook(self.stream)
        self.interval = REDRAW_S if self.terminal else NOTEBOOK_S if self.notebook else LINE_S
        self._bar: Bar | None = None
        self._drawn = ""  # the line that a notebook shows
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
        elif self.notebook:
            self._show()

    def due(self, units: int = 1) -> bool:
        """Whether `advance` by this many units will draw."""
        if self.done + units >= self.total:
            return True
        return time.monotonic() - self.shown >= self.interval

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
        if self._drawn:
            if self.done < self.total:
                self._show()
            print(file=self.stream, flush=True)
            self._drawn = ""
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
        when = f"in {clock(seconds)}" if self.done >= self.total else ""
        if not when and rate:
            when = f"{clock((self.total - self.done) / rate)} left"
        done = f"{self.done:,}/{self.total:,} {self.unit}"
        line = f"{one_line(self.what)}: {done}  {rate:,.1f}/s  {when}  {notes}"
        if self.notebook:
            bar = "█" * (WIDTH * self.done // max(self.total, 1))
            drawn = f"{bar:░<{WIDTH}} {line}".rstrip()
            print(f"\r{drawn:<{len(self._drawn)}}", end="", file=self.stream, flush=True)
            self._drawn = drawn
        else:
            print(line.rstrip(), file=self.stream, flush=True)


@contextmanager
def shown() -> Iterator[Report]:
    """A callback whose reports are shown on stderr."""
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


def _is_notebook(stream: TextIO) -> bool:
    """Whether the kernel of a notebook shows the stream: no terminal, but a line can be redrawn."""
    kernel = sys.modules.get("ipykernel.iostream")
    return kernel is not None and isinstance(stream, kernel.OutStream)


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=WIDTH),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[notes]}", markup=False),
        console=Console(file=stream),
        refresh_per_second=5,
        redirect_stdout=False,  # the bar is on stderr; results stay on stdout
    )
