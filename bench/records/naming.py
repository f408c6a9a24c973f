"""Keys of metrics in a record, of which several parts of the bench know the form.

An array of the npz file has the key of the metric that is computed from it.
"""

import re

UNBALANCED = "novel/unbalanced_pair_accuracy"

JOINED = re.compile(
    r"(?P<join>generalized/(?P<base>[0-9]+)\+(?P<new>[0-9]+)/(?P<shots>[0-9]+)s)/(?P<part>[a-z]+)"
)
"""Accuracy after `new` classes joined `base` classes, from `shots` images each; `part` is one of `JOINT`."""

JOINT = ("novel", "base", "all", "harmonic")
BEFORE = "/0s/base"
"""End of the key of the accuracy on the base classes before any class joins."""


def join(base: int, new: int, shots: int) -> str:
    """Start of the keys of a join, which `JOINED` matches."""
    return f"generalized/{base}+{new}/{shots}s"


def joined_classes(base: int) -> str:
    """Array of the novel classes that join one at a time."""
    return f"generalized/{base}+1/classes"
