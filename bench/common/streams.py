"""Messages on stderr; standard streams that are closed, or whose reader leaves, or whose disk is full."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bench.common.errors import one_line, printable


def say(message: object) -> None:
    """Print a message to stderr in one line; names in it may contain control characters."""
    print(one_line(message), file=sys.stderr, flush=True)


def say_lines(text: str) -> None:
    """As `say`, but line breaks and spaces stay."""
    print(printable(text, "\n"), file=sys.stderr, flush=True)


@contextmanager
def without_logs() -> Iterator[None]:
    """Silence the logs of a library whose errors raise exceptions anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class Tolerant:
    """A text stream that swallows failed writes, because nobody reads them: the work goes on.

    Args:
        stream: None for a stream that was closed when Python started.

    Attributes:
        failed: the first error; nothing is written after it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # Opened even if unused: the next file would get the number of the closed stream, and be written to.
        self.stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        self.failed: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write text, or forget it."""
        if self.failed is None:
            try:
                return self.stream.write(text)
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or forget it."""
        if self.failed is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        if isinstance(error, ValueError) and not self.stream.closed:
            raise error
        self.failed = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
