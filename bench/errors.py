"""Mistakes the user can mend: one line on stderr, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    Args:
        flag: where the value came from, e.g. ``--split`` or ``config.yaml: steps``.
        value: what was given.
        allowed: what would have been accepted, as a plain sentence fragment.
    """

    def __init__(self, flag: str, value: object, allowed: str) -> None:
        self.flag, self.value, self.allowed = flag, value, allowed
        super().__init__(" ".join(f"{flag} {value}: {allowed}".split()))


def one_of(value: object, allowed: Iterable[str]) -> str:
    """The sentence that lists the allowed names, the nearest one first if there is a near one."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"
