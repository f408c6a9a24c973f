"""Reads pickles of plain values and numpy arrays without running code in them."""

from __future__ import annotations

import io
import pickle
from typing import IO, Any

import numpy as np


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes in protocol 2 with this; the real `codecs.encode` imports modules by name."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


# Taken from numpy, because their module is numpy.core or numpy._core.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]
_SCALAR = np.int64(0).__reduce__()[0]

ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it requests {module}.{name}, which data files must not use")
        return ALLOWED[module, name]


def loads(data: bytes) -> Any:
    """As `load`."""
    return load(io.BytesIO(data))


def load(file: IO[bytes]) -> Any:
    """The pickled value; strings of Python 2 are read as latin-1.

    Raises:
        OSError: the file cannot be read.
        pickle.UnpicklingError: it requests anything except numpy arrays and plain values, or it is damaged.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except (OSError, pickle.UnpicklingError):
        raise
    # A damaged pickle can raise many types of errors.
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None
