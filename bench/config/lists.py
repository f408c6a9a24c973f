"""Lists of names from flags and files, and the ``key=value`` texts of ``--set``."""

from __future__ import annotations

import re
from typing import Any

from bench.common.errors import UserError, one_of
from bench.data.augmentation import AUGMENTATIONS, usual

OTHER_MEASUREMENTS = ("pairs", "triplets", "generalized")
"""Measurements other than few-shot settings; they need base classes."""

MEASURES = ("5w1s", "5w5s", "5w10s", "allw1s", "open5w1s", "open5w5s", *OTHER_MEASUREMENTS)
NONE = "none"
SETTING_NAME = re.compile(r"(open)?[1-9]\d*w[1-9]\d*s([1-9]\d*q)?")  # name of an additional setting


def separated(flag: str, values: list[str] | None) -> list[str]:
    """Repeated flags and comma lists as one list without duplicates.

    Raises:
        UserError: a name is empty.
    """
    parts = [(value, part.strip()) for value in values or [] for part in value.split(",")]
    for value, part in parts:
        if not part:
            raise UserError(flag, value or "''", "names must not be empty")
    return list(dict.fromkeys(part for _, part in parts))


def augmentations(flag: str, value: Any, dataset: str) -> list[str] | None:
    """None if these are the usual ones, so that equal runs are equal."""
    names = (
        [] if value in ([], NONE, [NONE]) else _names(flag, value, "must be none or a list, e.g. crop,flip")
    )
    for name in names:
        if name not in AUGMENTATIONS:
            raise UserError(flag, name, f"{one_of(name, AUGMENTATIONS)}, or {NONE} alone")
    return None if names == usual(dataset) else names


def measurements(flag: str, value: Any) -> list[str]:
    """What ``measure`` names: sorted, without duplicates."""
    names = _names(flag, value, "must be a list of names, e.g. 5w1s,pairs")
    for name in names:
        if name not in MEASURES and not SETTING_NAME.fullmatch(name):
            raise UserError(flag, name, one_of(name, MEASURES))
    return names


def _names(flag: str, value: Any, allowed: str) -> list[str]:
    """Names sorted and without duplicates, so that equal runs are equal."""
    names = value.split(",") if isinstance(value, str) else value
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(flag, value, allowed)
    return sorted({name.strip() for name in names})


def read_sets(texts: list[str]) -> dict[str, str]:
    """``--set key=value`` texts as a map.

    Raises:
        UserError: a text does not have that form.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise UserError("--set", text, "must be key=value, e.g. --set learning_rate=0.05")
        found[key.strip()] = value.strip()
    return found
