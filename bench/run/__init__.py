"""One run, or a grid of runs: prepare, train, evaluate, record, and keep the model.

Imports `training`, `evaluation`, `records` and everything below them; `serving` and all above it import it.
Only a call of `bench.run(...)` climbs: it imports `bench.api.runs` by name, which import-linter does not see.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`bench.run(...)` is a function of the Python API, and `bench.run` is this package."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """See `bench.api.runs.run`."""
        return _function()(*arguments, **settings)

    # A notebook's help and completion read these.
    __signature__ = property(lambda self: inspect.signature(_function()))
    __doc__ = property(lambda self: _function().__doc__)


def _function() -> Any:
    return importlib.import_module("bench.api.runs").run


sys.modules[__name__].__class__ = _Callable
