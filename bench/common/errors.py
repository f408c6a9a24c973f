"""Usage errors: one line on stderr, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST_VALUE = 200
MOST_NAMES = 40

# A YAML file of a few lines can hold a list that takes more memory to write out than there is.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, LONGEST_VALUE


class UserError(Exception):
    """An error that the user can fix.

    Args:
        flag: the source of the value, e.g. ``--split`` or ``config.yaml: steps``.
        value: the given value; the empty string if none was given.
        allowed: what is accepted, as a sentence fragment.
    """

    def __init__(self, flag: str, value: object, allowed: str) -> None:
        self.flag, self.value, self.allowed = flag, value, allowed
        given = one_line(_text(value))
        if len(given) > LONGEST_VALUE:
            given = f"{given[:LONGEST_VALUE]}..."
        super().__init__(f"{one_line(f'{flag} {given}')}: {one_line(allowed)}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        """For pickle, which otherwise knows only the message."""
        return UserError, (self.flag, _text(self.value), self.allowed)


def with_extra(name: str) -> str:
    """How to install an extra of the package, as a sentence fragment."""
    in_clone = f'`uv run --extra {name} python -m bench ...` or `pip install ".[{name}]"`'
    return f"install the extra {name} (in a clone: {in_clone})"


def _text(value: object) -> str:
    return _SHORT.repr(value) if isinstance(value, (list, tuple, dict, set)) else str(value)


def printable(text: str, keep: str = "") -> str:
    """Escapes control and direction-changing characters, e.g. ``\\x1b``, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def one_line(text: object) -> str:
    """Text in one line, with control characters escaped."""
    return printable(" ".join(str(text).split()))


def reason_of(error: Exception) -> str:
    """The text of an exception in one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def one_of(value: object, allowed: Iterable[str]) -> str:
    """Sentence that lists the allowed names, after the nearest one if any is near."""
    names = [str(name) for name in allowed]
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(_text(value).lower(), lowered, n=1, cutoff=0.5)
    hint = f"did you mean {lowered[near[0]]}? " if near else ""
    more = ", ..." if len(names) > MOST_NAMES else ""
    return f"{hint}allowed: {', '.join(names[:MOST_NAMES])}{more}"
