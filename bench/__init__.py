"""A few-shot image classification benchmark: one command, reproducible comparisons, honest uncertainty."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.reporting.frame import results

__all__ = ["PROTOCOL_VERSION", "__version__", "results"]

PROTOCOL_VERSION = 1
"""Raised whenever a change of splits, episodes or metrics makes old and new numbers incomparable."""

try:
    __version__ = version("fewshot-bench")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_API = {"results": "bench.reporting.frame"}
"""Name -> the module that is imported when it is first used."""


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_API[name]), name)
