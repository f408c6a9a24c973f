"""One run, or a grid of runs: prepare, train, evaluate, record, and keep the model.

Imports `training`, `evaluation`, `records` and everything below them; `reporting` and `cli` import it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`bench.run(...)` is a function of the Python API, and `bench.run` is this package."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """See `bench.api.runs.run`."""
        return importlib.import_module("bench.api.runs").run(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
