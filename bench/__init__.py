"""A few-shot image classification benchmark: one command, reproducible comparisons, honest uncertainty."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api.encoders import evaluate
    from bench.api.episodes import Episodes
    from bench.api.runs import run
    from bench.reporting.frame import results
    from bench.serving.predictor import load

__all__ = ["PROTOCOL_VERSION", "Episodes", "__version__", "evaluate", "load", "results", "run"]

PROTOCOL_VERSION = 1
"""Raised when a change of splits, episodes or metrics makes old and new numbers incomparable."""

try:
    __version__ = version("fewshot-bench")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

_API = {
    "Episodes": "bench.api.episodes",
    "evaluate": "bench.api.encoders",
    "load": "bench.serving.predictor",
    "results": "bench.reporting.frame",
}
"""Name -> module, imported at first use. `run` is the package `bench.run`, which can be called."""


def __getattr__(name: str) -> Any:
    if name == "run":
        return importlib.import_module("bench.run")
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_API[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
