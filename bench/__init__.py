"""A few-shot image classification benchmark: one command, reproducible comparisons, honest uncertainty."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.reporting.frame import results

__all__ = ["PROTOCOL_VERSION", "__version__", "results"]

PROTOCOL_VERSION = 1
"""Raised when a change of splits, episodes or metrics makes old and new numbers incomparable."""

try:
    __version__ = version("fewshot-bench")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

_API = {"results": "bench.reporting.frame"}
"""Name -> module, imported at first use."""


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_API[name]), name)
