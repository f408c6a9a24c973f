"""Names in a record: keys of metrics, and of the arrays in its npz file.

The array of a metric that is a mean of its values has the metric's key.
"""

import re

QUERIES, HITS = "queries", "hits"
"""Under a setting, as ``5w1s/hits``: queries per episode, and correct answers per class of each episode. The
correct answers of each episode are under the setting's name."""

WON, ACCEPTED = "won", "accepted"
"""Under an open-set setting: won pairs of scores, and accepted queries per class, of each episode."""

PAIR_SCORES, TRIPLETS_WON = "pair_scores", "triplets_won"
"""Under a part, as ``novel/pair_scores``: similarities; and 2 per correct triplet, 1 per tie, else 0."""

CURVE = "curve"
"""Step and value of a curve of the training are under it, as ``curve/accuracy``."""

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
